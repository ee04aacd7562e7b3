package imagetest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Push uploads a built image to the registry at base ("http://127.0.0.1:5000")
// as repo:tag. auth, when not nil, is called on every request.
func Push(t testing.TB, client *http.Client, base, repo, tag string, b Built, auth func(*http.Request)) {
	t.Helper()
	p := pusher{t, client, base + "/v2/" + repo, base, auth}
	manifests := map[digest.Digest]string{b.Target.Digest: b.Target.MediaType}
	for d, data := range b.Blobs {
		if bytes.Contains(data, []byte(`"mediaType":"`+ocispec.MediaTypeImageManifest+`","config"`)) {
			manifests[d] = ocispec.MediaTypeImageManifest
			continue
		}
		if d != b.Target.Digest {
			p.blob(d, data)
		}
	}
	for d, mediaType := range manifests {
		if d != b.Target.Digest {
			p.manifest(d.String(), mediaType, b.Blobs[d])
		}
	}
	p.manifest(tag, b.Target.MediaType, b.Blobs[b.Target.Digest])
}

type pusher struct {
	t          testing.TB
	client     *http.Client
	repo, base string
	auth       func(*http.Request)
}

func (p pusher) do(method, url, mediaType string, data []byte) *http.Response {
	p.t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(data))
	must(p.t, err)
	req.Header.Set("Content-Type", mediaType)
	if p.auth != nil {
		p.auth(req)
	}
	resp, err := p.client.Do(req)
	must(p.t, err)
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		p.t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
	return resp
}

func (p pusher) blob(d digest.Digest, data []byte) {
	p.t.Helper()
	at := p.do("POST", p.repo+"/blobs/uploads/", "application/octet-stream", nil).Header.Get("Location")
	if strings.HasPrefix(at, "/") {
		at = p.base + at
	}
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	p.do("PUT", at+sep+"digest="+d.String(), "application/octet-stream", data)
}

func (p pusher) manifest(ref, mediaType string, data []byte) {
	p.t.Helper()
	p.do("PUT", p.repo+"/manifests/"+ref, mediaType, data)
}
