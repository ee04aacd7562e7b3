package reconcile

import (
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Who restarts what: the node starts a container again in place, by its policy,
// until that gives up; it also goes on trying to make a container that could not
// be made. The managers look at a task only when its node says that it has
// failed. They replace it, after a delay that grows with each failure,
//
//   - when its process ended and the policy has attempts left;
//   - when it could not be started, and another node might do better.
//
// A new task may get the same node again: the scheduler is told of Failures.

const (
	retryDelay   = 5 * time.Second // before the first replacement, unless the policy says
	longestDelay = 5 * time.Minute
	// moveDelay is before a task that its node cannot start goes to another one:
	// nothing is gained by waiting, but for who reads why.
	moveDelay = time.Second
	// cannotStart is what a task that its node cannot start weighs in Failures: as
	// many as make the scheduler avoid a node. A path that is missing stays missing.
	cannotStart = 5
	// failureMemory is how long a failure counts against a node, as in Swarm.
	failureMemory = 5 * time.Minute
)

// retry replaces a failed task when its time has come; it reports whether it did.
func (r *round) retry(s *service, t *stack.Task) bool {
	if t.Status.State != stack.TaskFailed || t.Node == "" || s.Desired != stack.DesiredRun || t.Version != s.Version || restarted(t) || !r.mayRetry(s, t) {
		if t.Retry != 0 {
			r.change(t, func(t *stack.Task) { t.Retry = 0 })
		}
		return false
	}
	if t.Retry == 0 || t.Retry > r.in.Now+2*int64(longestDelay) { // also when the clock was set back
		at := r.in.Now + int64(r.delay(s, t))
		r.change(t, func(t *stack.Task) { t.Retry = at })
		r.again(at)
		return false
	}
	if t.Retry > r.in.Now {
		r.again(t.Retry)
		return false
	}
	r.dismiss(s, t, "failed")
	return true
}

// mayRetry reports whether a failed task's policy and the cluster leave it another chance.
func (r *round) mayRetry(s *service, t *stack.Task) bool {
	p := s.Spec.Container.Restart
	if p.MaxAttempts > 0 && r.attempts(s, t) >= p.MaxAttempts {
		return false
	}
	if t.Status.NotStarted {
		return r.betterNode(s, t)
	}
	return p.Condition != "" && p.Condition != "no"
}

// attempts counts how often t's slot was started again in its version and
// within the policy's window, in place or by a new task.
func (r *round) attempts(s *service, t *stack.Task) int {
	n := t.Status.RestartCount
	for _, old := range r.failed(s, t) {
		if w := s.Spec.Container.Restart.Window; w == 0 || old.End.Time > r.in.Now-int64(w) {
			n += 1 + old.End.Restarts
		}
	}
	return n
}

// failed returns the tasks of t's slot and version that failed before it, of those remembered.
func (r *round) failed(s *service, t *stack.Task) []*stack.Task {
	if r.in.Past == nil {
		return nil
	}
	var out []*stack.Task
	for _, old := range r.in.Past(s.name) {
		if keyOf(old) == keyOf(t) && old.Version == t.Version && old.End != nil && old.End.State == stack.TaskFailed && old.Created < t.Created {
			out = append(out, old)
		}
	}
	return out
}

// delay doubles with each failure of the slot that is remembered.
func (r *round) delay(s *service, t *stack.Task) time.Duration {
	if t.Status.NotStarted {
		return moveDelay
	}
	d := s.Spec.Container.Restart.Delay
	if d <= 0 {
		d = retryDelay
	}
	for range r.failed(s, t) {
		d = min(2*d, longestDelay)
	}
	return d
}

// betterNode reports whether a task that its node cannot start might do better
// elsewhere: there is a node on which the service failed less. What is bound to
// its node by data stays: the node goes on trying.
func (r *round) betterNode(s *service, t *stack.Task) bool {
	if t.Pin != "" || r.bound(s.Spec) || len(t.AnonymousVolumes()) > 0 {
		return false
	}
	var past []*stack.Task
	if r.in.Past != nil {
		past = r.in.Past(s.name)
	}
	fails := Failures(s.tasks, past, r.in.Now)
	for _, n := range r.in.Nodes {
		if n.ID != t.Node && n.Availability == stack.Active && !n.Down && fails[n.ID] < fails[t.Node] &&
			(r.in.Eligible == nil || r.in.Eligible(s.Spec, n)) {
			return true
		}
	}
	return false
}

// bound reports whether a service's tasks have to be where its data or files are.
func (r *round) bound(s *stack.Service) bool {
	return len(s.Shares()) > 0 || r.in.Bound != nil && r.in.Bound(s)
}

// Failures counts by node how often tasks of a service failed there in the last
// minutes: what the scheduler avoids. Tasks are those that there are, past those
// that have ended and are remembered.
func Failures(tasks, past []*stack.Task, now int64) map[string]int {
	out := map[string]int{}
	for _, t := range past {
		if t.End != nil && t.End.State == stack.TaskFailed && t.Node != "" && t.End.Time > now-int64(failureMemory) {
			out[t.Node] += weight(t.End.NotStarted) + t.End.Restarts
		}
	}
	for _, t := range tasks {
		switch {
		case t.Node == "":
		case t.End != nil:
			if t.End.State == stack.TaskFailed && t.End.Time > now-int64(failureMemory) {
				out[t.Node] += weight(t.End.NotStarted) + t.End.Restarts
			}
		case t.Status.State == stack.TaskFailed:
			out[t.Node] += weight(t.Status.NotStarted) + t.Status.RestartCount
		case !good(t):
			out[t.Node] += t.Status.RestartCount
		}
	}
	return out
}

func weight(notStarted bool) int {
	if notStarted {
		return cannotStart
	}
	return 1
}
