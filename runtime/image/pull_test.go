package image

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPullPlainHTTP(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	img := simple("", "a", "b", "c")
	built := imagetest.Build(t, img)
	reg.push(t, "team/app", "1", built)
	ref := reg.host() + "/team/app:1"
	rec := &recorder{}
	got, err := s.Pull(t.Context(), ref, runtime.PullOptions{Progress: rec.emit})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != built.ID() || !slices.Equal(got.Tags, []string{ref}) || !slices.Equal(got.Digests, []string{reg.host() + "/team/app@" + built.Target.Digest.String()}) {
		t.Errorf("image is %+v", got)
	}
	for status, want := range map[string]int{"Pulling from team/app": 1, "Pulling fs layer": 3, "Download complete": 3, "Pull complete": 3, "Digest: sha256:": 1, "Status: Downloaded newer image for " + ref: 1} {
		if n := rec.count(status); n != want {
			t.Errorf("%q was said %d times, want %d", status, n, want)
		}
	}
	rec = &recorder{}
	blobs := reg.requests("/blobs/")
	if _, err := s.Pull(t.Context(), ref, runtime.PullOptions{Progress: rec.emit}); err != nil {
		t.Fatal(err)
	}
	if rec.count("Already exists") != 3 || rec.count("Status: Image is up to date") != 1 || reg.requests("/blobs/") != blobs {
		t.Errorf("second pull: %d blob requests, %+v", reg.requests("/blobs/")-blobs, rec.all)
	}
	if ls, _ := s.leases.List(s.context(t.Context())); len(ls) > 0 {
		t.Errorf("leases left: %v", ls)
	}
	// By digest, and by tag and digest.
	for _, r := range []string{reg.host() + "/team/app@" + built.Target.Digest.String(), ref + "@" + built.Target.Digest.String()} {
		if _, err := s.Pull(t.Context(), r, runtime.PullOptions{}); err != nil {
			t.Error(err)
		}
		if get(t, s, r).ID != built.ID() {
			t.Errorf("%s is another image", r)
		}
	}
	// Another tag of the same image needs nothing but its manifest.
	reg.push(t, "team/app", "2", built)
	if _, err := s.Pull(t.Context(), reg.host()+"/team/app:2", runtime.PullOptions{}); err != nil {
		t.Error(err)
	}
}

func TestPullTogether(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	reg.push(t, "app", "1", imagetest.Build(t, simple("", "a", "b")))
	reg.push(t, "app", "2", imagetest.Build(t, simple("", "a", "c")))
	var g errgroup.Group
	for i := range 20 {
		g.Go(func() error {
			_, err := s.Pull(t.Context(), fmt.Sprintf("%s/app:%d", reg.host(), i%2+1), runtime.PullOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := reg.requests("GET /v2/app/blobs/"); n != 5 {
		t.Errorf("%d blobs fetched, there are 5", n)
	}
}

func TestPullCredentials(t *testing.T) {
	reg := newRegistry(t, false)
	reg.push(t, "app", "1", imagetest.Build(t, simple("", "a")))
	ref := reg.host() + "/app:1"
	bin := t.TempDir()
	helper := "#!/bin/sh\nread host\n[ \"$host\" = " + reg.host() + " ] || { echo credentials not found in native keychain; exit 1; }\necho '{\"ServerURL\":\"x\",\"Username\":\"ann\",\"Secret\":\"pw\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-fake"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	configs := map[string]string{
		"auths":       fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, reg.host(), base64Auth("ann", "pw")),
		"credHelpers": fmt.Sprintf(`{"credHelpers":{%q:"fake"}}`, reg.host()),
		"credsStore":  `{"credsStore":"fake"}`,
	}
	for _, kind := range []string{"basic", "token"} {
		front := map[string]func(string, string) func(http.ResponseWriter, *http.Request) bool{"basic": basicAuth, "token": tokenAuth}[kind]
		reg.setFront(front("ann", "pw"))
		for name, config := range configs {
			t.Run(kind+" "+name, func(t *testing.T) {
				s := newStore(t, func(c *Config) { c.DockerConfig = dockerConfig(t, config) })
				if _, err := s.Pull(t.Context(), ref, runtime.PullOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		t.Run(kind+" explicit", func(t *testing.T) {
			s := newStore(t, nil)
			_, err := s.Pull(t.Context(), ref, runtime.PullOptions{Auth: &runtime.RegistryAuth{Username: "ann", Password: "pw"}})
			if err != nil {
				t.Error(err)
			}
		})
		t.Run(kind+" wrong", func(t *testing.T) {
			s := newStore(t, nil)
			_, err := s.Pull(t.Context(), ref, runtime.PullOptions{Auth: &runtime.RegistryAuth{Username: "bob", Password: "no"}})
			wantErr(t, err, runtime.ErrForbidden, ref, "as bob", "docker login")
			t.Log(err)
		})
		t.Run(kind+" none", func(t *testing.T) {
			s := newStore(t, nil)
			_, err := s.Pull(t.Context(), ref, runtime.PullOptions{})
			wantErr(t, err, runtime.ErrForbidden, "without credentials", "docker login "+reg.host())
			wantEmpty(t, s)
		})
	}
	t.Run("broken helper", func(t *testing.T) {
		s := newStore(t, func(c *Config) { c.DockerConfig = dockerConfig(t, `{"credsStore":"missing"}`) })
		_, err := s.Pull(t.Context(), ref, runtime.PullOptions{})
		wantErr(t, err, runtime.ErrForbidden, "docker-credential-missing")
		t.Log(err)
	})
	t.Run("identity token", func(t *testing.T) {
		s := newStore(t, nil)
		if _, err := s.Pull(t.Context(), ref, runtime.PullOptions{Auth: &runtime.RegistryAuth{IdentityToken: "refresh"}}); err != nil {
			t.Error(err)
		}
	})
	t.Run("registry token", func(t *testing.T) {
		s := newStore(t, nil)
		if _, err := s.Pull(t.Context(), ref, runtime.PullOptions{Auth: &runtime.RegistryAuth{RegistryToken: "good"}}); err != nil {
			t.Error(err)
		}
	})
}

// The name that httptest's certificate is for.
const tlsHost = "example.com"

func TestPullTLS(t *testing.T) {
	reg := newRegistry(t, true)
	reg.push(t, "app", "1", imagetest.Build(t, simple("", "a")))
	routes := map[string]string{tlsHost + ":443": reg.host(), "wrong.test:443": reg.host()}
	pull := func(t *testing.T, ref string, change func(*Config)) error {
		s := newStore(t, change)
		routed(s, routes)
		_, err := s.Pull(t.Context(), ref, runtime.PullOptions{})
		return err
	}
	t.Run("unknown authority", func(t *testing.T) {
		err := pull(t, tlsHost+"/app:1", nil)
		wantErr(t, err, nil, "/etc/dhow/certs.d/example.com/ca.crt", "unknown authority")
		t.Log(err)
	})
	t.Run("private authority", func(t *testing.T) {
		dir := t.TempDir()
		trust(t, dir, tlsHost, reg)
		if err := pull(t, tlsHost+"/app:1", func(c *Config) { c.CertsDirs = []string{t.TempDir(), dir} }); err != nil {
			t.Error(err)
		}
	})
	t.Run("wrong name", func(t *testing.T) {
		dir := t.TempDir()
		trust(t, dir, "wrong.test", reg)
		err := pull(t, "wrong.test/app:1", func(c *Config) { c.CertsDirs = []string{dir} })
		wantErr(t, err, nil, "wrong.test", "certificate is valid for")
	})
	t.Run("insecure", func(t *testing.T) {
		if err := pull(t, tlsHost+"/app:1", func(c *Config) { c.InsecureRegistries = []string{tlsHost} }); err != nil {
			t.Error(err)
		}
	})
	t.Run("loopback", func(t *testing.T) {
		if err := pull(t, reg.host()+"/app:1", nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("broken certificate", func(t *testing.T) {
		dir := t.TempDir()
		os.MkdirAll(filepath.Join(dir, tlsHost), 0o755)
		os.WriteFile(filepath.Join(dir, tlsHost, "ca.crt"), []byte("nonsense"), 0o644)
		err := pull(t, tlsHost+"/app:1", func(c *Config) { c.CertsDirs = []string{dir} })
		wantErr(t, err, runtime.ErrInvalid, "ca.crt", "PEM")
	})
}

func TestPullMirror(t *testing.T) {
	mirror := newRegistry(t, false)
	mirror.push(t, "library/redis", "7", imagetest.Build(t, simple("", "from the mirror")))
	s := newStore(t, func(c *Config) {
		c.Mirrors = map[string][]string{"docker.io": {"http://127.0.0.1:1", mirror.URL}}
	})
	routed(s, nil)
	img, err := s.Pull(t.Context(), "redis:7", runtime.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(img.Tags, []string{"redis:7"}) {
		t.Errorf("tags %q", img.Tags)
	}
	for _, ref := range []string{"redis:7", "docker.io/redis:7", "docker.io/library/redis:7", img.ID, img.ID[7:], img.ID[7:19], img.Digests[0]} {
		if get(t, s, ref).ID != img.ID {
			t.Errorf("%s is another image", ref)
		}
	}
	_, err = s.Pull(t.Context(), "redis:8", runtime.PullOptions{})
	wantErr(t, err, runtime.ErrNotFound, "redis:8", "no mirror of docker.io", "registry-1.docker.io:443 does not answer")
	t.Log(err)
}

func TestPullRefusals(t *testing.T) {
	reg := newRegistry(t, false)
	reg.push(t, "app", "1", imagetest.Build(t, simple("", "a")))
	arm := simple("", "arm")
	arm.Arch = "arm64"
	reg.push(t, "arm", "1", imagetest.BuildIndex(t, "", arm))
	reg.push(t, "single", "1", imagetest.Build(t, arm))
	s := newStore(t, nil)
	routed(s, nil)
	_, err := s.Pull(t.Context(), reg.host()+"/app:2", runtime.PullOptions{})
	wantErr(t, err, runtime.ErrNotFound, "pull "+reg.host()+"/app:2", "no such image")
	_, err = s.Pull(t.Context(), "registry.test:5000/app:1", runtime.PullOptions{})
	wantErr(t, err, nil, "registry.test:5000", "does not answer", "dhow load")
	t.Log(err)
	_, err = s.Pull(t.Context(), "redis:7", runtime.PullOptions{})
	wantErr(t, err, nil, "docker.io (at registry-1.docker.io:443)")
	t.Log(err)
	_, err = s.Pull(t.Context(), "Not A Name", runtime.PullOptions{})
	wantErr(t, err, runtime.ErrInvalid)
	_, err = s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{Platform: "linux/what/is/this"})
	wantErr(t, err, runtime.ErrInvalid)
	_, err = s.Pull(t.Context(), reg.host()+"/arm:1", runtime.PullOptions{})
	wantErr(t, err, runtime.ErrNotFound, "linux/amd64", "linux/arm64")
	t.Log(err)
	_, err = s.Pull(t.Context(), reg.host()+"/single:1", runtime.PullOptions{Platform: "linux/amd64"})
	wantErr(t, err, runtime.ErrNotFound, "linux/arm64")
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", images.MediaTypeDockerSchema1Manifest)
		w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("1", 64))
		w.Header().Set("Content-Length", "2")
		w.WriteHeader(200)
		return true
	})
	_, err = s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{})
	wantErr(t, err, runtime.ErrInvalid, "schema 1")
	reg.setFront(nil)
	wantEmpty(t, s)
	if img, err := s.Pull(t.Context(), reg.host()+"/arm:1", runtime.PullOptions{Platform: "linux/arm64"}); err != nil || img.Architecture != "arm64" {
		t.Errorf("arm64 asked for: %+v, %v", img, err)
	}
}

func TestPullDamagedLayer(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	built := imagetest.Build(t, simple("", "a", "b"))
	reg.push(t, "app", "1", built)
	layer := built.Manifest.Layers[1]
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, layer.Digest.String()) {
			return false
		}
		data := bytes.Clone(built.Blobs[layer.Digest])
		data[len(data)/2] ^= 1
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
		return true
	})
	_, err := s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{})
	wantErr(t, err, nil, "damaged", "digest")
	t.Log(err)
	wantEmpty(t, s)
	reg.setFront(nil)
	if _, err := s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{}); err != nil {
		t.Errorf("after the damage was repaired: %v", err)
	}
}

// Two names of one image pulled at once, of which one fails for good, do not
// take each other's layers away.
func TestPullSameImageTwice(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	built := imagetest.Build(t, simple("", "a", "b"))
	reg.push(t, "app", "1", built)
	reg.push(t, "bad", "1", built)
	reg.setFront(func(w http.ResponseWriter, r *http.Request) bool {
		bad := strings.Contains(r.URL.Path, "/bad/blobs/")
		if bad {
			w.WriteHeader(http.StatusNotFound)
		}
		return bad
	})
	var g errgroup.Group
	for i := range 6 {
		g.Go(func() error {
			_, err := s.Pull(t.Context(), reg.host()+"/"+[]string{"app", "bad"}[i%2]+":1", runtime.PullOptions{})
			if i%2 == 1 {
				return nil // it may find everything here already
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := s.MountRootfs(t.Context(), "c", built.ID(), mountDir(t)+"/root"); err != nil {
		t.Error(err)
	}
	if err := s.Save(t.Context(), []string{reg.host() + "/app:1"}, io.Discard); err != nil {
		t.Error(err)
	}
}

// A layer whose digest is right and whose content is not what the config says.
func TestPullWrongDiffID(t *testing.T) {
	s, reg := newStore(t, nil), newRegistry(t, false)
	built := imagetest.Build(t, simple("", "a", "b"))
	other := imagetest.Build(t, simple("", "a", "c"))
	built.Manifest.Layers[1] = other.Manifest.Layers[1]
	for d, data := range other.Blobs {
		if d != other.Target.Digest {
			built.Blobs[d] = data
		}
	}
	delete(built.Blobs, built.Target.Digest)
	platform := built.Target.Platform
	built.Target = built.Add(built.Target.MediaType, imagetest.JSON(t, built.Manifest))
	built.Target.Platform = platform
	reg.push(t, "app", "1", built)
	_, err := s.Pull(t.Context(), reg.host()+"/app:1", runtime.PullOptions{})
	wantErr(t, err, nil, "diff id")
	t.Log(err)
	wantEmpty(t, s)
}
