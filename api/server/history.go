package server

import (
	"cmp"
	"net/http"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
)

func (s *server) historyRoutes() {
	s.onStacks("GET /dhow/v1/stacks/{name}/history", read, s.stackHistory)
	s.handle("POST /dhow/v1/stacks/{name}/rollback", s.withNode(s.leading(again, s.withStacks(s.rollbackStack))))
}

func (s *server) stackHistory(w http.ResponseWriter, r *http.Request) error {
	revs, err := s.Stacks.History(r.PathValue("name"))
	if err != nil {
		return err
	}
	out := make([]api.Revision, len(revs))
	for i, rev := range revs {
		out[i] = api.Revision(rev) // fails to compile when they drift apart
	}
	return ok(w, out)
}

// withNode adds to a rollback on which node it was asked for, before it is
// passed on to the one that leads.
func (s *server) withNode(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Cluster == nil || forwarded(r) {
			return next(w, r)
		}
		var req api.RollbackRequest
		if err := readJSON(w, r, &req); err != nil {
			return err
		}
		req.Node = s.Facts.Hostname
		r2, err := withBody(r, req)
		if err != nil {
			return err
		}
		return next(w, r2)
	}
}

func (s *server) rollbackStack(w http.ResponseWriter, r *http.Request) error {
	var req api.RollbackRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.To == 0 {
		return invalid("to: the number of a revision, from 1 on; GET history lists them")
	}
	p, index, err := s.Stacks.Rollback(r.Context(), r.PathValue("name"), cluster.RollbackOptions{
		To: req.To, DryRun: req.DryRun, Grace: req.Grace, Node: s.asked(r, req.Node)})
	if err != nil {
		return err
	}
	return ok(w, api.ApplyResponse{Plan: p, Index: index})
}

// asked is the host name of the node that a person has asked: this one, unless
// another node passed the request on and said its own.
func (s *server) asked(r *http.Request, said string) string {
	if s.Cluster == nil && !forwarded(r) {
		return s.Facts.Hostname
	}
	return cmp.Or(said, s.Facts.Hostname)
}
