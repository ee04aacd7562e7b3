package engine

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
)

// Pause freezes a running container.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, runtime.Running, runtime.Paused, "pause", (*shim.Client).Pause)
}

// Unpause thaws it.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	return e.freeze(ctx, ref, runtime.Paused, runtime.Running, "unpause", (*shim.Client).Resume)
}

func (e *Engine) freeze(ctx context.Context, ref string, from, to runtime.Status, verb string, act func(*shim.Client, context.Context) error) error {
	c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	r, status := c.current()
	if r == nil || status != from {
		if r == nil {
			return fmt.Errorf("%s container %s: %w: %w", verb, c.name(), runtime.ErrNotRunning, runtime.ErrConflict)
		}
		return fmt.Errorf("%s container %s: it is %s: %w", verb, c.name(), status, runtime.ErrConflict)
	}
	if err := act(r.client, ctx); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, c.name(), err)
	}
	c.mu.Lock()
	if c.run == r {
		c.st.Status = to
	}
	err = e.saveLocked(c)
	c.touchLocked()
	c.mu.Unlock()
	r.probe.Pause(to == runtime.Paused)
	if err != nil {
		return fmt.Errorf("%s container %s: %w", verb, c.name(), err)
	}
	e.publish(c, verb)
	return nil
}
