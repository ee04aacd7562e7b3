package state

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// begin is the status of the update that a new version starts; nil for the
// first version of a service.
func (t *tx) begin(old *Service) *stack.UpdateStatus {
	if old == nil || old.Removing {
		return nil
	}
	u := &stack.UpdateStatus{State: stack.Updating, From: old.Version, To: t.index, Started: t.time}
	if p := old.Update; p.Active() && (p.State != stack.Updating || len(p.Failed) > 0) { // that one was no good
		u.From = p.From
	}
	return u
}

func (t *tx) rollout(c *UpdateChange) {
	old := t.services.get(pair{c.Stack, c.Name})
	if old == nil || old.Version != c.Version {
		return
	}
	s := *old
	s.Update = c.Update
	if c.Back != 0 {
		s.revive(c.Back)
	}
	t.putService(&s)
}

// revive makes an old version the current one; its tasks that still run are of
// it. How many there are to be stays as it is. Nothing happens when it is not known.
func (s *Service) revive(version uint64) {
	i := slices.IndexFunc(s.History, func(v Version) bool { return v.Version == version })
	if i < 0 {
		return
	}
	v, now := s.History[i], s.Spec
	s.History = append(slices.Delete(slices.Clone(s.History), i, i+1), v)
	s.Spec, s.Hash, s.Version = v.Spec, v.Hash, v.Version
	if s.Spec.Mode == now.Mode {
		s.Spec.Replicas = now.Replicas
	}
}

// remembered is the history with what the version before was last changed to
// without becoming another: how many tasks, where, how they are updated.
func (s *Service) remembered(old *Service) []Version {
	h := slices.Clone(s.History)
	for i := range h {
		if old != nil && h[i].Version == old.Version {
			h[i].Spec = old.Spec
		}
	}
	return h
}
