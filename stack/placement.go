package stack

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// ScopeLabel on a volume says whom it belongs to. With ScopeNode each node has
// one of its own; without, the one node where it was first used.
const (
	ScopeLabel = "dhow.scope"
	ScopeNode  = "node"
)

// networkTypes are file systems that are the same from every node.
var networkTypes = []string{"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "lustre", "beegfs"}

// OneNode says whether the volume's data is on one node only, so that all
// tasks that use it have to run there.
func (v Volume) OneNode() bool {
	return v.Labels[ScopeLabel] != ScopeNode && !slices.Contains(networkTypes, v.DriverOpts["type"])
}

// LocalVolumes are the volumes of the stack that pin the tasks of a service to
// the node that has them, by name, without repeats. A service with a task on
// each node has a volume on each.
func (s Stack) LocalVolumes(svc *Service) []Volume {
	if svc.Mode == Global || svc.Mode == GlobalJob {
		return nil
	}
	var out []Volume
	for _, m := range svc.Container.Mounts {
		v, ok := s.Volumes[m.Source]
		if m.Type == MountVolume && ok && v.OneNode() && !slices.ContainsFunc(out, func(o Volume) bool { return o.Name == v.Name }) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// HomeOf is the node that the tasks of a service cannot leave, because they
// mount files of the project's directory: Home. It is "" when they do not, when
// the service has a task on each node, or when its own constraints say where it goes.
func (s Stack) HomeOf(svc *Service) string {
	if s.Home == "" || s.WorkingDir == "" || svc.Mode == Global || svc.Mode == GlobalJob {
		return ""
	}
	for _, expr := range svc.Deploy.Constraints {
		if c, err := ParseConstraint(expr); err == nil && !c.OfService() {
			return ""
		}
	}
	for _, m := range svc.Container.Mounts {
		if m.Type != MountBind {
			continue
		}
		if rel, err := filepath.Rel(s.WorkingDir, m.Source); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return s.Home
		}
	}
	return ""
}

// placement checks constraints and preferences.
func (v *validator) placement(path string, svc Service) {
	for i, expr := range svc.Deploy.Constraints {
		at := fmt.Sprintf("%s.constraints[%d]", path, i)
		c, err := ParseConstraint(expr)
		if err != nil {
			v.add(at, "%s", err)
			continue
		}
		for _, name := range c.Values {
			if c.OfService() && !strings.Contains(name, "/") {
				v.needService(at, name)
			}
		}
	}
	for i, text := range svc.Deploy.Preferences {
		if _, err := ParseSpread(text); err != nil {
			v.add(fmt.Sprintf("%s.preferences[%d].spread", path, i), "%s", err)
		}
	}
	if svc.Deploy.MaxReplicasPerNode < 0 {
		v.add(path+".max_replicas_per_node", "%d is less than 0", svc.Deploy.MaxReplicasPerNode)
	}
}
