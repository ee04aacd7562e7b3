package engine

import (
	"context"
	"path/filepath"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/stack"
)

// Delays between restarts in place, as Docker's: they double from the first to
// the longest, and start over after a run that lasted.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	lastingRun   = 10 * time.Second
)

// decideRestart says whether the policy starts a container again that has just
// ended as st tells, and after which delay.
func decideRestart(p stack.RestartPolicy, st state, now time.Time) (bool, time.Duration) {
	if st.ManuallyStopped || st.Removing {
		return false, 0
	}
	switch {
	case p.Unhealthy && st.Unhealthy: // whoever asks for that restart gets it, with or without a policy for other ends
	case p.Condition == "always", p.Condition == "unless-stopped":
	case p.Condition == "on-failure" && st.ExitCode != 0:
	default:
		return false, 0
	}
	if p.MaxAttempts > 0 && len(recent(st.Attempts, p.Window, now)) >= p.MaxAttempts {
		return false, 0
	}
	first := p.Delay
	if first <= 0 {
		first = firstDelay
	}
	if st.Delay <= 0 || st.FinishedAt.Sub(st.StartedAt) >= lastingRun {
		return true, first
	}
	return true, max(first, min(2*st.Delay, longestDelay))
}

// recent are the attempts within the window; 0 is without end.
func recent(attempts []time.Time, window time.Duration, now time.Time) []time.Time {
	if window <= 0 {
		return attempts
	}
	for i, at := range attempts {
		if now.Sub(at) < window {
			return attempts[i:]
		}
	}
	return nil
}

// retryLocked arms the restart.
func (e *Engine) retryLocked(c *container, delay time.Duration) {
	c.st.Delay = delay
	c.retry = time.AfterFunc(delay, func() { e.spawn(func() { e.restartNow(c) }) })
}

// cancelRetryLocked makes a pending restart pointless. One that has begun
// waits for op and then finds that the status is no longer Restarting.
func (c *container) cancelRetryLocked() {
	if c.retry != nil {
		c.retry.Stop()
		c.retry = nil
	}
}

// restartNow is one attempt of the policy.
func (e *Engine) restartNow(c *container) {
	ctx := context.Background()
	if err := c.op.lock(ctx); err != nil {
		return
	}
	err := e.attempt(ctx, c)
	c.op.unlock()
	if err == nil {
		err = e.postStart(ctx, c)
	}
	if err != nil {
		e.log.Warn("container not restarted", "container", c.name(), "err", err)
	}
}

// leaseAgain is the time between two looks at a lease that does not hold.
const leaseAgain = 250 * time.Millisecond

// leaseOf is the file with the lease that a container needs; "" when it needs none.
func (e *Engine) leaseOf(s stack.ContainerSpec) string {
	if !s.Leased {
		return ""
	}
	return filepath.Join(e.cfg.RunDir, "lease")
}

func (e *Engine) attempt(ctx context.Context, c *container) error {
	c.mu.Lock()
	if c.st.Status != runtime.Restarting || c.st.Removing || c.gone {
		c.mu.Unlock()
		return nil
	}
	c.retry = nil
	if path := e.leaseOf(c.rec.Spec); path != "" && !lease.Holds(path) { // no attempt yet
		c.retry = time.AfterFunc(leaseAgain, func() { e.spawn(func() { e.restartNow(c) }) })
		c.mu.Unlock()
		return nil
	}
	now := time.Now()
	c.st.RestartCount++
	if p := c.rec.Spec.Restart; p.MaxAttempts > 0 {
		c.st.Attempts = append(recent(c.st.Attempts, p.Window, now), now)
	}
	c.mu.Unlock()
	err := e.start(ctx, c)
	if err == nil {
		return nil
	}
	c.mu.Lock()
	st := &c.st
	st.StartedAt, st.FinishedAt, st.ExitCode, st.Error, st.Pid = now, time.Now(), startExitCode(err), err.Error(), 0
	again, delay := decideRestart(c.rec.Spec.Restart, *st, st.FinishedAt)
	if again {
		st.Status = runtime.Restarting
		if saveErr := e.saveLocked(c); saveErr != nil {
			e.log.Error("container state not saved", "container", c.rec.Name, "err", saveErr)
		}
		e.retryLocked(c, delay)
		c.mu.Unlock()
		return err
	}
	c.mu.Unlock()
	e.failed(c, err)
	return err
}

// stoppedState is the state of a container that nothing is known about.
func stoppedState() state {
	return state{State: runtime.State{Status: runtime.Exited, ExitCode: 255, FinishedAt: time.Now()}}
}
