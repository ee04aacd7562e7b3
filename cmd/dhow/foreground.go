package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// foreground are the flags of an up that stays.
type foreground struct {
	abortOnExit, abortOnFailure      bool
	exitCodeFrom                     string
	noLogPrefix, noColor, timestamps bool
	attached                         []string // services whose output is followed
}

func (f foreground) aborts() bool { return f.abortOnExit || f.abortOnFailure || f.exitCodeFrom != "" }

// runForeground follows the output of the services of w from since until an
// interrupt, which stops them, until nothing runs any more, or until what the
// flags say ends it. Its exit code is that of the container that ended it, or 130.
func (a *app) runForeground(ctx context.Context, w watch, f upFlags, since time.Time) error {
	actx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f.aborts() {
		go func() {
			if t := firstEnd(actx, w, f.foreground); t != nil {
				cancel(endedBy{*t})
			}
		}()
	}
	w.goal, w.lenient = isRunning, true
	if err := w.run(actx); err != nil && actx.Err() == nil {
		return err
	}
	lctx, stopLogs := context.WithCancel(context.WithoutCancel(ctx)) // what containers say while they stop is shown too
	defer stopLogs()
	logs := make(chan error, 1)
	go func() {
		logs <- a.followLogs(lctx, w.client, logRequest{
			stack: w.stack, services: f.attached, follow: true, tail: "all", untilStopped: true,
			since:    since.Format(time.RFC3339Nano), // what a container said in an earlier life is not of this up
			noPrefix: f.noLogPrefix, noColor: f.noColor, timestamps: f.timestamps,
		})
	}()
	select {
	case err := <-logs:
		if err != nil {
			return err
		}
		return a.allEnded(ctx, w, f)
	case <-actx.Done():
	}
	var end endedBy
	aborted := errors.As(context.Cause(actx), &end)
	if aborted {
		fmt.Fprintf(a.err, "%s\n", end)
	}
	if err := a.stopAll(ctx, w, f); err != nil {
		return err
	}
	select {
	case err := <-logs:
		if err != nil {
			a.warn([]string{"logs: " + err.Error()})
		}
	case <-time.After(lastWords):
	}
	if !aborted {
		return exitError(130)
	}
	return end.exit(ctx, w, f.exitCodeFrom)
}

// lastWords bounds the wait for output after all containers have stopped.
const lastWords = 2 * time.Second

// endedBy is the cause of the end of a foreground up: a container that ended.
type endedBy struct{ task stack.Task }

func (e endedBy) Error() string {
	return fmt.Sprintf("%s-%d ended with exit code %d", e.task.Service, e.task.Slot, e.task.Status.ExitCode)
}

// exit is the exit code of an up that a container ended: that container's, or the one of the service from.
func (e endedBy) exit(ctx context.Context, w watch, from string) error {
	code := e.task.Status.ExitCode
	if from != "" {
		var err error
		if code, err = serviceExit(context.WithoutCancel(ctx), w, from); err != nil {
			return err
		}
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// firstEnd waits for a container whose end ends the up; nil when ctx ends before.
func firstEnd(ctx context.Context, w watch, f foreground) *stack.Task {
	var found *stack.Task
	stop := errors.New("found")
	err := w.client.WatchStack(ctx, w.stack, func(st api.StackStatus) error {
		if st.Index < w.index {
			return nil
		}
		if found = f.ended(w, st); found != nil {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		return nil
	}
	return found
}

// ended finds a container whose end ends the up.
func (f foreground) ended(w watch, st api.StackStatus) *stack.Task {
	for i, t := range st.Tasks {
		if w.about(t.Service) && t.Version == wantedVersion(st, t.Service) && f.ends(t) {
			return &st.Tasks[i]
		}
	}
	return nil
}

func (f foreground) ends(t stack.Task) bool {
	if behind(t) || t.Desired != stack.DesiredRun || t.Status.State != stack.TaskCompleted && t.Status.State != stack.TaskFailed {
		return false
	}
	if f.abortOnFailure {
		return t.Status.State == stack.TaskFailed
	}
	return true
}

// wantedVersion is what a service's tasks should be of.
func wantedVersion(st api.StackStatus, service string) uint64 {
	i := slices.IndexFunc(st.Services, func(s api.ServiceStatus) bool { return s.Name == service })
	if i < 0 {
		return 0
	}
	return st.Services[i].Version
}

// serviceExit is the exit code of a service's containers: the first that is not 0.
func serviceExit(ctx context.Context, w watch, service string) (int, error) {
	st, err := w.client.Stack(ctx, w.stack)
	if err != nil {
		return 0, err
	}
	ran := false
	for _, t := range st.Tasks {
		if t.Service != service || t.Status.ContainerID == "" {
			continue
		}
		ran = true
		if t.Status.ExitCode != 0 {
			return t.Status.ExitCode, nil
		}
	}
	if !ran {
		return 0, fmt.Errorf("service %s did not run: it has no exit code", service)
	}
	return 0, nil
}

// allEnded is the result of an up whose containers have all ended by themselves: an error when one did badly.
func (a *app) allEnded(ctx context.Context, w watch, f upFlags) error {
	st, err := w.client.Stack(ctx, w.stack)
	if client.IsNotFound(err) {
		return nil // taken down meanwhile
	}
	if err != nil {
		return err
	}
	if t := f.ended(w, st); f.aborts() && t != nil {
		return endedBy{*t}.exit(ctx, w, f.exitCodeFrom)
	}
	for _, t := range st.Tasks {
		if w.about(t.Service) && t.Desired == stack.DesiredRun && t.Status.State == stack.TaskFailed {
			return fmt.Errorf("service %s: %s", t.Service, failure(t))
		}
	}
	return nil
}

// stopAll stops the services of w. An interrupt meanwhile kills them.
func (a *app) stopAll(ctx context.Context, w watch, f upFlags) error {
	fmt.Fprintf(a.err, "stopping %s (Ctrl-C again kills)\n", w.stack)
	ctx = context.WithoutCancel(ctx)
	sctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := w.client.ControlStack(sctx, w.stack, api.ControlRequest{Action: api.ActionStop, Services: w.services, Grace: f.grace.value()})
	if client.IsNotFound(err) {
		return nil
	}
	if err == nil {
		w.goal, w.lenient, w.plain, w.index = isStopped, false, true, 0
		err = w.run(sctx)
	}
	if sctx.Err() == nil {
		return err
	}
	return a.killAll(ctx, w)
}

// killTimeout bounds the wait for containers that were killed.
const killTimeout = 10 * time.Second

func (a *app) killAll(ctx context.Context, w watch) error {
	fmt.Fprintf(a.err, "killing %s\n", w.stack)
	list, err := a.containers(ctx, w.client, w.stack, w.services, false)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killTimeout, fmt.Errorf("still running %s after SIGKILL", killTimeout))
	defer cancel()
	var waits []<-chan client.Waited
	for _, ct := range list {
		ended, err := w.client.WaitContainer(ctx, ct.ID, runtime.WaitNotRunning)
		if err == nil {
			err = w.client.KillContainer(ctx, ct.ID, "KILL")
		}
		if err != nil && !client.IsConflict(err) && !client.IsNotFound(err) && !a.lost(ct.ID, err) {
			return err
		}
		if ended != nil {
			waits = append(waits, ended)
		}
	}
	for _, ended := range waits {
		<-ended
	}
	return context.Cause(ctx)
}
