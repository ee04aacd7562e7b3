package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
)

// withPins adds to a deployment what only the node knows where a person asks,
// before it is passed on to the one that leads: which images it has, whether it
// has the host paths, and that the project's files are here.
func (s *server) withPins(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster == nil || forwarded(r) {
			return next(w, r)
		}
		var req api.ApplyRequest
		if err := readJSON(w, r, &req); err != nil {
			return err
		}
		req.Pins = cluster.PinLocal(r.Context(), req.Stack, s.Images)
		req.Found = cluster.CheckLocal(req.Stack, s.Host)
		if req.Stack.Home == "" {
			req.Stack.Home = s.Cluster.Self()
		}
		req.Node = s.Facts.Hostname
		r2, err := withBody(r, req)
		if err != nil {
			return fmt.Errorf("stack %s: %w", req.Stack.Name, err)
		}
		return next(w, r2)
	}
}

// withBody is r with another body.
func withBody(r *http.Request, v any) (*http.Request, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	r2 := r.Clone(r.Context())
	r2.Body, r2.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return r2, nil
}

func (s *server) applyStack(w http.ResponseWriter, r *http.Request) error {
	var req api.ApplyRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if name := r.PathValue("name"); req.Stack.Name != name {
		return invalid("stack.name: %q is not the name in the address, %q", req.Stack.Name, name)
	}
	p, index, err := s.Stacks.Deploy(r.Context(), cluster.Deployment{Stack: req.Stack, Options: req.Options, DryRun: req.DryRun, Pins: req.Pins, Found: req.Found, Logins: req.Logins, Node: s.asked(r, req.Node)})
	if err != nil {
		return err
	}
	return ok(w, api.ApplyResponse{Plan: p, Index: index})
}
