package reconcile

import "github.com/dhow-project/dhow/stack"

// heldByDependents reports whether s must go on because services that depend
// on it and go down too are not down yet. Dependents that stay do not hold it:
// a person who stops one service means that one.
func (r *round) heldByDependents(s *service, removing bool) bool {
	for _, d := range s.dependents {
		if d == s || !d.down() {
			continue
		}
		for _, t := range d.tasks {
			if removing && d.leaving() && t.Node != "" && !r.down(t) || r.runs(t) {
				return true
			}
		}
	}
	return false
}

// up reports whether a task's container runs or may be about to.
func up(t *stack.Task) bool {
	if t.Node == "" {
		return false
	}
	switch t.Status.State {
	case stack.TaskCompleted, stack.TaskFailed, stack.TaskRemoved:
		return false
	case stack.TaskReady:
		return t.Status.Followed != stack.DesiredStop
	}
	return true
}

// swap finds the stale networks that no container can be attached to any more.
func (r *round) swap() {
	for _, key := range r.in.Stale {
		if r.in.Held[key] == "" && !r.attached(key) {
			r.res.Swap = append(r.res.Swap, key)
		}
	}
}

func (r *round) attached(network string) bool {
	for _, s := range r.services {
		for _, t := range s.tasks {
			gone := t.Node == "" || t.Desired == stack.DesiredRemove && r.down(t)
			if !gone && uses(s.specOf(t.Version), network) {
				return true
			}
		}
	}
	return false
}

func (s *service) specOf(version uint64) *stack.Service {
	if version == s.Version {
		return s.Spec
	}
	return s.Versions[version]
}

// uses assumes the worst of a spec that is not known.
func uses(s *stack.Service, network string) bool {
	if s == nil {
		return true
	}
	for _, a := range s.Container.Networks {
		if a.Network == network {
			return true
		}
	}
	return false
}
