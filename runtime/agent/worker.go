package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// job is what a worker gets: a task as it was when the worker began.
type job struct {
	assignment stack.Assignment
	container  *runtime.Container
	peers      map[string]string
	rename     string // name that the container is to get; "": it has it
}

// outcome is what a worker came to.
type outcome struct {
	task      string
	container *runtime.Container // nil: there is none
	status    stack.TaskStatus   // what has been followed; the rest is as observed
	err       error              // why it did not get further
}

// maxSteps bounds a worker's steps; a task needs three at most (recreate, create, start).
const maxSteps = 8

// work takes steps for one task until there is nothing to do or one fails.
func (a *Agent) work(ctx context.Context, j job) outcome {
	t := j.assignment.Task
	out := outcome{task: t.ID, container: j.container}
	for range maxSteps {
		act, _ := Step(t, Observed{out.container, unfit(j.assignment, out.container, j.peers), j.rename != ""})
		if act == None {
			break
		}
		id, err := a.do(ctx, act, j, out.container)
		if err != nil {
			out.err = err
			if id == "" {
				break
			}
		} else {
			t.Status = follow(t, act)
			if act == Rename {
				j.rename = ""
			}
			if act == Recreate { // the next container goes on with its volumes
				j.assignment.Task.Anonymous = anonymous(out.container)
			}
			a.log.Debug("task", "stack", t.Stack, "service", t.Service, "slot", t.Slot, "action", act)
		}
		c, err := a.inspect(ctx, id)
		if err != nil {
			out.err = errors.Join(out.err, err)
			break
		}
		out.container = c
		if out.err != nil {
			break
		}
	}
	out.status = t.Status
	return out
}

// do takes one step and returns the ID of the container to look at afterwards.
func (a *Agent) do(ctx context.Context, act Action, j job, c *runtime.Container) (string, error) {
	if act == Create {
		return a.create(ctx, j)
	}
	if act == Discard {
		return "", a.discard(ctx, j.assignment.Task)
	}
	slots := a.stops
	if act == Start {
		slots = a.starts
	}
	release, err := acquire(ctx, slots)
	if err != nil {
		return c.ID, err
	}
	defer release()
	switch act {
	case Start:
		err = ignore(a.cfg.Engine.Start(ctx, c.ID), runtime.ErrNotModified)
	case Rename: // when somebody else has taken the name, it stays as it is
		if err := a.cfg.Engine.Rename(ctx, c.ID, j.rename); err != nil {
			a.log.Warn("a container keeps its name", "id", c.ID, "wanted", j.rename, "error", err)
		}
	case Restart:
		err = a.cfg.Engine.Restart(ctx, c.ID, "", j.assignment.Task.Grace)
	case Stop:
		err = a.stop(ctx, c, j.assignment.Task.Grace)
	case Pause:
		err = ignore(a.cfg.Engine.Pause(ctx, c.ID), runtime.ErrNotModified)
	case Unpause:
		err = ignore(a.cfg.Engine.Unpause(ctx, c.ID), runtime.ErrNotModified)
	case Recreate:
		err = a.remove(ctx, c, false, nil)
	case Remove:
		a.lastWords(ctx, j.assignment, c)
		err = a.remove(ctx, c, j.assignment.Task.RemoveVolumes, j.assignment.Task.Grace)
	}
	if err != nil {
		return c.ID, fmt.Errorf("%s: %w", act, err)
	}
	return c.ID, nil
}

// create makes the container, with its image and volumes.
func (a *Agent) create(ctx context.Context, j job) (string, error) {
	as := j.assignment
	if as.Service == nil || as.Stack == nil {
		return "", fmt.Errorf("version %d of the service is not known any more: %w", as.Task.Version, runtime.ErrNotFound)
	}
	img, err := a.images.ensure(ctx, as.Service.Container, as.Auth, func(what string) { a.note(ctx, as.Task, what) })
	if err != nil {
		return "", err
	}
	release, err := acquire(ctx, a.starts)
	if err != nil {
		return "", err
	}
	defer release()
	if err := a.volumes(ctx, as); err != nil {
		return "", err
	}
	spec, err := Spec(as, a.cfg.Cluster, img, j.peers)
	if err != nil {
		return "", err
	}
	id, warnings, err := a.createNamed(ctx, as.Task, Name(as.Task, as.Service), spec)
	for _, w := range warnings {
		a.log.Warn("container made with a warning", "task", as.Task.ID, "service", as.Task.Service, "warning", w)
	}
	return id, err
}

// volumes makes the named volumes that the task mounts, with Compose's labels.
func (a *Agent) volumes(ctx context.Context, as stack.Assignment) error {
	for _, m := range as.Service.Container.Mounts {
		v, ok := as.Stack.Volumes[m.Source]
		if !ok || m.Type != stack.MountVolume {
			continue
		}
		if !v.External {
			v = v.Clone()
			if v.Labels == nil {
				v.Labels = map[string]string{}
			}
			v.Labels["com.docker.compose.project"] = as.Task.Stack
			v.Labels["com.docker.compose.volume"] = m.Source
			v.Labels["com.docker.compose.version"] = composeVersion
		}
		if err := a.cfg.Volumes.Ensure(ctx, v); err != nil {
			return fmt.Errorf("volume %s: %w", m.Source, err)
		}
	}
	return nil
}

// lastWords keeps new requests away for a moment from a container whose node is
// back: its task was replaced meanwhile, and it has got requests until now.
func (a *Agent) lastWords(ctx context.Context, as stack.Assignment, c *runtime.Container) {
	end := as.Task.End
	if end == nil || !end.Lost || c.State.Status != runtime.Running || as.Service != nil && as.Service.Exclusive {
		return
	}
	if err := a.cfg.Engine.Serve(ctx, c.ID, false); err != nil {
		a.log.Warn("new requests are not kept away", "task", as.Task.ID, "error", err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(lastWordsTime):
	}
}

// lastWordsTime is long enough for requests that are under way, and for the other
// nodes to learn that there are to be no more.
const lastWordsTime = 500 * time.Millisecond

// stop ends a container the way it asked for; a frozen one cannot hear.
func (a *Agent) stop(ctx context.Context, c *runtime.Container, grace *time.Duration) error {
	if c.State.Status == runtime.Paused {
		if err := ignore(a.cfg.Engine.Unpause(ctx, c.ID), runtime.ErrNotModified); err != nil {
			return err
		}
	}
	return ignore(a.cfg.Engine.Stop(ctx, c.ID, "", grace), runtime.ErrNotModified, runtime.ErrNotRunning)
}

func (a *Agent) remove(ctx context.Context, c *runtime.Container, volumes bool, grace *time.Duration) error {
	if s := c.State.Status; s == runtime.Running || s == runtime.Paused || s == runtime.Restarting {
		if err := ignore(a.stop(ctx, c, grace), runtime.ErrNotFound); err != nil {
			return err
		}
	}
	return ignore(a.cfg.Engine.Remove(ctx, c.ID, runtime.RemoveOptions{Force: true, Volumes: volumes}), runtime.ErrNotFound)
}

// discard removes the anonymous volumes of a task that has no container: it may
// have inherited some and ended before it had one.
func (a *Agent) discard(ctx context.Context, t stack.Task) error {
	var errs []error
	for _, name := range t.AnonymousVolumes() {
		if err := a.cfg.Volumes.Discard(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("discard volume %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// inspect returns nil for a container that is gone, and for no ID.
func (a *Agent) inspect(ctx context.Context, id string) (*runtime.Container, error) {
	if id == "" {
		return nil, nil
	}
	c, err := a.cfg.Engine.Inspect(ctx, id)
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, nil
	}
	return c, err
}

// ignore turns some errors into success.
func ignore(err error, fine ...error) error {
	if slices.ContainsFunc(fine, func(f error) bool { return errors.Is(err, f) }) {
		return nil
	}
	return err
}

// acquire takes one of the slots, which are the channel's capacity.
func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// backoff is how long to wait after n failures in a row.
func backoff(n int) time.Duration {
	d := 100 * time.Millisecond << min(n-1, 9)
	return min(d, 30*time.Second)
}

// final reports whether an error will not go away by itself, so that the task
// is said to have failed at once. It is tried again nevertheless, now and then.
func final(err error) bool {
	for _, f := range []error{runtime.ErrInvalid, runtime.ErrNotFound, runtime.ErrForbidden, runtime.ErrConflict} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}
