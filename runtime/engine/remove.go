package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
)

// Remove removes a container; one that runs only with Force. The intent is on
// disk before anything is touched, so that a removal always comes to its end.
func (e *Engine) Remove(ctx context.Context, ref string, opt runtime.RemoveOptions) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	for {
		if err := c.op.lock(ctx); err != nil {
			return err
		}
		r, err := e.removing(c, opt)
		if err != nil || r == nil {
			if err == nil {
				err = e.removeStopped(ctx, c)
			}
			c.op.unlock()
			return err
		}
		c.op.unlock()
		if err := e.killRun(ctx, c, r); err != nil {
			return fmt.Errorf("remove container %s: %w", c.name(), err)
		}
	}
}

// removing notes the intent. It returns the run that has to be killed first.
func (e *Engine) removing(c *container, opt runtime.RemoveOptions) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return nil, fmt.Errorf("container %s: %w", c.rec.Name, runtime.ErrNotFound)
	}
	if c.run != nil && !opt.Force && !c.st.Removing {
		what := "is running: stop it first, or force"
		if c.st.Status == runtime.Paused {
			what = "is paused: unpause and stop it first, or force"
		}
		return nil, fmt.Errorf("container %s %s: %w", c.rec.Name, what, runtime.ErrConflict)
	}
	c.cancelRetryLocked()
	c.st.Removing, c.st.ManuallyStopped = true, true
	c.st.DropVolumes = c.st.DropVolumes || opt.Volumes
	c.keep = true
	if err := e.saveLocked(c); err != nil {
		return nil, fmt.Errorf("remove container %s: %w", c.rec.Name, err)
	}
	return c.run, nil
}

// removeStopped removes a container without process. op is held.
func (e *Engine) removeStopped(ctx context.Context, c *container) error {
	c.mu.Lock()
	drop, name := c.st.DropVolumes, c.rec.Name
	c.mu.Unlock()
	volumes := e.cfg.Volumes.Release
	if drop {
		volumes = e.cfg.Volumes.RemoveAnonymous
	}
	err := e.cleanup(ctx, c)
	if err == nil {
		err = errors.Join(volumes(ctx, c.id), e.cfg.Images.RemoveRootfs(ctx, c.id, e.rootfs(c.id)))
	}
	if err == nil {
		err = e.store.remove(c.id)
	}
	if err != nil {
		return fmt.Errorf("remove container %s: %w", name, err)
	}
	e.forget(c)
	e.publish(c, "destroy")
	c.mu.Lock()
	late := c.late
	c.late, c.gone = nil, true
	c.notifyLocked(true)
	c.touchLocked()
	c.mu.Unlock()
	for _, l := range late {
		l.fail()
	}
	return nil
}

func (e *Engine) forget(c *container) {
	name := c.name()
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, c.id)
	if e.names[name] == c.id {
		delete(e.names, name)
	}
	for id, x := range e.execs {
		if x.c == c {
			delete(e.execs, id)
		}
	}
}

// autoRemove removes a container that was asked to go when it ends, with its
// anonymous volumes.
func (e *Engine) autoRemove(c *container) {
	err := e.Remove(context.Background(), c.id, runtime.RemoveOptions{Volumes: true})
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		e.log.Error("container not removed", "container", c.name(), "err", err)
	}
}

// Prune removes the containers that do not run and have all the labels.
func (e *Engine) Prune(ctx context.Context, labels map[string]string) (runtime.PruneReport, error) {
	var rep runtime.PruneReport
	var errs []error
	all, err := e.List(ctx, runtime.Filter{All: true, Labels: labels})
	if err != nil {
		return rep, err
	}
	for _, c := range all {
		switch c.State.Status {
		case runtime.Created, runtime.Exited, runtime.Dead:
		default:
			continue
		}
		switch err := e.Remove(ctx, c.ID, runtime.RemoveOptions{}); {
		case err == nil:
			rep.Deleted = append(rep.Deleted, c.ID)
		case errors.Is(err, runtime.ErrNotFound), errors.Is(err, runtime.ErrConflict):
		default:
			errs = append(errs, err)
		}
	}
	return rep, errors.Join(errs...)
}
