package reconcile

import (
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// slotKey is a task's place in its service: a number, or a node for global services.
type slotKey struct {
	slot int
	pin  string
}

func keyOf(t *stack.Task) slotKey { return slotKey{t.Slot, t.Pin} }

// slot is one place of a service and the tasks in it. Tasks that are to be
// removed are in it until nothing is left of them.
type slot struct {
	key     slotKey
	main    *stack.Task   // that fills it; nil: none
	next    *stack.Task   // that takes the place of main when it serves, or when main's node is lost; nil: none
	extra   []*stack.Task // that should not be: one too many
	leaving []*stack.Task // told to go
}

// gather sorts the tasks of s, which are sorted by place, into slots.
func (s *service) gather() {
	s.slots, s.at = nil, make(map[slotKey]*slot, len(s.tasks))
	var live []*stack.Task
	for i, t := range s.tasks {
		k := keyOf(t)
		sl := s.at[k]
		if sl == nil {
			sl = &slot{key: k}
			s.at[k] = sl
			s.slots = append(s.slots, sl)
		}
		if t.Desired == stack.DesiredRemove {
			sl.leaving = append(sl.leaving, t)
		} else {
			live = append(live, t)
		}
		if i+1 == len(s.tasks) || keyOf(s.tasks[i+1]) != k {
			sl.seat(live, s.Version)
			live = live[:0]
		}
	}
}

// seat finds main and next among the live tasks of a slot. Replaces tells who is
// who; a task with a node and of the current version goes before others.
func (sl *slot) seat(live []*stack.Task, version uint64) {
	if len(live) == 0 {
		return
	}
	best := live[0]
	for _, t := range live[1:] {
		if t.ID == best.Replaces || best.ID != t.Replaces && better(t, best, version) {
			best = t
		}
	}
	sl.main = best
	for _, t := range live {
		switch {
		case t == best:
		case t.Replaces == best.ID && sl.next == nil:
			sl.next = t
		default:
			sl.extra = append(sl.extra, t)
		}
	}
}

func better(a, b *stack.Task, version uint64) bool {
	if (a.Node != "") != (b.Node != "") {
		return a.Node != ""
	}
	return a.Version == version && b.Version != version
}

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
// new tasks keeps the one it has, a drained one at most the record of a job done.
func (r *round) perNode(s *service) []slotKey {
	has, done := map[string]bool{}, map[string]bool{}
	for _, t := range s.tasks {
		has[t.Pin] = has[t.Pin] || t.Desired != stack.DesiredRemove
		done[t.Pin] = done[t.Pin] || s.Spec.Mode == stack.GlobalJob && t.Version == s.Version && t.Status.State == stack.TaskCompleted
	}
	var keys []slotKey
	for _, n := range r.in.Nodes {
		if r.in.Eligible != nil && !r.in.Eligible(s.Spec, n) {
			continue
		}
		if n.Availability == stack.Active && !n.Down || n.Availability != stack.Drain && has[n.ID] || done[n.ID] {
			keys = append(keys, slotKey{slot: 1, pin: n.ID})
		}
	}
	slices.SortFunc(keys, func(a, b slotKey) int { return strings.Compare(a.pin, b.pin) })
	return keys
}

func global(m stack.Mode) bool { return m == stack.Global || m == stack.GlobalJob }

func job(m stack.Mode) bool { return m == stack.ReplicatedJob || m == stack.GlobalJob }

// asleep reports whether nothing can be done about a place before its node is back.
func (r *round) asleep(k slotKey) bool {
	n := r.node(k.pin)
	return k.pin != "" && (n == nil || n.Down)
}

func byPlace(a, b *stack.Task) int {
	if a.Slot != b.Slot {
		return a.Slot - b.Slot
	}
	if c := strings.Compare(a.Pin, b.Pin); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}
