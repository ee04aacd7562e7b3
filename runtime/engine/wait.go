package engine

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
)

// waiter waits for one condition; its channel has room for the answer.
type waiter struct {
	cond runtime.WaitCondition
	ch   chan runtime.ExitStatus
}

// Wait returns a channel that delivers one answer when the condition is met.
// The waiter is registered when Wait returns. A restart by the policy is not
// an exit. A container that is gone answers every condition.
func (e *Engine) Wait(ctx context.Context, ref string, cond runtime.WaitCondition) (<-chan runtime.ExitStatus, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	switch cond {
	case "":
		cond = runtime.WaitNotRunning
	case runtime.WaitNotRunning, runtime.WaitNextExit, runtime.WaitRemoved:
	default:
		return nil, fmt.Errorf("wait condition %q: %w", cond, runtime.ErrInvalid)
	}
	w := waiter{cond, make(chan runtime.ExitStatus, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	ended := !alive(c.st.Status) && c.st.Status != runtime.Restarting
	if c.gone || (cond == runtime.WaitNotRunning && ended) {
		w.ch <- c.exitLocked()
		return w.ch, nil
	}
	c.waiters = append(c.waiters, w)
	stop := context.AfterFunc(ctx, func() { c.dropWaiter(w.ch) })
	_ = stop // it does nothing once the answer has been given
	return w.ch, nil
}

func (c *container) exitLocked() runtime.ExitStatus {
	st := runtime.ExitStatus{Code: c.st.ExitCode}
	if c.st.StartedAt.IsZero() || c.st.StartedAt.After(c.st.FinishedAt) {
		st.Err = c.st.Error
	}
	return st
}

// notifyLocked answers those who wait for an exit, and after the removal all.
func (c *container) notifyLocked(removed bool) {
	st := c.exitLocked()
	kept := c.waiters[:0]
	for _, w := range c.waiters {
		if w.cond == runtime.WaitRemoved && !removed {
			kept = append(kept, w)
			continue
		}
		w.ch <- st
	}
	clear(c.waiters[len(kept):])
	c.waiters = kept
}

func (c *container) dropWaiter(ch chan runtime.ExitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiters {
		if w.ch == ch {
			c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
			return
		}
	}
}
