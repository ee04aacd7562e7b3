package reconcile

import (
	"slices"
	"strconv"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// turn is what may be done now about a task of an old version.
type turn int

const (
	hold turn = iota
	stopFirst
	startFirst
)

// pace says how far an update is and which tasks it may replace now.
type pace struct {
	r      *round
	s      *service
	could  bool // new tasks could start
	budget int  // running tasks that may be replaced now
	rule   stack.UpdateRule

	outdated  int      // slots whose task is of an old version
	givenUp   int      // of these: those whose new task failed beside the old one, which therefore stays
	unsettled int      // slots whose new task is not there, or not yet watched for long enough
	failed    []string // slots whose new task failed while it was watched and has not recovered
	reason    string   // of the first of them
	over      bool     // more failed than the rule allows
	warning   string
}

// rule is what updates s now: its update_config, or its rollback_config on the way back.
func (s *service) rule() stack.UpdateRule {
	rule := s.Spec.Deploy.Update
	if s.Update.Backwards() {
		rule = s.Spec.Deploy.Rollback
	}
	if rule == nil {
		return stack.UpdateRule{}
	}
	return *rule
}

// watch is how long a new task is looked at before it counts as a success.
func watch(rule stack.UpdateRule) int64 {
	if rule.Monitor > 0 {
		return int64(rule.Monitor)
	}
	return int64(5 * time.Second) // Swarm's default
}

// pace looks at all wanted slots.
func (r *round) pace(s *service, g gate) *pace {
	p := &pace{r: r, s: s, rule: s.rule(), could: s.filling() && r.replacementCouldStart(s, g)}
	for _, k := range s.keys {
		if sl := s.at[k]; sl != nil && sl.main != nil && !r.asleep(k) && sl.main.Version != s.Version {
			p.outdated++
		}
	}
	if s.down() || p.outdated == 0 && !s.Update.Active() {
		return p
	}
	underway := 0
	for _, k := range s.keys {
		if !r.asleep(k) && p.look(s.at[k], k) {
			underway++
		}
	}
	p.over = float64(len(p.failed)) > p.rule.MaxFailureRatio*float64(len(s.keys))
	p.budget = p.parallelism() - underway
	if p.over && p.rule.FailureAction != "continue" {
		p.budget = 0
	}
	return p
}

// look reports whether the update of a slot is under way.
func (p *pace) look(sl *slot, k slotKey) bool {
	var t *stack.Task
	switch {
	case sl == nil || sl.main == nil:
		p.unsettled++
		p.stillFailed(k)
		return true
	case p.r.cause(p.s, sl.main) == lost:
		p.unsettled++
		return true
	case sl.main.Version == p.s.Version:
		t = sl.main
	case sl.next != nil && sl.next.Version == p.s.Version:
		t = sl.next
	default:
		p.stillFailed(k)
		return sl.main.Draining != 0 // it has begun to leave
	}
	since := p.r.note(t, watch(p.rule))
	passed := since != 0 && since+watch(p.rule) <= p.r.in.Now
	switch {
	case job(p.s.Spec.Mode) || t == sl.main && ended(t) && t.Status.State == stack.TaskCompleted:
		return false
	case passed && t == sl.main:
		return since+int64(p.rule.Monitor+p.rule.Delay) > p.r.in.Now && p.lookAgain(since+int64(p.rule.Monitor+p.rule.Delay))
	case !passed && p.bad(t):
		p.fail(k, t)
		if t == sl.next {
			p.givenUp++
		}
		return false
	}
	p.unsettled++
	p.stillFailed(k)
	if since == 0 || t != sl.main {
		return true
	}
	p.lookAgain(since + watch(p.rule))
	ready := since + int64(p.rule.Monitor+p.rule.Delay)
	if t.Status.Health == "" {
		ready = max(ready, since+steady)
	}
	return ready > p.r.in.Now && p.lookAgain(ready)
}

func (p *pace) lookAgain(at int64) bool {
	if at > p.r.in.Now {
		p.r.again(at)
	}
	return true
}

// bad reports whether a task that is watched has failed. On the way back a
// task that restarted long ago is no sign of failure while it is well.
func (p *pace) bad(t *stack.Task) bool {
	st := t.Status
	return st.State == stack.TaskFailed || st.Health == "unhealthy" || st.RestartCount > 0 && !(p.s.Update.Backwards() && good(t))
}

func (p *pace) fail(k slotKey, t *stack.Task) {
	p.failed = append(p.failed, k.String())
	if p.reason == "" {
		p.reason = p.s.name + "." + k.String() + ": " + complaint(t)
	}
}

// stillFailed remembers a failure of which the task is gone or tries again.
func (p *pace) stillFailed(k slotKey) {
	if u := p.s.Update; u.Active() && slices.Contains(u.Failed, k.String()) {
		p.failed = append(p.failed, k.String())
	}
}

func (k slotKey) String() string {
	if k.pin != "" {
		return k.pin
	}
	return strconv.Itoa(k.slot)
}

func complaint(t *stack.Task) string {
	switch st := t.Status; {
	case st.Message != "":
		return st.Message
	case st.Health == "unhealthy":
		return "is unhealthy"
	case st.RestartCount > 0:
		return "has restarted " + strconv.Itoa(st.RestartCount) + " times"
	}
	return "failed"
}

// parallelism is how many slots may be under way at once. Without a rule it is
// all of them, as with Compose; half of them when new tasks start beside the old
// ones, which need room.
func (p *pace) parallelism() int {
	n := len(p.s.keys)
	switch {
	case p.s.Desired == stack.DesiredCreate: // nothing will run that could be watched
		return n
	case p.rule.Parallelism > 0:
		return p.rule.Parallelism
	case p.s.Spec.Deploy.Update == nil && !p.s.Update.Backwards() && p.s.Spec.Beside(false) == "":
		return (n + 1) / 2
	}
	return n
}

// turn says what may be done about the task of a slot, which is of an old
// version, and counts it. One that does not run has nothing to lose, and before
// a network is replaced all have to leave it.
func (p *pace) turn(sl *slot) turn {
	switch {
	case !p.could || p.r.occupied(p.s, sl):
		return hold
	case sl.main.Draining != 0:
		return stopFirst
	case !p.r.runs(sl.main) || p.r.stale(p.s) != "":
		return stopFirst
	case p.budget <= 0 && !p.retries(sl.key):
		return hold
	}
	p.budget--
	if p.rule.Order == "stop-first" {
		return stopFirst
	}
	if why := p.r.stopFirst(p.s, sl, false); why != "" {
		if p.rule.Order == "start-first" && p.warning == "" {
			p.warning = "order start-first is not kept: " + why
		}
		return stopFirst
	}
	return startFirst
}

// retries reports whether the new task of a slot failed beside the old one and
// was ended to be tried again elsewhere: that is no further step of the update.
func (p *pace) retries(k slotKey) bool {
	u := p.s.Update
	return u.Active() && slices.Contains(u.Failed, k.String()) && p.rule.Order != "stop-first" && p.r.stopFirst(p.s, p.s.at[k], false) == ""
}

// replacementCouldStart is true for the users of a stale network too: it can be
// replaced only after they have gone.
func (r *round) replacementCouldStart(s *service, g gate) bool {
	return g.open() || r.stale(s) != ""
}

// stale returns a network that is to be replaced and that tasks of s use.
func (r *round) stale(s *service) string {
	for _, key := range r.in.Stale {
		if uses(s.Spec, key) || slices.ContainsFunc(s.tasks, func(t *stack.Task) bool {
			return t.Version != s.Version && uses(s.specOf(t.Version), key)
		}) {
			return key
		}
	}
	return ""
}
