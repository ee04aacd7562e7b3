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

// goal is what a watch waits for.
type goal int

// The goals.
const (
	isRunning goal = iota // a one-shot: or has completed
	isHealthy             // running, and healthy or without a health check
	isCreated             // containers are there
	isStopped             // nothing runs
	isPaused              // what runs is frozen
	isUnpaused
	isGone    // removed
	isRemoved // no container is left; the service stays in the stack
)

// watch follows a stack until what was asked for holds.
type watch struct {
	app      *app
	client   *client.Client
	stack    string
	services []string // only these; empty: all
	goal     goal
	lenient  bool   // a service that fails is no reason to give up on the others
	plain    bool   // lines instead of a block that is redrawn: other output goes to the terminal meanwhile
	index    uint64 // ignore states older than this

	updates map[string]*stack.UpdateRule // services that this command has begun to update, with their update_config, which may be nil
	tails   *tails                       // of tasks that failed while they could still be read; made by run
}

// about says whether the watch is about a service.
func (w watch) about(service string) bool {
	return len(w.services) == 0 || slices.Contains(w.services, service)
}

// run shows progress until the goal is reached, a service fails or ctx ends.
func (w watch) run(ctx context.Context) error {
	d := progress.New(w.app.err, progress.Options{TTY: w.app.fancy(w.app.err) && !w.plain, Width: func() int { return width(w.app.err) }})
	w.tails = newTails(w)
	failed, err := w.follow(ctx, d)
	d.Close()
	if failed != nil {
		w.tails.print(context.WithoutCancel(ctx), *failed)
	}
	return err
}

func (w watch) follow(ctx context.Context, d *progress.Display) (*stack.Task, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states, errs := w.stream(ctx)
	running := map[string]time.Time{} // task -> since when this run has seen it run
	shown := map[string]bool{}        // services
	var last *api.StackStatus
	for {
		var settled <-chan time.Time
		if last != nil {
			verdicts, wait := w.judge(*last, running, time.Now())
			w.show(d, shown, verdicts)
			w.tails.keep(ctx, verdicts)
			bad, done := outcome(verdicts)
			if bad.failed != nil && !w.lenient {
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
					if w.goal == isGone {
						w.show(d, shown, nil)
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

// show draws the verdicts; what was shown before and is there no more has been removed.
func (w watch) show(d *progress.Display, shown map[string]bool, verdicts []verdict) {
	for _, v := range verdicts {
		d.Set(v.item.Name, v.item)
		shown[v.item.Name] = true
	}
	for name := range shown {
		if w.goal == isGone && !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.item.Name == name }) {
			d.Set(name, progress.Item{Name: name, Status: "removed", State: progress.Done})
		}
	}
}

// outcome is the worst verdict, and whether all are done. A failed service with
// a container is the cause of those that only depend on it.
func outcome(verdicts []verdict) (bad verdict, done bool) {
	done = true
	for _, v := range verdicts {
		if v.failed != nil && (bad.failed == nil || bad.failed.Status.ContainerID == "") {
			bad = v
		}
		done = done && (v.done || v.failed != nil)
	}
	return bad, done
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
