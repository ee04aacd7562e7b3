package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/dhow-project/dhow/runtime"
)

const (
	// servedAtOnce bounds the blobs that a node sends at a time, so that many
	// nodes that start together neither starve each other nor the node: the
	// others are told to come back, or to ask a node that is done meanwhile.
	servedAtOnce = 12
	// smallBlob is sent without waiting: a config, not a layer.
	smallBlob = 64 << 10
	// sendStall ends a transfer whose reader has gone silent.
	sendStall = 30 * time.Second
)

// Handler serves the images of this store to other nodes, read only, below
// /v2/ as the OCI distribution specification says: manifests by tag and digest,
// blobs with ranges. Names are whole ("docker.io/library/redis"). Beyond the
// specification a manifest may be asked for by the image's ID, the digest of its
// config; Docker-Content-Digest tells its own. Only what is here completely is
// served. A node that is busy answers 503 with Retry-After.
//
// Who may ask is for the caller to check.
func (s *Store) Handler() http.Handler {
	h := &server{store: s, slots: make(chan struct{}, servedAtOnce), stall: sendStall}
	return http.HandlerFunc(h.serve)
}

type server struct {
	store *Store
	slots chan struct{}
	stall time.Duration
}

// problem is an error in the specification's form.
type problem struct {
	status  int
	code    string
	message string
}

func (p *problem) Error() string { return p.message }

func unknown(code, format string, args ...any) error {
	return &problem{http.StatusNotFound, code, fmt.Sprintf(format, args...)}
}

func (h *server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	err := h.route(w, r)
	if err == nil {
		return
	}
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{http.StatusInternalServerError, "UNKNOWN", err.Error()}
		h.store.log.Warn("serve image", "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`+"\n", p.code, p.message)
}

func (h *server) route(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &problem{http.StatusMethodNotAllowed, "UNSUPPORTED", "images of a node are read only"}
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		return unknown("UNSUPPORTED", "no such path: %s", r.URL.Path)
	}
	if path == "" {
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, "{}\n")
		return err
	}
	if i := strings.LastIndex(path, "/manifests/"); i > 0 {
		return h.manifest(w, r, path[:i], path[i+len("/manifests/"):])
	}
	if i := strings.LastIndex(path, "/blobs/"); i > 0 {
		return h.blob(w, r, path[i+len("/blobs/"):])
	}
	return unknown("UNSUPPORTED", "no such path: %s", r.URL.Path)
}

// manifest sends an index or manifest below which an image is complete, and
// holds it for the requests that follow.
func (h *server) manifest(w http.ResponseWriter, r *http.Request, name, ref string) error {
	s := h.store
	ctx := s.context(r.Context())
	desc, below, err := s.servable(ctx, name, ref)
	if err != nil {
		return err
	}
	for _, v := range below {
		if err := s.served.hold(s, v); err != nil {
			return err
		}
	}
	data, err := content.ReadBlob(ctx, s.content, ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size})
	if errdefs.IsNotFound(err) { // removed a moment ago
		return unknown("MANIFEST_UNKNOWN", "no manifest %s of %s", ref, name)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", desc.MediaType)
	w.Header().Set("Docker-Content-Digest", desc.Digest.String())
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	if r.Method == http.MethodHead {
		return nil
	}
	_, _ = w.Write(data) // a reader that has left needs no answer
	return nil
}

// servable finds what a name and a tag, digest or image ID mean, and the
// complete images below it. They are marked with a problem when there is none.
func (s *Store) servable(ctx context.Context, name, ref string) (ocispec.Descriptor, []*resolved, error) {
	d, err := digest.Parse(ref)
	byDigest := err == nil
	full := ""
	if !byDigest {
		d = ""
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return ocispec.Descriptor{}, nil, unknown("NAME_INVALID", "name %q: %v", name, err)
		}
		full = named.Name() + ":" + ref
	}
	records, err := s.records(ctx)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	for _, rec := range records {
		if !byDigest && rec.Name != full {
			continue
		}
		vs, err := s.variants(ctx, rec.Target)
		if err != nil {
			continue
		}
		if desc, below := match(rec, vs, d); len(below) > 0 {
			if below, err = s.complete(ctx, below); err != nil {
				return ocispec.Descriptor{}, nil, err
			}
			if len(below) > 0 {
				return desc, below, nil
			}
		}
	}
	return ocispec.Descriptor{}, nil, unknown("MANIFEST_UNKNOWN", "no complete image %s of %s is here", ref, name)
}

// match finds what of a record a digest means; "" means its target.
func match(rec images.Image, vs []*resolved, d digest.Digest) (ocispec.Descriptor, []*resolved) {
	if d == "" || rec.Target.Digest == d {
		return rec.Target, vs
	}
	for _, v := range vs {
		if v.manifest.Digest == d || v.id() == d {
			return v.manifest, []*resolved{v}
		}
	}
	return ocispec.Descriptor{}, nil
}

// complete returns those of vs whose layers are all here.
func (s *Store) complete(ctx context.Context, vs []*resolved) ([]*resolved, error) {
	var out []*resolved
	for _, v := range vs {
		whole := true
		for _, l := range v.layers {
			here, err := content.Exists(ctx, s.content, l)
			if err != nil {
				return nil, err
			}
			whole = whole && here
		}
		if whole {
			out = append(out, v)
		}
	}
	return out, nil
}

// blob sends one blob, or a range of it.
func (h *server) blob(w http.ResponseWriter, r *http.Request, ref string) error {
	d, err := digest.Parse(ref)
	if err != nil {
		return &problem{http.StatusBadRequest, "DIGEST_INVALID", fmt.Sprintf("digest %q: %v", ref, err)}
	}
	s := h.store
	ctx := s.context(r.Context())
	ra, err := s.content.ReaderAt(ctx, ocispec.Descriptor{Digest: d})
	if errdefs.IsNotFound(err) {
		return unknown("BLOB_UNKNOWN", "no blob %s is here", d)
	}
	if err != nil {
		return err
	}
	defer ra.Close()
	s.served.touch(d)
	if r.Method == http.MethodGet && ra.Size() > smallBlob {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			return &problem{http.StatusServiceUnavailable, "TOOMANYREQUESTS", runtime.ErrUnavailable.Error() + ": this node is sending to others"}
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", `"`+d.String()+`"`)
	reader := &pacedReader{io.NewSectionReader(ra, 0, ra.Size()), http.NewResponseController(w), h.stall, func() { s.served.touch(d) }}
	http.ServeContent(w, r, "", time.Time{}, reader)
	_ = reader.out.SetWriteDeadline(time.Time{}) // of the next request on this connection
	return nil
}

// pacedReader gives the other side time for each piece rather than for the
// whole, so that one which has fallen silent does not hold a slot.
type pacedReader struct {
	io.ReadSeeker
	out   *http.ResponseController
	stall time.Duration
	touch func()
}

func (p *pacedReader) Read(b []byte) (int, error) {
	_ = p.out.SetWriteDeadline(time.Now().Add(p.stall)) // tests' recorders cannot
	p.touch()
	return p.ReadSeeker.Read(b)
}
