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

// withPins adds to a deployment what this node's images pin, on the node where
// a person asks, before it is passed on to the one that leads: images that were
// loaded here are nowhere else.
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
		body, err := json.Marshal(req)
		if err != nil {
			return fmt.Errorf("stack %s: %w", req.Stack.Name, err)
		}
		r2 := r.Clone(r.Context())
		r2.Body, r2.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		return next(w, r2)
	}
}

func (s *server) applyStack(w http.ResponseWriter, r *http.Request) error {
	var req api.ApplyRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if name := r.PathValue("name"); req.Stack.Name != name {
		return invalid("stack.name: %q is not the name in the address, %q", req.Stack.Name, name)
	}
	p, index, err := s.Stacks.Deploy(r.Context(), cluster.Deployment{Stack: req.Stack, Options: req.Options, DryRun: req.DryRun, Pins: req.Pins, Logins: req.Logins})
	if err != nil {
		return err
	}
	return ok(w, api.ApplyResponse{Plan: p, Index: index})
}
