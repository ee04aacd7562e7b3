package reconcile

import "github.com/dhow-project/dhow/stack"

// lead brings the tasks of s where they are wanted, slot by slot.
func (r *round) lead(s *service) {
	g := r.gate(s)
	p := r.pace(s, g)
	for _, sl := range s.slots {
		r.tend(s, sl, g, p)
	}
	r.fill(s, g)
	r.judge(s, p)
}

// tend does what is next for one slot.
func (r *round) tend(s *service, sl *slot, g gate, p *pace) {
	if s.RemoveVolumes && s.leaving() {
		for _, t := range sl.leaving {
			if !t.RemoveVolumes {
				r.change(t, func(t *stack.Task) { t.RemoveVolumes = true })
			}
		}
	}
	for _, t := range sl.extra {
		r.dismiss(s, t, "one too many")
	}
	switch {
	case sl.main == nil:
	case s.leaving():
		r.remove(s, sl)
	case !s.want[sl.key]:
		r.endBoth(s, sl, "scaled down")
	case sl.next != nil:
		r.handOver(s, sl, g)
	default:
		r.keep(s, sl, g, p)
	}
}

// endBoth ends both tasks of a slot.
func (r *round) endBoth(s *service, sl *slot, why string) {
	r.dismiss(s, sl.main, why)
	if sl.next != nil {
		r.dismiss(s, sl.next, why)
	}
}

// remove ends the tasks of a service that goes, after those of the services that depend on it.
func (r *round) remove(s *service, sl *slot) {
	if r.heldByDependents(s, true) {
		return
	}
	for _, t := range []*stack.Task{sl.main, sl.next} {
		if t == nil {
			continue
		}
		r.change(t, func(t *stack.Task) {
			t.End = r.end(t, "removed")
			t.Desired, t.Grace = stack.DesiredRemove, s.Grace
			t.RemoveVolumes = s.RemoveVolumes
		})
	}
}

// steer turns a task that stays to what is wanted of its service.
func (r *round) steer(s *service, t *stack.Task, g gate) {
	if t.Node == "" {
		r.open(s, t, g)
		return
	}
	switch s.Desired {
	case stack.DesiredStop:
		if t.Desired != stack.DesiredStop && !r.heldByDependents(s, false) {
			r.change(t, func(t *stack.Task) { t.Desired, t.Grace = stack.DesiredStop, s.Grace })
		}
	case stack.DesiredPause:
		if t.Desired == stack.DesiredRun {
			r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredPause })
		}
	case stack.DesiredCreate: // what runs already goes on
	default:
		r.start(s, t, g)
	}
}

// start lets a task with a node run, when its dependencies allow.
func (r *round) start(s *service, t *stack.Task, g gate) {
	if t.Desired == stack.DesiredPause && t.Wanted <= t.Restarts {
		r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredRun })
		return
	}
	if t.Desired == stack.DesiredRun && t.Wanted <= t.Restarts || !g.open() {
		return
	}
	r.change(t, func(t *stack.Task) {
		t.Restarts = max(t.Wanted, t.Restarts)
		if t.Desired != stack.DesiredRun && t.Restarts <= t.Status.Restarts {
			t.Restarts = t.Status.Restarts + 1
		}
		t.Wanted = t.Restarts
		t.Desired, t.Grace = stack.DesiredRun, s.Grace
	})
}

// open lets a task without a node be placed, or says what it waits for.
func (r *round) open(s *service, t *stack.Task, g gate) {
	if !s.filling() {
		g = gate{state: stack.TaskPending, message: "is not to run: " + string(s.Desired)}
	}
	if g.open() {
		r.changeOf(t).Place = true
		return
	}
	if t.Status.State != g.state || t.Status.Message != g.message {
		r.change(t, func(t *stack.Task) { t.Status = r.waiting(g) })
	}
}

// fill makes the tasks of wanted slots that have none.
func (r *round) fill(s *service, g gate) {
	if !s.filling() {
		return
	}
	busy := 0
	for _, t := range s.tasks {
		if t.Status.State < stack.TaskCompleted {
			busy++
		}
	}
	for _, k := range s.keys {
		sl := s.at[k]
		if sl != nil && sl.main != nil && !r.dropped(sl.main) || r.asleep(k) || r.occupied(s, sl) {
			continue
		}
		if s.Spec.Mode == stack.ReplicatedJob && s.Spec.MaxConcurrent > 0 && busy >= s.Spec.MaxConcurrent {
			return
		}
		busy++
		r.make(s, k, g, nil)
	}
}

// dropped reports whether t, which had no node, has been forgotten in this round.
func (r *round) dropped(t *stack.Task) bool { return t.Node == "" && r.deleted[t.ID] }

// occupied reports whether a task that was told to go may still run.
func (r *round) occupied(s *service, sl *slot) bool {
	if sl == nil {
		return false
	}
	for _, t := range sl.leaving {
		n := r.node(t.Node)
		lost := n == nil || n.Down
		if !lost {
			return true
		}
		if !r.leaseEnded(s, t.Node) {
			r.again(r.in.Now + leaseCheck)
			return true
		}
	}
	return false
}

// make adds a task that takes the place of old, which still is there, or that
// fills an empty slot: then it inherits the anonymous volumes of the one before it.
func (r *round) make(s *service, k slotKey, g gate, old *stack.Task) {
	t := stack.Task{
		Stack: r.in.Stack, Service: s.name, Slot: k.slot, Pin: k.pin,
		Version: s.Version, Desired: s.Desired, Created: r.in.Now,
	}
	if old != nil {
		t.Replaces = old.ID
	} else {
		r.inherit(s, k, &t)
	}
	if !g.open() {
		t.Status = r.waiting(g)
	}
	r.res.Changes = append(r.res.Changes, Change{Task: t, New: true, Place: g.open()})
}
