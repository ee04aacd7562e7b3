package reconcile

import (
	"fmt"
	"time"

	"github.com/dhow-project/dhow/stack"
)

const (
	// leaseCheck is how often it is looked whether a lost node's lease has ended.
	leaseCheck = int64(time.Second)

	// steady is how long a task without a health check has to run before it counts
	// as serving: one that dies at once must not take the place of one that works.
	steady = int64(time.Second)

	// lastWords is how long the container of a task that failed beside its
	// predecessor is kept when an update turns back.
	lastWords = int64(3 * time.Second)

	// patience is how long a task that is to start before its predecessor stops may
	// find no node; then the predecessor stops first after all.
	patience = int64(5 * time.Second)

	// drainPatience is patience for tasks of a drained node: they go on there for
	// longer while no other node has room, but a drain comes to an end.
	drainPatience = int64(time.Minute)
)

// cause is why a task has to make place for another one.
type cause int

const (
	stays    cause = iota
	outdated       // of an old version
	evicted        // its node is drained, or fits no more
	lost           // its node is down
)

// cause looks at a task in a wanted slot.
func (r *round) cause(s *service, t *stack.Task) cause {
	n := r.node(t.Node)
	over := ended(t) && t.Version == s.Version && !restarted(t)
	switch {
	case t.Node == "" || !s.filling() || over:
		return stays
	case t.Pin != "" && r.asleep(keyOf(t)):
		return stays // nobody else can take its place, and nobody can tell it anything
	case n == nil || n.Down:
		return lost
	case t.Pin == "" && (n.Availability == stack.Drain || r.in.Eligible != nil && !r.in.Eligible(s.Spec, n)):
		return evicted
	case t.Version != s.Version:
		return outdated
	}
	return stays
}

// ended reports whether a task has ended for good, as far as its node goes.
func ended(t *stack.Task) bool {
	return t.Status.State == stack.TaskCompleted || t.Status.State == stack.TaskFailed && !t.Status.NotStarted
}

// restarted reports whether a person asked for a start that has not been followed.
func restarted(t *stack.Task) bool { return max(t.Wanted, t.Restarts) > t.Status.Restarts }

// keep looks after a slot with one task.
func (r *round) keep(s *service, sl *slot, g gate, p *pace) {
	t := sl.main
	switch r.cause(s, t) {
	case lost:
		r.replaceLost(s, sl, g)
	case evicted:
		r.move(s, sl, g)
	case outdated:
		switch p.turn(sl) {
		case stopFirst:
			r.dismiss(s, t, "updated")
		case startFirst:
			r.make(s, sl.key, g, t)
		}
	default:
		r.undrain(t)
		if !r.retry(s, t) {
			r.steer(s, t, g)
		}
	}
}

// lingers reports whether what a task that failed left behind is still kept: it
// takes no room that anybody waits for, and who asked for it wants to read its output.
func (r *round) lingers(t *stack.Task) bool {
	if r.in.DrainGrace == 0 || t.Status.State != stack.TaskFailed || t.Status.ContainerID == "" || !r.alive(t) {
		return false
	}
	if t.Draining == 0 || t.Draining > r.in.Now {
		r.change(t, func(t *stack.Task) { t.Draining = r.in.Now })
		r.again(r.in.Now + lastWords)
		return true
	}
	if over := t.Draining + lastWords; over > r.in.Now {
		r.again(over)
		return true
	}
	return false
}

// alive reports whether a task's node can be asked for what the task left behind.
func (r *round) alive(t *stack.Task) bool {
	n := r.node(t.Node)
	return n != nil && !n.Down
}

// undrain gives a task its requests back: it stays after all.
func (r *round) undrain(t *stack.Task) {
	if t.Draining != 0 {
		r.change(t, func(t *stack.Task) { t.Draining = 0 })
	}
}

// replaceLost makes a task elsewhere for one whose node is down. That one stays
// wanted until the new one has a node, so that a node that reboots finds the
// tasks that only it can run. What must never run twice is told to go first.
func (r *round) replaceLost(s *service, sl *slot, g gate) {
	t := sl.main
	switch {
	case !r.leaseEnded(s, t.Node):
		r.again(r.in.Now + leaseCheck)
	case s.Spec.Exclusive:
		r.dismiss(s, t, "node "+r.nameOf(t.Node)+" is down")
	default:
		r.make(s, sl.key, g, t)
	}
}

// move brings a task to another node.
func (r *round) move(s *service, sl *slot, g gate) {
	t, n := sl.main, r.node(sl.main.Node)
	why := fmt.Sprintf("node %s is drained", name(n))
	if n.Availability != stack.Drain {
		why = fmt.Sprintf("node %s fits no more", name(n))
	}
	switch {
	case !r.runs(t) || r.stopFirst(s, sl, true) != "" || s.Spec.Deploy.Update != nil && s.Spec.Deploy.Update.Order == "stop-first":
		r.dismiss(s, t, why)
	case g.open() && !r.occupied(s, sl):
		r.make(s, sl.key, g, t)
	}
}

func name(n *stack.Node) string {
	if n.Hostname != "" {
		return n.Hostname
	}
	return n.ID
}

// handOver looks after a slot in which next is to take the place of main.
func (r *round) handOver(s *service, sl *slot, g gate) {
	main, next := sl.main, sl.next
	why := r.cause(s, main)
	switch {
	case next.Version != s.Version:
		r.undrain(main)
		if !r.lingers(next) {
			r.dismiss(s, next, "updated again")
		}
	case why == lost:
		if next.Node != "" {
			r.dismiss(s, main, "node "+r.nameOf(main.Node)+" is down")
		}
		r.tendNext(s, next, g)
	case next.Node != "" && !r.alive(next): // main goes on until another one serves
		r.undrain(main)
		r.dismiss(s, next, "node "+r.nameOf(next.Node)+" is down")
	case why == stays && !r.serving(s, next): // its node is back, or drained no more; or nothing is to start now
		r.undrain(main)
		r.dismiss(s, next, "not needed any more")
	case r.serving(s, next), !r.runs(main), next.Node != "" && r.stopFirst(s, sl, why == evicted) != "":
		r.dismiss(s, main, reason(why))
		r.tendNext(s, next, g)
	case r.refused(s, next, why, g):
		r.dismiss(s, next, next.Status.Message)
		r.dismiss(s, main, reason(why))
	default:
		r.undrain(main)
		r.tendNext(s, next, g)
	}
}

func (r *round) nameOf(node string) string {
	if n := r.node(node); n != nil {
		return name(n)
	}
	return node
}

func reason(c cause) string {
	switch c {
	case outdated:
		return "updated"
	case evicted:
		return "moved from a drained node"
	}
	return "replaced"
}

func (r *round) tendNext(s *service, next *stack.Task, g gate) {
	if !r.retry(s, next) {
		r.steer(s, next, g)
	}
}

// refused reports whether next has had time enough to find a place beside main.
func (r *round) refused(s *service, next *stack.Task, why cause, g gate) bool {
	limit := patience
	if why == evicted {
		limit = drainPatience
	}
	stuck := next.Node == "" && g.open() || why == evicted && next.Status.State == stack.TaskFailed
	if !stuck {
		return false
	}
	if over := next.Created + limit; over > r.in.Now {
		r.again(over)
		return false
	}
	return true
}

// serving reports whether t does its work: it runs and is healthy, or has run
// for a moment when nothing tells its health. When that began is noted.
func (r *round) serving(s *service, t *stack.Task) bool {
	since := r.note(t, watch(s.rule()))
	switch {
	case since == 0 || !good(t):
		return false
	case t.Status.Health == "healthy" || t.Status.State == stack.TaskCompleted || since+steady <= r.in.Now:
		return true
	}
	r.again(since + steady)
	return false
}

// note keeps Task.Serving: it begins when t first serves and starts over when t
// stops doing so before it was watched for long enough. It returns since when t serves.
func (r *round) note(t *stack.Task, watch int64) int64 {
	since := t.Serving
	switch {
	case good(t) && (since == 0 || since > r.in.Now): // also when the clock was set back
		since = r.in.Now
	case !good(t) && since != 0 && since+watch > r.in.Now:
		since = 0
	}
	if since != t.Serving {
		r.change(t, func(t *stack.Task) { t.Serving = since })
	}
	return since
}

// good reports whether t runs and is healthy as far as can be told, or is done.
func good(t *stack.Task) bool {
	switch t.Status.State {
	case stack.TaskRunning:
		return t.Status.Health == "" || t.Status.Health == "healthy"
	case stack.TaskCompleted:
		return true
	}
	return false
}
