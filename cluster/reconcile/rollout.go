package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// judge moves the status of an update on.
func (r *round) judge(s *service, p *pace) {
	if !s.Update.Active() || s.leaving() {
		return
	}
	u, back := *s.Update, uint64(0)
	u.Failed = p.failed
	if p.warning != "" {
		u.Warning = p.warning
	}
	switch {
	case p.over && p.rule.FailureAction != "continue":
		back = p.stop(&u)
	case u.State == stack.UpdatePaused:
		u.State, u.Message = stack.Updating, ""
	case u.State == stack.RollbackPaused:
		u.State = stack.RollbackStarted
	case p.done():
		r.complete(&u, p)
	case len(p.failed) > 0 && p.reason != "":
		u.Message = p.reason
	}
	if !sameUpdate(u, *s.Update) {
		r.res.Rollout = append(r.res.Rollout, Rollout{Service: s.name, Version: s.Version, Update: &u, Back: back})
	}
}

// done reports whether all slots have a task of the current version that has
// shown to be good, or that was allowed to fail.
func (p *pace) done() bool {
	if p.outdated > p.givenUp {
		return false
	}
	return p.unsettled == 0 || !p.s.filling() || p.s.Desired == stack.DesiredCreate || job(p.s.Spec.Mode)
}

func (r *round) complete(u *stack.UpdateStatus, p *pace) {
	u.Completed = r.in.Now
	if u.State == stack.RollbackStarted {
		u.State = stack.RollbackCompleted
		return
	}
	u.State, u.Message = stack.UpdateCompleted, ""
	if n := len(p.failed); n > 0 {
		u.Message = fmt.Sprintf("%d of %d tasks failed: %s", n, len(p.s.keys), p.reason)
	}
}

// stop pauses an update of which too much failed, or turns it back; it returns
// the version to go back to. A way back is not turned back again.
func (p *pace) stop(u *stack.UpdateStatus) (back uint64) {
	if p.reason != "" {
		if u.Backwards() {
			u.Message = joined(p.s.Update.Message, p.reason)
		} else {
			u.Message = p.reason
		}
	}
	switch {
	case u.Backwards():
		u.State = stack.RollbackPaused
	case p.rule.FailureAction == "rollback" && u.From != p.s.Version && p.s.Versions[u.From] != nil:
		u.State, u.Failed = stack.RollbackStarted, nil
		return u.From
	default:
		u.State = stack.UpdatePaused
	}
	return 0
}

// joined keeps why the update was given up beside what is amiss on the way back.
func joined(first, second string) string {
	if i := strings.Index(first, "; on the way back "); i >= 0 {
		first = first[:i]
	}
	if first == "" {
		return second
	}
	return first + "; on the way back " + second
}

func sameUpdate(a, b stack.UpdateStatus) bool {
	return a.State == b.State && a.From == b.From && a.To == b.To && a.Started == b.Started && a.Completed == b.Completed &&
		a.Message == b.Message && a.Warning == b.Warning && slices.Equal(a.Failed, b.Failed)
}
