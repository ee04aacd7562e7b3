package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func (s *server) containerRoutes() {
	s.handle("GET /containers/json", s.listContainers)
	s.handle("POST /containers/create", s.createContainer)
	s.handle("POST /containers/prune", s.pruneContainers)
	s.onContainer("GET /containers/{id}/json", s.inspectContainer)
	s.onContainer("GET /containers/{id}/top", s.top)
	s.onContainer("GET /containers/{id}/changes", s.changes)
	s.onContainer("POST /containers/{id}/start", s.start)
	s.onContainer("POST /containers/{id}/stop", s.stop)
	s.onContainer("POST /containers/{id}/restart", s.restart)
	s.onContainer("POST /containers/{id}/kill", s.kill)
	s.onContainer("POST /containers/{id}/pause", s.pause)
	s.onContainer("POST /containers/{id}/unpause", s.unpause)
	s.onContainer("POST /containers/{id}/rename", s.rename)
	s.onContainer("POST /containers/{id}/resize", s.resize)
	s.onContainer("POST /containers/{id}/update", s.update)
	s.onContainer("DELETE /containers/{id}", s.remove)
}

// onContainer wraps handlers of one container, so that an unknown one has
// Docker's words in its error: clients look for them. A container on another
// node is served there.
func (s *server) onContainer(pattern string, h handler) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		ref := r.PathValue("id")
		at, err := s.elsewhere(r, ref)
		if err != nil {
			return err
		}
		if at.node != "" {
			return s.passContainer(w, r, at)
		}
		err = h(w, r)
		if errors.Is(err, runtime.ErrNotFound) {
			if _, miss := s.Engine.Inspect(r.Context(), ref); errors.Is(miss, runtime.ErrNotFound) {
				return notFound("No such container: %s", ref)
			}
		}
		return err
	})
}

func (s *server) createContainer(w http.ResponseWriter, r *http.Request) error {
	var req createRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	platform := r.URL.Query().Get("platform")
	in := surroundings{platform: platform, network: s.Networks.Network}
	if req.Image != "" {
		img, err := s.Images.Image(r.Context(), req.Image, platform)
		if errors.Is(err, runtime.ErrNotFound) { // the words and the status that make clients pull
			return notFound("No such image: %s", withTag(req.Image))
		}
		if err != nil {
			return err
		}
		in.image = img
	}
	spec, warnings, err := toSpec(&req, in)
	if err != nil {
		return err
	}
	id, more, err := s.Engine.Create(r.Context(), strings.TrimPrefix(r.URL.Query().Get("name"), "/"), spec)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, container.CreateResponse{ID: id, Warnings: list(append(warnings, more...))})
	return nil
}

func (s *server) inspectContainer(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Engine.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	out := toInspect(c)
	if flag(r, "size") {
		rw, root, err := s.sizes(r.Context(), c)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &rw, &root
	}
	return ok(w, out)
}

func (s *server) start(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("id")
	if err := s.Engine.Start(r.Context(), ref); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) stop(w http.ResponseWriter, r *http.Request) error {
	grace, err := graceParam(r)
	if err != nil {
		return err
	}
	return noContent(w, s.Engine.Stop(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal"), grace))
}

func (s *server) restart(w http.ResponseWriter, r *http.Request) error {
	grace, err := graceParam(r)
	if err != nil {
		return err
	}
	return noContent(w, s.Engine.Restart(r.Context(), r.PathValue("id"), r.URL.Query().Get("signal"), grace))
}

func (s *server) kill(w http.ResponseWriter, r *http.Request) error {
	signal := r.URL.Query().Get("signal")
	return noContent(w, s.Engine.Kill(r.Context(), r.PathValue("id"), first(signal, "SIGKILL")))
}

func (s *server) pause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.Engine.Pause(r.Context(), r.PathValue("id")))
}

func (s *server) unpause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.Engine.Unpause(r.Context(), r.PathValue("id")))
}

func (s *server) rename(w http.ResponseWriter, r *http.Request) error {
	name := strings.TrimPrefix(r.URL.Query().Get("name"), "/")
	if name == "" {
		return invalid("neither old nor new names may be empty")
	}
	return noContent(w, s.Engine.Rename(r.Context(), r.PathValue("id"), name))
}

func (s *server) resize(w http.ResponseWriter, r *http.Request) error {
	rows, cols, err := sizeParams(r)
	if err != nil {
		return err
	}
	if err := s.Engine.Resize(r.Context(), r.PathValue("id"), rows, cols); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) error {
	if flag(r, "link") {
		return notYet("removing a link: links are not offered")
	}
	return noContent(w, s.Engine.Remove(r.Context(), r.PathValue("id"), runtime.RemoveOptions{Force: flag(r, "force"), Volumes: flag(r, "v")}))
}

func (s *server) top(w http.ResponseWriter, r *http.Request) error {
	args := strings.Fields(r.URL.Query().Get("ps_args"))
	titles, rows, err := s.Engine.Top(r.Context(), r.PathValue("id"), args)
	if err != nil {
		return err
	}
	return ok(w, container.TopResponse{Titles: list(titles), Processes: list(rows)})
}

func (s *server) update(w http.ResponseWriter, r *http.Request) error {
	var req updateRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if err := checkRules(req, updateRule); err != nil {
		return err
	}
	var restart *stack.RestartPolicy
	if req.RestartPolicy.Name != "" {
		p, err := toRestart(req.RestartPolicy)
		if err != nil {
			return err
		}
		restart = &p
	}
	if err := s.Engine.Update(r.Context(), r.PathValue("id"), toResources(&req.Resources), restart); err != nil {
		return err
	}
	return ok(w, container.UpdateResponse{Warnings: []string{}})
}

func (s *server) pruneContainers(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	all, err := s.Engine.List(r.Context(), runtime.Filter{All: true})
	if err != nil {
		return err
	}
	report := container.PruneReport{ContainersDeleted: []string{}}
	for i := range all {
		c := &all[i]
		stopped := c.State.Status == runtime.Exited || c.State.Status == runtime.Created || c.State.Status == runtime.Dead
		if !stopped || !f.labels(c.Spec.Labels) || !until.IsZero() && c.Created.After(until) {
			continue
		}
		rw, _, err := s.sizes(r.Context(), c)
		if err != nil {
			return err
		}
		err = s.Engine.Remove(r.Context(), c.ID, runtime.RemoveOptions{})
		if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrConflict) {
			continue // removed or started by somebody else meanwhile
		}
		if err != nil {
			return err
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		report.SpaceReclaimed += uint64(max(rw, 0))
	}
	return ok(w, report)
}

// until reads the until filter: a time, or a duration before now.
func (f filters) until(now time.Time) (time.Time, error) {
	values := f["until"]
	if len(values) == 0 {
		return time.Time{}, nil
	}
	if len(values) > 1 {
		return time.Time{}, invalid("more than one until filter specified")
	}
	if d, err := time.ParseDuration(values[0]); err == nil {
		return now.Add(-d), nil
	}
	return timeParam(&http.Request{URL: &url.URL{RawQuery: url.Values{"until": values}.Encode()}}, "until")
}
