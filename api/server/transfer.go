package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/dhow-project/dhow/runtime"
)

// matchesReference reports whether a name of img matches want, a pattern like
// "redis", "redis:7*" or "registry.example/*/app".
func matchesReference(img *runtime.Image, want string) bool {
	for _, name := range append(append([]string{}, img.Tags...), img.Digests...) {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		if found, err := reference.FamiliarMatch(want, ref); err == nil && found {
			return true
		}
	}
	return false
}

// messages is a stream of JSON messages about a transfer. The headers go out
// with the first one, so that what fails before is a plain error.
type messages struct {
	w    http.ResponseWriter
	mu   sync.Mutex
	out  *coalescer           // guarded by mu; nil until the first message
	last map[string]time.Time // guarded by mu; when each part was last heard of
}

// partInterval is how often the progress of one part is told.
const partInterval = 100 * time.Millisecond

func (m *messages) send(msg any) {
	line, err := json.Marshal(msg)
	if err != nil {
		return // plain data
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out == nil {
		m.w.Header().Set("Content-Type", "application/json")
		m.out = newCoalescer(m.w)
	}
	_, _ = m.out.Write(append(line, '\r', '\n')) // a client that has gone is noticed by the context
}

// progress tells about one part, but the same thing not too often.
func (m *messages) progress(p runtime.Progress) {
	if p.Total > 0 && p.Current < p.Total && !m.due(p.ID+p.Status) {
		return
	}
	m.send(jsonstream.Message{ID: p.ID, Status: p.Status, Progress: &jsonstream.Progress{Current: p.Current, Total: p.Total}})
}

func (m *messages) due(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if now.Sub(m.last[key]) < partInterval {
		return false
	}
	if m.last == nil {
		m.last = map[string]time.Time{}
	}
	m.last[key] = now
	return true
}

// end closes the stream. An error after the first message is a message too.
func (m *messages) end(err error) error {
	m.mu.Lock()
	begun := m.out != nil
	m.mu.Unlock()
	if !begun {
		return err
	}
	if err != nil {
		m.send(struct {
			Error  *jsonstream.Error `json:"errorDetail"`
			Legacy string            `json:"error"`
		}{&jsonstream.Error{Message: err.Error()}, err.Error()})
	}
	_ = m.out.Close() // the client has gone: nobody is left to tell
	return nil
}

func (s *server) pullImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("fromSrc") != "" {
		return notYet("importing a root file system as an image is not offered; load an archive instead")
	}
	ref, err := pullRef(q.Get("fromImage"), q.Get("tag"))
	if err != nil {
		return err
	}
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	before := ""
	if img, err := s.Images.Image(r.Context(), ref, q.Get("platform")); err == nil { // a new image has no before
		before = img.ID
	}
	m := &messages{w: w}
	name, version := splitRef(ref)
	started := sync.OnceFunc(func() { m.send(jsonstream.Message{Status: "Pulling from " + name, ID: version}) })
	img, err := s.Images.Pull(r.Context(), ref, runtime.PullOptions{Platform: q.Get("platform"), Auth: auth, Progress: func(p runtime.Progress) {
		started()
		m.progress(p)
	}})
	if err != nil {
		return m.end(err)
	}
	started()
	for _, d := range img.Digests {
		if _, digest, found := strings.Cut(d, "@"); found {
			m.send(jsonstream.Message{Status: "Digest: " + digest})
			break
		}
	}
	if img.ID == before {
		m.send(jsonstream.Message{Status: "Status: Image is up to date for " + ref})
	} else {
		m.send(jsonstream.Message{Status: "Status: Downloaded newer image for " + ref})
	}
	return m.end(nil)
}

// pullRef joins the two parameters of a pull.
func pullRef(image, tag string) (string, error) {
	if image == "" {
		return "", invalid("fromImage: an image is required")
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", invalid("invalid reference format: %v", err)
	}
	switch {
	case strings.Contains(tag, ":"):
		image = reference.FamiliarName(ref) + "@" + tag
	case tag != "":
		image = reference.FamiliarName(ref) + ":" + tag
	case reference.IsNameOnly(ref):
		return "", invalid("tag: pulling all tags of %s is not supported; name one", image)
	}
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return "", invalid("invalid reference format: %v", err)
	}
	return image, nil
}

// splitRef is "library/redis" and "7" of "redis:7".
func splitRef(image string) (name, version string) {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image, ""
	}
	switch v := ref.(type) {
	case reference.Digested:
		version = v.Digest().String()
	case reference.Tagged:
		version = v.Tag()
	}
	return reference.Path(ref), version
}

// registryAuth reads the credentials of a request; nil when it has none.
func registryAuth(r *http.Request) (*runtime.RegistryAuth, error) {
	header := r.Header.Get(registry.AuthHeader)
	if header == "" {
		return nil, nil
	}
	a, err := authconfig.Decode(header)
	if err != nil {
		return nil, nil //nolint:nilerr // Docker takes credentials that cannot be read as none
	}
	if *a == (registry.AuthConfig{}) || a.Username == "" && a.IdentityToken == "" && a.RegistryToken == "" {
		return nil, nil
	}
	return &runtime.RegistryAuth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
}

func (s *server) loadImages(w http.ResponseWriter, r *http.Request) error {
	m := &messages{w: w}
	progress := m.progress
	if flag(r, "quiet") {
		progress = nil
	}
	names, err := s.Images.Load(r.Context(), r.Body, progress)
	if err != nil {
		return m.end(err)
	}
	for _, name := range names {
		what := "Loaded image: "
		if strings.HasPrefix(name, "sha256:") {
			what = "Loaded image ID: "
		}
		m.send(jsonstream.Message{Stream: what + name + "\n"})
	}
	return m.end(nil)
}

func (s *server) saveImages(w http.ResponseWriter, r *http.Request) error {
	names := r.URL.Query()["names"]
	if len(names) == 1 {
		names = strings.Split(names[0], ",")
	}
	if len(names) == 0 || names[0] == "" {
		return invalid("missing parameter: names")
	}
	return s.save(w, r, names)
}

func (s *server) save(w http.ResponseWriter, r *http.Request, names []string) error {
	for _, name := range names { // before the answer begins
		if _, err := s.Images.Image(r.Context(), name, ""); err != nil {
			return noSuchImage(name, err)
		}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return s.Images.Save(r.Context(), names, w)
}

// login checks credentials with the registry, for docker login.
func (s *server) login(w http.ResponseWriter, r *http.Request) error {
	var req registry.AuthConfig
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	a, can := s.Images.(authenticator)
	if !can {
		return notYet("checking credentials with a registry is not offered: write them into ~/.docker/config.json, pulls send them along")
	}
	host := strings.TrimPrefix(strings.TrimPrefix(req.ServerAddress, "https://"), "http://")
	host, _, _ = strings.Cut(path.Clean("/" + host)[1:], "/")
	token, err := a.Login(r.Context(), host, runtime.RegistryAuth{Username: req.Username, Password: req.Password, IdentityToken: req.IdentityToken})
	if errors.Is(err, runtime.ErrForbidden) {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"message": err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	return ok(w, registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token})
}
