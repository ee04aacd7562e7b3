package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

func (s *server) dhowRoutes() {
	s.handle("GET /dhow/v1/system", s.system)
	s.handle("POST /dhow/v1/containers", s.createFromSpec)
	s.onStacks("GET /dhow/v1/stacks", read, s.listStacks)
	s.onStacks("GET /dhow/v1/stacks/{name}", read, s.getStack)
	s.handle("PUT /dhow/v1/stacks/{name}", s.withPins(s.leading(again, s.withStacks(s.applyStack))))
	s.onStacks("DELETE /dhow/v1/stacks/{name}", again, s.removeStack)
	s.handle("GET /dhow/v1/stacks/{name}/watch", s.watchStack)
	s.onStacks("POST /dhow/v1/stacks/{name}/control", again, s.controlStack)
	s.onStacks("POST /dhow/v1/stacks/{name}/scale", again, s.scaleStack)
	s.historyRoutes()
	s.backupRoutes()
}

func (s *server) onStacks(pattern string, rep repeat, h handler) {
	s.onLeader(pattern, rep, s.withStacks(h))
}

func (s *server) withStacks(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.Stacks == nil {
			return errNoStacks
		}
		return h(w, r)
	}
}

var errNoStacks = notYet("stacks: this daemon manages none")

// createFromSpec makes a container from dhow's own noun, for one-off runs of a service.
func (s *server) createFromSpec(w http.ResponseWriter, r *http.Request) error {
	var req api.CreateRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	id, warnings, err := s.Engine.Create(r.Context(), r.URL.Query().Get("name"), req.Spec)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, api.CreateResponse{ID: id, Warnings: warnings})
	return nil
}

func (s *server) listStacks(w http.ResponseWriter, _ *http.Request) error {
	out := []api.StackStatus{}
	for _, st := range s.Stacks.Stacks() {
		out = append(out, s.toStackStatus(&st))
	}
	return ok(w, out)
}

func (s *server) getStack(w http.ResponseWriter, r *http.Request) error {
	st, err := s.Stacks.Stack(r.PathValue("name"))
	if err != nil {
		return err
	}
	return ok(w, s.toStackStatus(&st))
}

func (s *server) toStackStatus(st *cluster.StackStatus) api.StackStatus {
	out := api.StackStatus{Stack: st.Stack, Services: []api.ServiceStatus{}, Tasks: list(st.Tasks),
		Removing: st.Removing, Index: st.Index, Created: st.Created, Updated: st.Updated}
	for _, svc := range st.Services {
		out.Services = append(out.Services, api.ServiceStatus(svc)) // fails to compile when they drift apart
	}
	out.Nodes = s.nodesOf(st.Tasks)
	out.Several = out.Nodes != nil
	return out
}

// nodesOf are the nodes of some tasks, in a cluster of several.
func (s *server) nodesOf(tasks []stack.Task) map[string]api.StackNode {
	if s.Cluster == nil {
		return nil
	}
	peers := s.Cluster.Peers()
	if len(peers) == 0 {
		return nil
	}
	used := map[string]bool{}
	for i := range tasks {
		used[tasks[i].Node] = true
	}
	out := map[string]api.StackNode{}
	if self := s.Cluster.Self(); used[self] {
		out[self] = api.StackNode{Hostname: s.Facts.Hostname}
	}
	for _, p := range peers {
		if used[p.ID] {
			out[p.ID] = api.StackNode{Hostname: p.Hostname, Down: p.Down}
		}
	}
	return out
}

func (s *server) removeStack(w http.ResponseWriter, r *http.Request) error {
	opt := cluster.RemoveOptions{Volumes: flag(r, "volumes")}
	if names := r.URL.Query().Get("services"); names != "" {
		opt.Services = strings.Split(names, ",")
	}
	if text := r.URL.Query().Get("grace"); text != "" {
		grace, err := time.ParseDuration(text)
		if err != nil || grace < 0 {
			return invalid("grace: %q is not a duration such as 5s", text)
		}
		opt.Grace = &grace
	}
	return noContent(w, s.Stacks.RemoveStack(r.Context(), r.PathValue("name"), opt))
}

func (s *server) controlStack(w http.ResponseWriter, r *http.Request) error {
	var req api.ControlRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	action := cluster.Action(req.Action)
	switch action {
	case cluster.Start, cluster.Stop, cluster.Restart, cluster.Pause, cluster.Unpause, cluster.Remove:
	default:
		return invalid("action: unknown action %q", req.Action)
	}
	return noContent(w, s.Stacks.Control(r.Context(), r.PathValue("name"), action, cluster.ControlOptions{Services: req.Services, Volumes: req.Volumes, Grace: req.Grace}))
}

func (s *server) scaleStack(w http.ResponseWriter, r *http.Request) error {
	var req api.ScaleRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	return noContent(w, s.Stacks.Scale(r.Context(), r.PathValue("name"), req.Counts))
}
