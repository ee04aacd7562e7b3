package image

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func ask(t testing.TB, h http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHandler(t *testing.T) {
	s := newStore(t, nil)
	built := imagetest.Build(t, simple("shop/app:1", "x", noise(100<<10)))
	if _, err := s.Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
		t.Fatal(err)
	}
	h := s.Handler()
	target, layer := built.Target.Digest.String(), built.Manifest.Layers[1]
	repo := "/v2/docker.io/shop/app"
	if r := ask(t, h, "GET", "/v2/"); r.StatusCode != 200 || r.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
		t.Errorf("/v2/: %v", r)
	}
	for _, ref := range []string{"1", target, built.ID()} {
		r := ask(t, h, "GET", repo+"/manifests/"+ref)
		if r.StatusCode != 200 || r.Header.Get("Docker-Content-Digest") != target || r.Header.Get("Content-Type") != built.Target.MediaType || body(t, r) != string(built.Blobs[built.Target.Digest]) {
			t.Errorf("manifest %s: %v", ref, r)
		}
		if r = ask(t, h, "HEAD", repo+"/manifests/"+ref); r.StatusCode != 200 || r.ContentLength != built.Target.Size || body(t, r) != "" {
			t.Errorf("HEAD of manifest %s: %v", ref, r)
		}
	}
	blob := repo + "/blobs/" + layer.Digest.String()
	want := string(built.Blobs[layer.Digest])
	if r := ask(t, h, "GET", blob); r.StatusCode != 200 || body(t, r) != want {
		t.Errorf("blob: %v", r)
	}
	if r := ask(t, h, "HEAD", blob); r.StatusCode != 200 || r.ContentLength != layer.Size {
		t.Errorf("HEAD of blob: %v", r)
	}
	if r := ask(t, h, "GET", blob, "Range", "bytes=1000-1999"); r.StatusCode != 206 || body(t, r) != want[1000:2000] {
		t.Errorf("range: %v", r)
	}
	for path, status := range map[string]int{
		repo + "/manifests/2": 404, "/v2/docker.io/other/manifests/1": 404, repo + "/manifests/sha256:" + strings.Repeat("0", 64): 404,
		repo + "/blobs/sha256:" + strings.Repeat("0", 64): 404, repo + "/blobs/../../etc/passwd": 400, repo + "/tags/list": 404, "/v1/": 404,
	} {
		r := ask(t, h, "GET", path)
		var e struct {
			Errors []struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body(t, r)), &e); r.StatusCode != status || err != nil || len(e.Errors) != 1 || e.Errors[0].Code == "" {
			t.Errorf("%s: %d %+v", path, r.StatusCode, e)
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH"} {
		if r := ask(t, h, method, repo+"/manifests/1"); r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, r.StatusCode)
		}
	}
}

// Of an image with a layer missing nothing is promised; of an index what is here is.
func TestHandlerServesWhatIsComplete(t *testing.T) {
	s := newStore(t, nil)
	reg := newRegistry(t, false)
	arm, host := simple("", "arm"), simple("", "host")
	arm.Arch = "s390x"
	index := imagetest.BuildIndex(t, "", arm, host)
	reg.push(t, "app", "1", index)
	ref := reg.host() + "/app:1"
	if _, err := s.Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	img := get(t, s, ref)
	if len(img.Platforms) != 2 || img.Target != index.Target.Digest.String() {
		t.Errorf("image is for %q, means %s", img.Platforms, img.Target)
	}
	h, repo := s.Handler(), "/v2/"+reg.host()+"/app"
	if r := ask(t, h, "GET", repo+"/manifests/"+img.Target); r.StatusCode != 200 {
		t.Errorf("index: %d", r.StatusCode)
	}
	if r := ask(t, h, "GET", repo+"/manifests/"+img.Manifest); r.StatusCode != 200 {
		t.Errorf("manifest of this platform: %d", r.StatusCode)
	}
	var m struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(index.Blobs[index.Target.Digest], &m); err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		if r := ask(t, h, "GET", repo+"/manifests/"+d.Digest); d.Digest != img.Manifest && r.StatusCode != 404 {
			t.Errorf("manifest of another platform: %d", r.StatusCode)
		}
	}
	ctx := s.context(t.Context())
	vs, err := s.variants(ctx, s.recorded.list[0].Target)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.content.Delete(ctx, vs[0].layers[0].Digest); err != nil {
		t.Fatal(err)
	}
	for _, which := range []string{"1", img.Target, img.Manifest, img.ID} {
		if r := ask(t, h, "GET", repo+"/manifests/"+which); r.StatusCode != 404 {
			t.Errorf("an image without its layer: %d", r.StatusCode)
		}
	}
}

// An image that another node is fetching stays until it is done, then it goes.
func TestServedImageIsNotCollected(t *testing.T) {
	s := newStore(t, nil)
	s.served.keep = time.Hour
	built := imagetest.Build(t, simple("app:1", "x", "y"))
	if _, err := s.Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
		t.Fatal(err)
	}
	h, repo := s.Handler(), "/v2/docker.io/library/app"
	if r := ask(t, h, "GET", repo+"/manifests/1"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	if _, err := s.Remove(t.Context(), "app:1", false, true); err != nil {
		t.Fatal(err)
	}
	for _, l := range built.Manifest.Layers {
		if r := ask(t, h, "GET", repo+"/blobs/"+l.Digest.String()); r.StatusCode != 200 || body(t, r) != string(built.Blobs[l.Digest]) {
			t.Errorf("a layer went away: %d", r.StatusCode)
		}
	}
	if r := ask(t, h, "GET", repo+"/manifests/1"); r.StatusCode != 404 {
		t.Errorf("a removed image is served: %d", r.StatusCode)
	}
	s.served.mu.Lock()
	held := s.served.held[built.Target.Digest]
	s.served.mu.Unlock()
	s.served.release(s, held)
	wantEmpty(t, s)
}

// A node that sends all it can says so, and small things go at once.
func TestBusyHandler(t *testing.T) {
	s := newStore(t, nil)
	built := imagetest.Build(t, simple("app:1", "small", noise(100<<10)))
	if _, err := s.Load(t.Context(), bytes.NewReader(imagetest.ArchiveOf(t, built)), nil); err != nil {
		t.Fatal(err)
	}
	v := &server{store: s, slots: make(chan struct{}, 1), stall: time.Minute}
	v.slots <- struct{}{}
	repo, layers := "/v2/docker.io/library/app/blobs/", built.Manifest.Layers
	if r := ask(t, http.HandlerFunc(v.serve), "GET", repo+layers[1].Digest.String()); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("busy: %v", r)
	}
	for _, path := range []string{repo + layers[0].Digest.String(), repo + built.ID()} {
		if r := ask(t, http.HandlerFunc(v.serve), "GET", path); r.StatusCode != 200 {
			t.Errorf("%s: %v", path, r)
		}
	}
	if r := ask(t, http.HandlerFunc(v.serve), "HEAD", repo+layers[1].Digest.String()); r.StatusCode != 200 {
		t.Errorf("HEAD: %v", r)
	}
	<-v.slots
	if r := ask(t, http.HandlerFunc(v.serve), "GET", repo+layers[1].Digest.String()); r.StatusCode != 200 || len(v.slots) != 0 {
		t.Errorf("free again: %v", r)
	}
}
