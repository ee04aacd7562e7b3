package server

import (
	"errors"
	"net/http"

	"github.com/moby/moby/api/types/volume"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
)

func (s *server) volumeRoutes() {
	s.handle("GET /volumes", s.listVolumes)
	s.handle("POST /volumes/create", s.createVolume)
	s.handle("POST /volumes/prune", s.pruneVolumes)
	s.handle("GET /volumes/{name}", s.inspectVolume)
	s.handle("DELETE /volumes/{name}", s.removeVolume)
	s.onStacks("DELETE /dhow/v1/volumes/{name}/node", again, s.forgetVolume)
	s.handle("PUT /volumes/{name}", func(http.ResponseWriter, *http.Request) error {
		return notYet("updating a volume: there are no cluster volumes")
	})
}

func toVolume(v volumes.Volume) volume.Volume {
	out := volume.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, Scope: "local",
		Labels: v.Labels, Options: v.Options}
	if !v.Created.IsZero() {
		out.CreatedAt = stamp(v.Created)
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	return out
}

func noSuchVolume(name string, err error) error {
	if errors.Is(err, runtime.ErrNotFound) {
		return notFound("get %s: no such volume", name)
	}
	return err
}

func (s *server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, isDangling, err := f.truthOf("dangling")
	if err != nil {
		return err
	}
	all, err := s.Volumes.List(r.Context())
	if err != nil {
		return err
	}
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	for _, v := range all {
		if isDangling && dangling != (len(s.Volumes.Users(v.Name)) == 0) {
			continue
		}
		if f.pattern("name", v.Name) && f.exact("driver", v.Driver) && f.labels(v.Labels) {
			out.Volumes = append(out.Volumes, toVolume(v))
		}
	}
	return ok(w, out)
}

func (s *server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var req volume.CreateRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil {
		return invalid("ClusterVolumeSpec is not supported: there are no cluster volumes")
	}
	v, err := s.Volumes.Create(r.Context(), volumes.Spec{Name: req.Name, Driver: req.Driver, Options: req.DriverOpts, Labels: req.Labels})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, toVolume(v))
	return nil
}

func (s *server) inspectVolume(w http.ResponseWriter, r *http.Request) error {
	if node, err := s.volumeAway(r, r.PathValue("name")); err != nil {
		return err
	} else if node != "" {
		return s.pass(w, r, node, passing{})
	}
	v, err := s.Volumes.Inspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return noSuchVolume(r.PathValue("name"), err)
	}
	return ok(w, toVolume(v))
}

func (s *server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	name, force := r.PathValue("name"), flag(r, "force")
	if flag(r, "everywhere") && !s.alone(r) {
		return s.removeVolumeEverywhere(w, r, name, force)
	}
	if done, err := s.removeVolumeAway(w, r, name, force); done {
		return err
	}
	err := s.Volumes.Remove(r.Context(), name, force)
	if errors.Is(err, runtime.ErrNotFound) && force {
		err = nil // as in Docker: it is gone
	}
	if err == nil && !forwarded(r) {
		err = s.forget(r.Context(), name)
	}
	return noContent(w, noSuchVolume(name, err))
}

func (s *server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "all", "label", "label!")
	if err != nil {
		return err
	}
	if len(f["label!"]) > 0 {
		return notYet("pruning volumes by the absence of a label")
	}
	all, given, err := f.truthOf("all")
	if err != nil {
		return err
	}
	if !given && olderThan(r, "1.42") {
		all = true // before 1.42 named volumes were pruned too
	}
	report, err := s.Volumes.Prune(r.Context(), all, labelMap(f["label"]))
	if err != nil {
		return err
	}
	return ok(w, volume.PruneReport{VolumesDeleted: list(report.Deleted), SpaceReclaimed: uint64(max(report.Reclaimed, 0))})
}
