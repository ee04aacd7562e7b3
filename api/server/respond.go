package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// errNotYet marks what this server does not offer.
var errNotYet = errors.New("not implemented")

type versionKey struct{}

func withAPI(ctx context.Context, version string) context.Context {
	return context.WithValue(ctx, versionKey{}, version)
}

// olderThan reports whether the client asked for an API version before v.
func olderThan(r *http.Request, v string) bool {
	got, ok := r.Context().Value(versionKey{}).(string)
	return ok && less(got, v)
}

// tracker remembers whether the answer has begun.
type tracker struct {
	http.ResponseWriter
	begun bool
}

func (t *tracker) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(p []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// fail answers with err. After the answer has begun nothing more can be said:
// the error is logged, and the connection is cut so that the client notices.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client has gone
	}
	if t, ok := w.(*tracker); ok && t.begun {
		s.log.Warn("answer ended early", "method", r.Method, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	status := statusOf(err)
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	if status == http.StatusInternalServerError {
		s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	var problems stack.Problems
	errors.As(err, &problems)
	writeJSON(w, status, api.Error{Message: wordsOf(err), Problems: problems})
}

// wordsOf are err's words without the sentinel at their end where the HTTP
// status says the same: "port 80 is in use: conflict".
func wordsOf(err error) string {
	msg := err.Error()
	for _, kind := range []error{runtime.ErrConflict, runtime.ErrInvalid, runtime.ErrForbidden, runtime.ErrUnavailable, cluster.ErrInSwarm} {
		if errors.Is(err, kind) {
			msg = strings.TrimSuffix(msg, ": "+kind.Error())
		}
	}
	return msg
}

// statusOf maps an error to an HTTP status.
func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, runtime.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, runtime.ErrConflict), errors.Is(err, runtime.ErrNotRunning):
		return http.StatusConflict
	case errors.Is(err, runtime.ErrNotModified):
		return http.StatusNotModified
	case errors.Is(err, runtime.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, runtime.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, cluster.ErrNotLeader), errors.Is(err, cluster.ErrLeaderLost), errors.Is(err, cluster.ErrUnreachable), errors.Is(err, cluster.ErrInSwarm), errors.Is(err, runtime.ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, errNotYet):
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}

// said is an error with its own words and a sentinel's status.
type said struct {
	msg  string
	kind error
}

func (e *said) Error() string { return e.msg }
func (e *said) Unwrap() error { return e.kind }

func say(kind error, format string, args ...any) error {
	return &said{msg: fmt.Sprintf(format, args...), kind: kind}
}

func invalid(format string, args ...any) error { return say(runtime.ErrInvalid, format, args...) }
func notFound(format string, args ...any) error {
	return say(runtime.ErrNotFound, format, args...)
}
func notYet(format string, args ...any) error { return say(errNotYet, format, args...) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client has gone: nobody is left to tell
}

func ok(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, v)
	return nil
}

func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
