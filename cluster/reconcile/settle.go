package reconcile

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// gone reports whether nothing is left of a task on any node.
func (r *round) gone(t *stack.Task) bool {
	if t.Node == "" {
		return t.Desired == stack.DesiredRemove
	}
	return t.Status.State == stack.TaskRemoved || r.node(t.Node) == nil
}

// settle forgets the tasks of which nothing is left, which frees their slots,
// and finds the slots that are wanted.
func (r *round) settle(s *service) {
	s.keys = r.wanted(s)
	s.want = make(map[slotKey]bool, len(s.keys))
	for _, k := range s.keys {
		s.want[k] = true
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *stack.Task) bool {
		if !r.settled(s, t) {
			return false
		}
		r.forget(s, t)
		return true
	})
	s.gather()
}

// settled reports whether nothing about t is worth waiting for. What was done on
// a node that is no more was done; what runs only once may still run there. The
// node of a service that goes may be down: it removes what it has when it comes
// back and finds no task for it.
func (r *round) settled(s *service, t *stack.Task) bool {
	switch {
	case t.Node == "":
		return r.gone(t) || !s.want[keyOf(t)] || t.Version != s.Version
	case r.down(t):
		return s.leaving() || t.Status.State == stack.TaskRemoved
	case r.node(t.Node) != nil:
		return t.Status.State == stack.TaskRemoved
	case s.leaving():
		return true
	case t.Desired != stack.DesiredRemove && t.Version == s.Version && t.Status.State == stack.TaskCompleted && s.want[keyOf(t)] && !restarted(t):
		return false
	case !r.leaseEnded(s, t.Node):
		r.again(r.in.Now + leaseCheck)
		return false
	}
	return true
}

// forget drops a task; the history of its slot keeps what had a container.
func (r *round) forget(s *service, t *stack.Task) {
	s.freed[keyOf(t)] = append(s.freed[keyOf(t)], t)
	if t.Node == "" || s.leaving() || t.Slot == 0 {
		r.res.Delete = append(r.res.Delete, t.ID)
		return
	}
	c := *t
	if c.End == nil {
		why := "removed"
		if r.node(t.Node) == nil {
			why = "node " + t.Node + " is no more"
		}
		c.Desired, c.End = stack.DesiredRemove, r.end(t, why)
	}
	r.res.Retire = append(r.res.Retire, c)
}

// end is how t stands now.
func (r *round) end(t *stack.Task, why string) *stack.TaskEnd {
	return &stack.TaskEnd{
		State: t.Status.State, Message: t.Status.Message, ExitCode: t.Status.ExitCode, Restarts: t.Status.RestartCount,
		NotStarted: t.Status.NotStarted, Why: why, Time: r.in.Now,
	}
}

// dismiss tells a task to go: first it gets no new requests, then it stops.
// Nothing takes that back.
func (r *round) dismiss(s *service, t *stack.Task, why string) {
	if t.Node == "" {
		r.forget(s, t)
		r.deleted[t.ID] = true
		s.tasks = slices.DeleteFunc(slices.Clone(s.tasks), func(o *stack.Task) bool { return o == t })
		return
	}
	if r.in.DrainGrace > 0 && r.drains(s, t) {
		until := t.Draining + int64(r.in.DrainGrace)
		switch {
		case t.Draining == 0 || t.Draining > r.in.Now:
			r.change(t, func(t *stack.Task) { t.Draining = r.in.Now })
			r.again(r.in.Now + int64(r.in.DrainGrace))
			return
		case until > r.in.Now:
			r.again(until)
			return
		}
	}
	r.change(t, func(t *stack.Task) {
		t.End = r.end(t, why)
		n := r.node(t.Node)
		t.End.Lost = n != nil && n.Down
		t.Desired, t.Grace, t.Retry = stack.DesiredRemove, s.Grace, 0
		if t.Draining == 0 {
			t.Draining = r.in.Now
		}
	})
}

// drains reports whether a task gets requests that others of its service can take
// over. The only one of a service, or one that is not well, has none to hand on.
func (r *round) drains(s *service, t *stack.Task) bool {
	if job(s.Spec.Mode) || !r.runs(t) || !good(t) {
		return false
	}
	return slices.ContainsFunc(s.tasks, func(o *stack.Task) bool {
		return o != t && o.Desired == stack.DesiredRun && o.Draining == 0 && r.runs(o) && good(o)
	})
}
