package cluster

import (
	"fmt"
	"slices"

	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// HostCheck finds what services and volumes need of this machine and would not
// find: host paths, devices. It must not change anything.
type HostCheck interface {
	CheckService(s stack.Service) stack.Problems
	CheckVolume(v stack.Volume) stack.Problems
}

// CheckLocal asks check about all of s; nil without check.
func CheckLocal(s stack.Stack, check HostCheck) *stack.Findings {
	if check == nil {
		return nil
	}
	f := &stack.Findings{Services: map[string]stack.Problems{}, Volumes: map[string]stack.Problems{}}
	for name, sv := range s.Services {
		if found := check.CheckService(sv); len(found) > 0 {
			f.Services[name] = found
		}
	}
	for key, v := range s.Volumes {
		if found := check.CheckVolume(v); len(found) > 0 {
			f.Volumes[key] = found
		}
	}
	return f
}

// preflight refuses what a plan would start or make and the machine where a
// person deploys cannot give. What the plan leaves alone is not asked about: it
// runs. Nor is what may go to another machine: that one's agent finds out, and
// the task goes elsewhere.
func preflight(snap *state.Snapshot, p *plan.Plan, f *stack.Findings) error {
	if f == nil {
		return nil
	}
	var found stack.Problems
	for _, step := range p.Steps {
		switch {
		case step.Action == plan.Remove:
		case step.Kind == plan.Service && goesHome(snap, p.Stack, step.Name):
			found = append(found, f.Services[step.Name]...)
		case step.Kind == plan.Volume && volumeHome(snap, p.Stack, step.Name):
			found = append(found, f.Volumes[step.Name]...)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("stack %s: %w: %w", p.Stack.Name, runtime.ErrInvalid, found)
}

// goesHome reports whether no other node than the stack's home can have tasks of
// a service.
func goesHome(snap *state.Snapshot, s stack.Stack, name string) bool {
	sv, nodes := s.Services[name], snap.Nodes()
	if len(nodes) < 2 || s.Home != "" && s.HomeOf(&sv) == s.Home {
		return true
	}
	fits := slices.DeleteFunc(slices.Clone(nodes), func(n *stack.Node) bool { return schedule.Fits(&sv, n) != "" })
	return len(fits) == 1 && fits[0].ID == s.Home
}

// volumeHome reports whether a volume is made on the stack's home.
func volumeHome(snap *state.Snapshot, s stack.Stack, key string) bool {
	if rec := snap.Volume(s.Volumes[key].Name); rec != nil {
		return rec.Node == s.Home
	}
	for name, sv := range s.Services {
		uses := slices.ContainsFunc(sv.Container.Mounts, func(m stack.Mount) bool {
			return m.Type == stack.MountVolume && m.Source == key
		})
		if uses && !goesHome(snap, s, name) {
			return false
		}
	}
	return true
}

// volumeNames are the volumes of all nodes; nil while it is not known what one has.
func (m *Manager) volumeNames(snap *state.Snapshot) (map[string]bool, error) {
	if m.cfg.Volumes == nil {
		return nil, nil
	}
	names, err := m.cfg.Volumes.VolumeNames()
	if err != nil {
		return nil, err
	}
	for _, v := range snap.Volumes() {
		names[v.Name] = true
	}
	for _, n := range snap.Nodes() {
		if n.ID == m.node {
			continue
		}
		if n.Down || m.cfg.Inventory == nil {
			return nil, nil
		}
		_, volumes, version := m.cfg.Inventory.Inventory(n.ID)
		if version == 0 {
			return nil, nil
		}
		for _, name := range volumes {
			names[name] = true
		}
	}
	return names, nil
}
