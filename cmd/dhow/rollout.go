package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// updatesOf are the services that a plan replaces, with how the stack wants that done.
func updatesOf(p *plan.Plan, s stack.Stack) map[string]*stack.UpdateRule {
	out := map[string]*stack.UpdateRule{}
	for _, step := range p.Steps {
		if step.Kind == plan.Service && step.Action == plan.Recreate {
			out[step.Name] = s.Services[step.Name].Deploy.Update
		}
	}
	return out
}

// judgeUpdate puts how far the update is that this command has begun over what
// the tasks of the service say. With an update_config it is the cluster that
// decides whether a task that failed is too much.
func (w watch) judgeUpdate(s api.ServiceStatus, v *verdict) {
	rule, ours := w.updates[s.Name]
	u := s.Update
	if !ours || u == nil || !w.startsThings() || w.goal == isCreated {
		return
	}
	undecided := func(word string) {
		if v.failed != nil {
			v.doubt, v.item.Detail = v.failed, v.why
		}
		v.failed, v.done, v.item.Status = nil, false, word
		if u.Message != "" {
			v.item.Detail = u.Message
		}
	}
	over := func(format string, args ...any) {
		if v.failed == nil {
			v.failed = &stack.Task{Service: s.Name}
		}
		v.done, v.why = false, fmt.Sprintf(format, args...)
	}
	switch u.State {
	case stack.Updating:
		if rule != nil && (v.failed != nil || rule.FailureAction == "rollback" || rule.Monitor > 0) {
			undecided(fmt.Sprintf("updating %d/%d", s.Updated, s.Wanted))
		}
	case stack.RollbackStarted:
		undecided("rolling back")
	case stack.RollbackCompleted:
		over("the update failed and was rolled back: %s", u.Message)
	case stack.RollbackPaused:
		over("the update failed, and so does its rollback: %s", u.Message)
	case stack.UpdatePaused:
		if rule == nil && v.failed == nil {
			return // it goes on when what restarts now has recovered
		}
		over("the update is paused, %d of %d tasks are new: %s", s.Updated, s.Wanted, u.Message)
	}
}

// moves reports whether a task that its node could not start is to go to another
// one, and when to look again: the managers take a moment to decide that.
func (w watch) moves(t *stack.Task, several bool, running map[string]time.Time, now time.Time) (again time.Duration, yes bool) {
	if !several || !t.Status.NotStarted {
		return 0, false
	}
	if t.Retry != 0 {
		return 0, true
	}
	key := "failed " + t.ID
	since, seen := running[key]
	if !seen {
		since = now
		running[key] = now
	}
	if age := now.Sub(since); age < settle {
		return settle - age, true
	}
	return 0, false
}

// going says whether a task of the stack is on its way out.
func going(st api.StackStatus) bool {
	return slices.ContainsFunc(st.Tasks, func(t stack.Task) bool {
		return t.Desired == stack.DesiredRemove && t.Status.State != stack.TaskRemoved && !away(st, &t)
	})
}

// refused says whether the only node has no room for a task, and in how long to
// look again. Among several nodes others may make room, or join: there --wait-timeout
// says how long to wait.
func (w watch) refused(t *stack.Task, n *counts, running map[string]time.Time, now time.Time) (again time.Duration, hopeless bool) {
	key := "refused " + t.ID
	if n.several || n.going || !strings.Contains(t.Status.Message, stack.NoNodeFits) {
		delete(running, key)
		return 0, false
	}
	since, seen := running[key]
	if !seen {
		since = now
		running[key] = now
	}
	if age := now.Sub(since); age < settle {
		return settle - age, false
	}
	return 0, true
}

// tailLines is how much of a failed service's output an error shows.
const tailLines = 20

// tails keeps the last output of tasks that failed: when the cluster has decided
// what to do about them, their containers may be gone.
type tails struct {
	watch watch
	kept  map[string]*tail // by service: of the first one that failed
}

type tail struct {
	task stack.Task
	text string
}

func newTails(w watch) *tails { return &tails{watch: w, kept: map[string]*tail{}} }

// keep reads the output of tasks in doubt.
func (l *tails) keep(ctx context.Context, verdicts []verdict) {
	for _, v := range verdicts {
		if v.doubt == nil || v.doubt.Status.ContainerID == "" || l.kept[v.doubt.Service] != nil {
			continue
		}
		l.kept[v.doubt.Service] = &tail{*v.doubt, l.read(ctx, *v.doubt)}
	}
}

func (l *tails) read(ctx context.Context, t stack.Task) string {
	var out bytes.Buffer
	err := l.watch.app.containerLogs(ctx, l.watch.client, t.Status.ContainerID, tailLines, func(line []byte) {
		fmt.Fprintf(&out, "  | %s\n", strings.TrimRight(string(line), "\r\n"))
	})
	if err != nil {
		fmt.Fprintf(&out, "  (not readable: %v)\n", err)
	}
	return out.String()
}

// print shows the last output of a task that failed, or of the one of its
// service that was kept.
func (l *tails) print(ctx context.Context, t stack.Task) {
	kept := l.kept[t.Service]
	switch {
	case kept == nil && t.Status.ContainerID == "":
		return
	case kept == nil:
		kept = &tail{t, l.read(ctx, t)}
	}
	fmt.Fprintf(l.watch.app.err, "last output of %s-%d:\n%s", kept.task.Service, kept.task.Slot, kept.text)
}
