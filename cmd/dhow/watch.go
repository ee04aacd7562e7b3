package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/progress"
	"github.com/dhow-project/dhow/stack"
)

// settle is how long a service without a health check must run before --wait
// believes it: long enough to see a process that ends at once.
const settle = time.Second

// crashes is how many restarts in place make --wait give up on a service.
const crashes = 3

// watch follows a stack until what was asked for holds.
type watch struct {
	app      *app
	client   *client.Client
	stack    string
	services []string // only these; empty: all
	healthy  bool     // wait for health, not only for running
	stopped  bool     // wait for nothing to run
	gone     bool     // wait for the stack, or these services, to be removed
	index    uint64   // ignore states older than this
}

// verdict on one service.
type verdict struct {
	item   progress.Item
	done   bool
	failed *stack.Task // that cannot succeed by itself
	why    string
}

// run shows progress until the goal is reached, a service fails or ctx ends.
func (w watch) run(ctx context.Context) error {
	d := progress.New(w.app.err, progress.Options{TTY: w.app.fancy(w.app.err), Width: func() int { return width(w.app.err) }})
	failed, err := w.follow(ctx, d)
	d.Close()
	if failed != nil {
		w.printTail(context.WithoutCancel(ctx), *failed)
	}
	return err
}

func (w watch) follow(ctx context.Context, d *progress.Display) (*stack.Task, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states, errs := w.stream(ctx)
	running := map[string]time.Time{} // task -> since when this run has seen it run
	var last *api.StackStatus
	for {
		var settled <-chan time.Time
		if last != nil {
			verdicts, wait := w.judge(*last, running, time.Now())
			done := true
			var bad verdict // one with a container is the cause of those that only depend on it
			for _, v := range verdicts {
				d.Set(v.item.Name, v.item)
				if v.failed != nil && (bad.failed == nil || bad.failed.Status.ContainerID == "") {
					bad = v
				}
				done = done && v.done
			}
			if bad.failed != nil {
				return bad.failed, fmt.Errorf("service %s: %s", bad.failed.Service, bad.why)
			}
			if done {
				return nil, nil
			}
			if wait > 0 {
				settled = time.After(wait)
			}
		}
		select {
		case st, ok := <-states:
			if !ok {
				err := <-errs
				if ctx.Err() == nil && (err == nil || client.IsNotFound(err)) {
					if w.gone {
						return nil, nil // WatchStack ends without an error when the stack is gone
					}
					err = fmt.Errorf("stack %s was removed meanwhile", w.stack)
				}
				if ctx.Err() != nil {
					return nil, w.pending(last, context.Cause(ctx))
				}
				return nil, err
			}
			if st.Index >= w.index {
				last = &st
			}
		case <-settled:
		}
	}
}

// stream turns the client's callback into a channel; errs has one value when it ends.
func (w watch) stream(ctx context.Context) (<-chan api.StackStatus, <-chan error) {
	states, errs := make(chan api.StackStatus), make(chan error, 1)
	go func() {
		errs <- w.client.WatchStack(ctx, w.stack, func(st api.StackStatus) error {
			select {
			case states <- st:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(states)
	}()
	return states, errs
}

// pending says what was not reached when the time was up.
func (w watch) pending(last *api.StackStatus, cause error) error {
	if last == nil || errors.Is(cause, context.Canceled) {
		return cause
	}
	var open []string
	verdicts, _ := w.judge(*last, map[string]time.Time{}, time.Now())
	for _, v := range verdicts {
		if !v.done {
			open = append(open, strings.TrimSpace(fmt.Sprintf("%s: %s %s", v.item.Name, v.item.Status, v.item.Detail)))
		}
	}
	return fmt.Errorf("%w: %s", cause, strings.Join(open, "; "))
}

// judge decides on every service; wait > 0 asks to be called again after that time.
func (w watch) judge(st api.StackStatus, running map[string]time.Time, now time.Time) (out []verdict, wait time.Duration) {
	for _, s := range st.Services {
		if len(w.services) > 0 && !slices.Contains(w.services, s.Name) {
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

func (w watch) judgeService(st api.StackStatus, s api.ServiceStatus, running map[string]time.Time, now time.Time) (v verdict, wait time.Duration) {
	v.item = progress.Item{Name: s.Name, Detail: s.Message}
	var up, good, completed, alive int
	for i := range st.Tasks {
		t := &st.Tasks[i]
		if t.Service != s.Name {
			continue
		}
		if t.Status.State == stack.TaskRunning {
			alive++
		}
		if t.Version != s.Version || t.Desired == stack.DesiredRemove {
			continue
		}
		if v.item.Detail == "" {
			v.item.Detail = t.Status.Message
		}
		switch t.Status.State {
		case stack.TaskCompleted:
			completed++
		case stack.TaskFailed:
			v.failed, v.why = t, failure(*t)
		case stack.TaskRunning:
			up++
			ok, left, why := w.taskServes(*t, running, now)
			if ok {
				good++
			}
			if why != "" {
				v.failed, v.why = t, why
			}
			if left > 0 && (wait == 0 || left < wait) {
				wait = left
			}
		default:
			delete(running, t.ID)
			if w.healthy && t.Status.RestartCount >= crashes {
				v.failed, v.why = t, fmt.Sprintf("restarted %d times, last exit code %d", t.Status.RestartCount, t.Status.ExitCode)
			}
		}
	}
	if w.stopped || w.gone {
		v.failed, v.why, wait = nil, "", 0
		v.done = alive == 0 && w.stopped
		v.item.Status, v.item.State = "stopping", progress.Working
		if v.done {
			v.item.Status, v.item.State = "stopped", progress.Done
		}
		if w.gone {
			v.item.Status = "removing"
		}
		return v, wait
	}
	reached := up + completed
	if w.healthy {
		reached = good + completed
	}
	v.done = reached >= s.Wanted
	v.item.Status = serviceWord(s, up, good, completed, w.healthy)
	switch {
	case v.failed != nil:
		v.item.State, v.item.Status, v.item.Detail = progress.Failed, "failed", v.why
	case v.done:
		v.item.State, v.item.Detail = progress.Done, ""
	}
	return v, wait
}

// taskServes says whether a running task counts as healthy, in how long to look
// again, and why it never will.
func (w watch) taskServes(t stack.Task, running map[string]time.Time, now time.Time) (ok bool, again time.Duration, why string) {
	if !w.healthy {
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
func serviceWord(s api.ServiceStatus, up, good, completed int, health bool) string {
	word, n := "running", up+completed
	if health {
		word, n = "healthy", good+completed
	}
	switch {
	case completed > 0 && completed >= s.Wanted:
		word = "completed"
	case n < s.Wanted && up == 0:
		word = "starting"
	case n < s.Wanted && health:
		word = "waiting"
	}
	if s.Wanted == 1 {
		return word
	}
	return fmt.Sprintf("%s %d/%d", word, n, s.Wanted)
}

// tailLines is how much of a failed service's output an error shows.
const tailLines = 20

// printTail shows the last output of a task that failed.
func (w watch) printTail(ctx context.Context, t stack.Task) {
	if t.Status.ContainerID == "" {
		return
	}
	fmt.Fprintf(w.app.err, "last output of %s-%d:\n", t.Service, t.Slot)
	err := w.app.containerLogs(ctx, w.client, t.Status.ContainerID, tailLines, func(line []byte) {
		fmt.Fprintf(w.app.err, "  | %s\n", strings.TrimRight(string(line), "\r\n"))
	})
	if err != nil {
		fmt.Fprintf(w.app.err, "  (not readable: %v)\n", err)
	}
}
