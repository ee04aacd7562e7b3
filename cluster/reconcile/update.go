package reconcile

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// replaceable returns the IDs of the tasks of an old version that are to make
// place now: those that do not run, and as many of the others as the update
// rule lets be under way at once. Old tasks keep running while new ones could
// not start.
func (r *round) replaceable(s *service, g gate) map[string]bool {
	if s.down() || !r.replacementCouldStart(s, g) {
		return nil
	}
	out := map[string]bool{}
	budget := r.budget(s)
	for _, t := range s.tasks {
		if t.Version == s.Version || t.Desired == stack.DesiredRemove || !s.want[keyOf(t)] {
			continue
		}
		if up(t) {
			if budget <= 0 {
				continue
			}
			budget--
		}
		out[t.ID] = true
	}
	return out
}

// replacementCouldStart is true for the users of a stale network too: it can be
// replaced only after they have gone.
func (r *round) replacementCouldStart(s *service, g gate) bool {
	if g.open() {
		return true
	}
	return slices.ContainsFunc(r.in.Stale, func(key string) bool {
		return uses(s.Spec, key) || slices.ContainsFunc(s.tasks, func(t *stack.Task) bool {
			return t.Version != s.Version && uses(s.specOf(t.Version), key)
		})
	})
}

// budget is how many running tasks may be replaced now.
func (r *round) budget(s *service) int {
	rule := s.Spec.Deploy.Update
	if rule == nil || rule.Parallelism <= 0 {
		return len(s.tasks)
	}
	underway, failed, last := 0, 0, int64(0)
	for _, k := range s.keys {
		switch t := s.at[k]; {
		case t == nil || t.Desired == stack.DesiredRemove:
			underway++
		case t.Version != s.Version:
		case settled(t):
			last = max(last, t.Status.Time.UnixNano())
		case t.Status.State == stack.TaskFailed:
			failed++
		default:
			underway++
		}
	}
	if failed > 0 && rule.FailureAction != "continue" && float64(failed) > rule.MaxFailureRatio*float64(len(s.keys)) {
		return 0 // the update pauses
	}
	if wait := int64(rule.Monitor + rule.Delay); wait > 0 && last > 0 && last+wait > r.in.Now {
		next := last + wait
		if r.res.Again == 0 || next < r.res.Again {
			r.res.Again = next
		}
		return 0
	}
	return rule.Parallelism - underway
}

// settled reports whether the update of this task has succeeded, but for the time that it is watched.
func settled(t *stack.Task) bool {
	switch t.Status.State {
	case stack.TaskRunning:
		return t.Status.Health == "" || t.Status.Health == "healthy"
	case stack.TaskCompleted:
		return true
	}
	return false
}
