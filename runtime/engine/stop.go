package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"golang.org/x/sys/unix"
)

// defaultGrace is how long a container may take to stop.
const defaultGrace = 10 * time.Second

// Stop asks the process to end and kills it after the grace period: the given
// one, or the spec's, or 10 s; a negative one waits for ever. It returns when
// the exit has been handled. The restart policy rests until the next start.
// A container that does not run is ErrNotModified.
func (e *Engine) Stop(ctx context.Context, ref, signal string, grace *time.Duration) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	return e.stop(ctx, c, signal, grace, false)
}

// stop ends the run. keep says that the container is needed afterwards: no
// auto-remove.
func (e *Engine) stop(ctx context.Context, c *container, signal string, grace *time.Duration, keep bool) error {
	// A start under way comes to its end first.
	if err := c.op.lock(ctx); err != nil {
		return err
	}
	r, err := e.stopping(c, keep)
	c.op.unlock()
	if err != nil {
		return err
	}
	if r == nil { // it was between two restarts
		e.publish(c, "stop")
		return nil
	}
	if err := e.stopRun(ctx, c, r, signal, grace); err != nil {
		return fmt.Errorf("stop container %s: %w", c.name(), err)
	}
	e.publish(c, "stop")
	return nil
}

// stopping marks c as stopped by hand. It returns the run to end, or nil when
// only a pending restart had to be cancelled. op is held.
func (e *Engine) stopping(c *container, keep bool) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil, fmt.Errorf("container %s: %w", c.rec.Name, runtime.ErrNotFound)
	}
	changed := !c.st.ManuallyStopped
	c.st.ManuallyStopped = true
	c.keep = keep
	restarting := c.st.Status == runtime.Restarting
	if restarting {
		c.cancelRetryLocked()
		c.st.Status = runtime.Exited
		c.notifyLocked(false)
		c.touchLocked()
	}
	if changed || restarting {
		if err := e.saveLocked(c); err != nil {
			return nil, err
		}
	}
	if c.run == nil && !restarting {
		return nil, fmt.Errorf("container %s is not running: %w", c.rec.Name, runtime.ErrNotModified)
	}
	return c.run, nil
}

// stopRun runs the hooks, signals, waits, kills.
func (e *Engine) stopRun(ctx context.Context, c *container, r *run, signal string, grace *time.Duration) error {
	spec := c.spec()
	if signal == "" {
		signal = spec.StopSignal
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	wait := defaultGrace
	if spec.StopGrace != nil {
		wait = *spec.StopGrace
	}
	if grace != nil {
		wait = *grace
	}
	var deadline <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		deadline = timer.C
	}
	e.serve(c, false) // before the process knows: it may close its socket at once
	e.preStop(ctx, c, r, wait)
	if err := e.signal(ctx, c, r, sig); err != nil {
		e.log.Warn("stop signal not delivered", "container", c.name(), "signal", int(sig), "err", err)
	}
	select {
	case <-r.done:
		return nil
	case <-r.lost:
		return errClosing
	case <-ctx.Done():
		e.serve(c, true) // nobody waits for its end any more, and it may go on
		return ctx.Err()
	case <-deadline:
	}
	return e.killRun(ctx, c, r)
}

// killWait is how long a killed process may take to be gone before somebody is
// told: one in an uninterruptible sleep may never be.
const killWait = 30 * time.Second

// killRun kills the process and waits until the exit has been handled.
func (e *Engine) killRun(ctx context.Context, c *container, r *run) error {
	if err := e.signal(ctx, c, r, unix.SIGKILL); err != nil {
		e.log.Warn("container not killed", "container", c.name(), "err", err)
	}
	timer := time.NewTimer(killWait)
	defer timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-r.lost:
		return errClosing
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("it does not end, even killed")
	}
}

// signal sends sig and tells; a frozen container is thawed, or it would never
// see the signal.
func (e *Engine) signal(ctx context.Context, c *container, r *run, sig syscall.Signal) error {
	err := r.client.Kill(ctx, sig, false)
	if err == nil {
		e.publish(c, "kill", "signal", strconv.Itoa(int(sig)))
	}
	if c.status() != runtime.Paused || r.client.Resume(ctx) != nil { // already ended
		return err
	}
	c.mu.Lock()
	if c.run == r && c.st.Status == runtime.Paused {
		c.st.Status = runtime.Running
		c.touchLocked()
	}
	c.mu.Unlock()
	return err
}

// Kill sends a signal, SIGKILL when it is empty. When the signal is one that
// ends the container, the restart policy rests; for SIGKILL it returns once
// the exit has been handled.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if signal == "" {
		signal = "KILL"
	}
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	r, _ := c.current()
	if r == nil {
		return fmt.Errorf("kill container %s: %w", c.name(), runtime.ErrNotRunning)
	}
	if stopSignal, _ := parseSignal(c.spec().StopSignal); sig == unix.SIGKILL || sig == stopSignal {
		if err := e.restByHand(c, r); err != nil {
			return fmt.Errorf("kill container %s: %w", c.name(), err)
		}
	}
	if sig == unix.SIGKILL {
		return e.killRun(ctx, c, r)
	}
	if err := e.signal(ctx, c, r, sig); err != nil {
		return fmt.Errorf("kill container %s: %w", c.name(), err)
	}
	return nil
}

// restByHand saves that the end of r to come is wanted.
func (e *Engine) restByHand(c *container, r *run) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != r { // it has ended by itself meanwhile
		return runtime.ErrNotRunning
	}
	c.st.ManuallyStopped = true
	return e.saveLocked(c)
}

// Restart stops a container, when it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, ref, signal string, grace *time.Duration) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	err = e.stop(ctx, c, signal, grace, true)
	if err != nil && !errors.Is(err, runtime.ErrNotModified) {
		return err
	}
	if err := c.op.lock(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.keep = false
	c.mu.Unlock()
	err = e.startByHand(ctx, c)
	c.op.unlock()
	if err != nil {
		return err
	}
	e.publish(c, "restart")
	return e.postStart(ctx, c)
}

var errClosing = errors.New("the daemon is going down")
