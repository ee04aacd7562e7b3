package server

import (
	"fmt"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/runtime"
)

// server holds what the handlers need.
type server struct {
	Config
	log *slog.Logger
	mux *http.ServeMux

	detach keyStore
	execs  keyStore // of execs on other nodes: the node
}

// handler is an HTTP handler that may fail; the error becomes a JSON body with
// the status that fits it, unless the answer has begun.
type handler func(w http.ResponseWriter, r *http.Request) error

// New returns the handler of the socket.
func New(c Config) http.Handler {
	s := &server{Config: c, log: c.Log, mux: http.NewServeMux()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.containerRoutes()
	s.streamRoutes()
	s.execRoutes()
	s.imageRoutes()
	s.networkRoutes()
	s.volumeRoutes()
	s.systemRoutes()
	s.notYetRoutes()
	s.dhowRoutes()
	s.clusterRoutes()
	return s
}

func (s *server) handle(pattern string, h handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// ServeHTTP strips the version prefix, sets the common headers and dispatches.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := &tracker{ResponseWriter: w}
	defer s.recoverPanic(t, r)
	h := w.Header()
	h.Set("Api-Version", api.DockerVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", goruntime.GOOS)
	h.Set("Server", "dhow/"+s.Facts.Version+" ("+goruntime.GOOS+")")
	r, err := withVersion(r)
	if err == nil && !s.known(r) {
		err = fmt.Errorf("%w: page not found: %s %s", runtime.ErrNotFound, r.Method, r.URL.Path)
	}
	if err != nil {
		s.fail(t, r, err)
		return
	}
	if node := r.Context().Value(forwardedKey{}); node != nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.log.Info("another node passes a request on", "peer", node, "method", r.Method, "path", r.URL.Path)
	}
	if done, err := s.toNode(t, r); done {
		if err != nil {
			s.fail(t, r, err)
		}
		return
	}
	s.mux.ServeHTTP(t, r)
}

// known tells a path without a handler, for which net/http would answer in plain text.
func (s *server) known(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != ""
}

func (s *server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
		panic(p)
	}
	s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	s.fail(w, r, fmt.Errorf("internal error: %v", p))
}

// withVersion returns r without its /v1.NN prefix.
func withVersion(r *http.Request) (*http.Request, error) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v")
	if !ok {
		return r, nil
	}
	version, path, ok := strings.Cut(rest, "/")
	if !ok || !isVersion(version) {
		return r, nil
	}
	if less(version, api.DockerMinVersion) {
		return r, invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, api.DockerMinVersion)
	}
	if less(api.DockerVersion, version) {
		return r, invalid("client version %s is too new. Maximum supported API version is %s", version, api.DockerVersion)
	}
	r2 := r.Clone(withAPI(r.Context(), version))
	r2.URL.Path = "/" + path
	r2.URL.RawPath = ""
	return r2, nil
}

func isVersion(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	_, err1 := strconv.ParseUint(major, 10, 16)
	_, err2 := strconv.ParseUint(minor, 10, 16)
	return ok && err1 == nil && err2 == nil
}

// less compares versions "major.minor".
func less(a, b string) bool {
	amaj, amin := splitVersion(a)
	bmaj, bmin := splitVersion(b)
	return amaj < bmaj || amaj == bmaj && amin < bmin
}

func splitVersion(s string) (major, minor int) {
	a, b, _ := strings.Cut(s, ".")
	major, _ = strconv.Atoi(a)
	minor, _ = strconv.Atoi(b)
	return major, minor
}
