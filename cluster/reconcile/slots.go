package reconcile

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// wanted returns the places in which s should have a task. Scaling down takes
// the highest numbers away, so that the longest running tasks stay.
func (r *round) wanted(s *service) []slotKey {
	if s.leaving() {
		return nil
	}
	if global(s.Spec.Mode) {
		return r.perNode(s)
	}
	keys := make([]slotKey, 0, s.Spec.Replicas)
	for i := 1; i <= s.Spec.Replicas; i++ {
		keys = append(keys, slotKey{slot: i})
	}
	return keys
}

// perNode returns one place for each node that may run s; a node that takes no
// new tasks keeps the one it has.
func (r *round) perNode(s *service) []slotKey {
	has := map[string]bool{}
	for _, t := range s.tasks {
		has[t.Pin] = true
	}
	var keys []slotKey
	for _, n := range r.in.Nodes {
		if r.in.Eligible != nil && !r.in.Eligible(s.Spec, n) {
			continue
		}
		k := slotKey{slot: 1, pin: n.ID}
		if n.Availability == stack.Active && !n.Down || n.Availability != stack.Drain && has[n.ID] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b slotKey) int {
		if a.pin < b.pin {
			return -1
		}
		return 1
	})
	return keys
}

func global(m stack.Mode) bool { return m == stack.Global || m == stack.GlobalJob }
