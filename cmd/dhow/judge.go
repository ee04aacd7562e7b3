package main

import (
	"fmt"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/internal/progress"
	"github.com/dhow-project/dhow/stack"
)

// verdict on one service.
type verdict struct {
	item   progress.Item
	done   bool
	failed *stack.Task // that cannot succeed by itself
	why    string
	doubt  *stack.Task // that has failed, and about which the cluster still decides
}

// judge decides on every service; wait > 0 asks to be called again after that time.
func (w watch) judge(st api.StackStatus, running map[string]time.Time, now time.Time) (out []verdict, wait time.Duration) {
	for _, s := range st.Services {
		if !w.about(s.Name) {
			if w.startsThings() && s.Desired == stack.DesiredRemove && left(st, s.Name) > 0 {
				out = append(out, verdict{item: progress.Item{Name: s.Name, Status: "removing"}}) // an orphan
			}
			continue
		}
		v, more := w.judgeService(st, s, running, now)
		if more > 0 && (wait == 0 || more < wait) {
			wait = more
		}
		out = append(out, v)
	}
	return out, wait
}

// startsThings tells goals that want containers to be there from those that want them not to be.
func (w watch) startsThings() bool {
	return w.goal == isRunning || w.goal == isHealthy || w.goal == isCreated
}

// away says whether a task is on a node that is down: what it was last known to
// be does not count, and it goes when the node returns.
func away(st api.StackStatus, t *stack.Task) bool { return t.Node != "" && st.Nodes[t.Node].Down }

// left counts the containers of a service that there still are, on nodes that are up.
func left(st api.StackStatus, service string) (n int) {
	for i := range st.Tasks {
		t := &st.Tasks[i]
		if t.Service == service && t.Node != "" && t.Status.State != stack.TaskRemoved && !away(st, t) {
			n++
		}
	}
	return n
}

// counts are the tasks of one service, as far as they are of its current version.
type counts struct {
	existing, up, good, completed, paused int
	several                               bool // nodes
	going                                 bool // a task of the stack, which makes room
	alive, left                           int  // of any version: that run, that have a container
}

func (w watch) judgeService(st api.StackStatus, s api.ServiceStatus, running map[string]time.Time, now time.Time) (v verdict, wait time.Duration) {
	v.item = progress.Item{Name: s.Name, Detail: s.Message}
	n := counts{left: left(st, s.Name), several: st.Several, going: going(st)}
	for i := range st.Tasks {
		t := &st.Tasks[i]
		if t.Service != s.Name {
			continue
		}
		if away(st, t) {
			if v.item.Detail == "" && t.Desired != stack.DesiredRemove {
				v.item.Detail = "node " + st.Nodes[t.Node].Hostname + " is down"
			}
			continue
		}
		if t.Status.State == stack.TaskRunning {
			n.alive++
		}
		if t.Version != s.Version || t.Desired == stack.DesiredRemove {
			continue
		}
		if v.item.Detail == "" {
			v.item.Detail = t.Status.Message
		}
		again := w.judgeTask(t, &n, &v, running, now)
		if again > 0 && (wait == 0 || again < wait) {
			wait = again
		}
	}
	switch w.goal {
	case isGone:
		return verdict{item: progress.Item{Name: s.Name, Status: "removing"}}, 0
	case isStopped:
		return stopVerdict(s, n), 0
	case isPaused:
		v.item.Status, v.item.Detail = "pausing", ""
		if n.paused >= n.up {
			return verdict{item: progress.Item{Name: s.Name, Status: "paused", State: progress.Done}, done: true}, 0
		}
		return v, 0
	case isUnpaused:
		if n.paused == 0 {
			return verdict{item: progress.Item{Name: s.Name, Status: "running", State: progress.Done}, done: true}, 0
		}
		return verdict{item: progress.Item{Name: s.Name, Status: "paused"}}, 0
	case isRemoved:
		if n.left > 0 {
			return verdict{item: progress.Item{Name: s.Name, Status: "removing"}}, 0
		}
		return verdict{item: progress.Item{Name: s.Name, Status: "removed", State: progress.Done}, done: true}, 0
	}
	reached := map[goal]int{isRunning: n.up + n.completed, isHealthy: n.good + n.completed, isCreated: n.existing}[w.goal]
	v.done = reached >= s.Wanted && n.left <= s.Wanted && s.Moving == 0 // a scale down is done when the surplus has gone
	v.item.Status = w.serviceWord(s, n)
	w.judgeUpdate(s, &v)
	switch {
	case v.failed != nil:
		v.item.State, v.item.Status, v.item.Detail = progress.Failed, "failed", v.why
	case v.done:
		v.item.State, v.item.Detail = progress.Done, ""
	case v.item.Detail == "stopped":
		v.item.Detail = "" // what it was before
	}
	return v, wait
}

func stopVerdict(s api.ServiceStatus, n counts) verdict {
	if n.alive == 0 {
		return verdict{item: progress.Item{Name: s.Name, Status: "stopped", State: progress.Done}, done: true}
	}
	return verdict{item: progress.Item{Name: s.Name, Status: "stopping"}}
}

// behind says whether a start or restart that was asked for is still to come:
// the status is of the time before.
func behind(t stack.Task) bool {
	return t.Node != "" && max(t.Wanted, t.Restarts) > t.Status.Restarts
}

// judgeTask counts one task of the current version; again > 0 asks to look again after that time.
func (w watch) judgeTask(t *stack.Task, n *counts, v *verdict, running map[string]time.Time, now time.Time) (again time.Duration) {
	if t.Status.ContainerID != "" {
		n.existing++
	}
	if t.Status.Paused {
		n.paused++
	}
	if behind(*t) {
		return 0
	}
	if max(t.Wanted, t.Restarts) > t.Status.Restarts && t.Status.ContainerID != "" {
		delete(running, t.ID) // is to be restarted: what it is now does not count
		return 0
	}
	switch t.Status.State {
	case stack.TaskCompleted:
		n.completed++
	case stack.TaskFailed:
		if again, moves := w.moves(t, n.several, running, now); moves {
			v.doubt = t
			return again
		}
		v.failed, v.why = t, failure(*t)
	case stack.TaskRunning:
		n.up++
		ok, left, why := w.taskServes(*t, running, now)
		if ok {
			n.good++
		}
		if why != "" {
			v.failed, v.why = t, why
		}
		return left
	case stack.TaskPending:
		again, hopeless := w.refused(t, n, running, now)
		if hopeless {
			v.failed, v.why = t, t.Status.Message
		}
		return again
	default:
		delete(running, t.ID)
		if w.goal == isHealthy && t.Status.RestartCount >= crashes {
			v.failed, v.why = t, fmt.Sprintf("restarted %d times, last exit code %d", t.Status.RestartCount, t.Status.ExitCode)
		}
	}
	return 0
}

// taskServes says whether a running task counts as healthy, in how long to look
// again, and why it never will.
func (w watch) taskServes(t stack.Task, running map[string]time.Time, now time.Time) (ok bool, again time.Duration, why string) {
	if w.goal != isHealthy {
		return true, 0, ""
	}
	switch t.Status.Health {
	case "healthy":
		return true, 0, ""
	case "unhealthy":
		return false, 0, "its container is unhealthy" + suffix(": ", t.Status.Message)
	case "starting":
		return false, 0, ""
	}
	since, seen := running[t.ID]
	if !seen {
		running[t.ID] = now
		return false, settle, ""
	}
	if age := now.Sub(since); age < settle {
		return false, settle - age, ""
	}
	return true, 0, ""
}

func failure(t stack.Task) string {
	if t.Status.Message != "" {
		return t.Status.Message
	}
	return fmt.Sprintf("ended with exit code %d", t.Status.ExitCode)
}

func suffix(sep, s string) string {
	if s == "" {
		return ""
	}
	return sep + s
}

// serviceWord is "running", "healthy 2/3", "completed", "starting 0/1".
func (w watch) serviceWord(s api.ServiceStatus, n counts) string {
	word, reached := "running", n.up+n.completed
	switch w.goal {
	case isHealthy:
		word, reached = "healthy", n.good+n.completed
	case isCreated:
		word, reached = "created", n.existing
	}
	switch {
	case s.Wanted == 0:
		return "scaled to 0"
	case n.completed >= s.Wanted:
		word = "completed"
	case reached < s.Wanted && w.goal == isCreated:
		word = "creating"
	case reached < s.Wanted && n.up == 0:
		word = "starting"
	case reached < s.Wanted && w.goal == isHealthy:
		word = "waiting"
	}
	if s.Wanted == 1 {
		return word
	}
	return fmt.Sprintf("%s %d/%d", word, reached, s.Wanted)
}
