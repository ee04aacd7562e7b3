package cluster

import (
	"context"
	"maps"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// localImages finds the images that this node has for the services of s: service to image ID.
func (m *Manager) localImages(ctx context.Context, s stack.Stack) map[string]string {
	found := map[string]string{}
	if m.cfg.Images == nil {
		return found
	}
	seen := map[[2]string]string{}
	for name, sv := range s.Services {
		c := sv.Container
		if c.ImageID != "" || c.Image == "" {
			continue
		}
		ref := [2]string{c.Image, c.Platform}
		id, known := seen[ref]
		if !known {
			if img, err := m.cfg.Images.Image(ctx, c.Image, c.Platform); err == nil { // absent: the agent pulls it
				id = img.ID
			}
			seen[ref] = id
		}
		if id != "" {
			found[name] = id
		}
	}
	return found
}

// pin fixes the image of each service to the bytes that the reference means
// now, so that all its tasks run the same and a newer image of the same name is
// a change. A service whose tasks run that image already stays as it is stored,
// pinned or not.
func pin(s stack.Stack, images map[string]string, snap *state.Snapshot) stack.Stack {
	s.Services = maps.Clone(s.Services)
	for name, id := range images {
		sv := s.Services[name]
		old := snap.Service(s.Name, name)
		if old != nil && old.Spec.Container.ImageID == "" && old.Spec.Container.Image == sv.Container.Image && runsOnly(snap, old, id) {
			continue
		}
		sv.Container.ImageID = id
		s.Services[name] = sv
	}
	return s
}

// runsOnly reports whether no task of a service runs another image.
func runsOnly(snap *state.Snapshot, sv *state.Service, image string) bool {
	for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
		if t.Version == sv.Version && t.Status.ImageID != "" && t.Status.ImageID != image {
			return false
		}
	}
	return true
}
