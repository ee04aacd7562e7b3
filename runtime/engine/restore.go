package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/health"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/stack"
)

// restore takes over what an earlier daemon left: running containers go on
// where they are, ended ones get their exit code, half-done starts are undone,
// half-done removals are finished, and what has no owner is swept.
func (e *Engine) restore(ctx context.Context) error {
	all, err := e.store.load(func(id string, err error) {
		e.log.Error("container record", "id", id, "err", err)
	})
	if err != nil {
		return fmt.Errorf("containers: %w", err)
	}
	for _, c := range all {
		e.containers[c.id] = c
		if holder := e.names[c.rec.Name]; holder != "" {
			e.log.Error("two containers with one name", "name", c.rec.Name, "ids", []string{holder, c.id})
			continue
		}
		e.names[c.rec.Name] = c.id
	}
	found := e.findRuns(ctx, all)
	e.restoreNetworks(ctx, found)
	if err := e.cfg.Volumes.Known(ctx, volumeUsers(all)); err != nil {
		e.log.Error("volumes of earlier containers", "err", err)
	}
	e.sweep(ctx, found)
	if err := e.cfg.Images.SweepRootfs(ctx, e.store.has); err != nil {
		e.log.Error("writable layers without a container", "err", err)
	}
	for _, c := range all {
		e.settleRestored(ctx, c, found[c.id])
	}
	return nil
}

// found is what restore found of one container's run.
type found struct {
	client *shim.Client // it runs
	state  shim.State
	exit   *shim.Exit // it ran and has ended
	junk   bool       // remains of a start that never came to its end
}

// findRuns looks behind every container that has, or should have, a bundle.
func (e *Engine) findRuns(ctx context.Context, all []*container) map[string]*found {
	out := map[string]*found{}
	for _, c := range all {
		dir := e.bundleDir(c.id)
		_, err := os.Lstat(dir)
		switch hasBundle := err == nil; {
		case alive(c.st.Status):
			out[c.id] = e.findRun(ctx, c, dir, hasBundle)
		case hasBundle && c.unsure:
			out[c.id] = e.findUnsure(ctx, c, dir)
		case hasBundle:
			out[c.id] = &found{junk: true}
		}
	}
	return out
}

func (e *Engine) findRun(ctx context.Context, c *container, dir string, hasBundle bool) *found {
	lost := func(why string) *found {
		return &found{exit: &shim.Exit{Code: 255, At: time.Now(), Error: why}}
	}
	if c.st.Boot != e.boot {
		return lost("the machine went down")
	}
	if !hasBundle {
		return lost("its bundle is gone")
	}
	client, err := shim.Connect(ctx, dir)
	if err == nil {
		st, err := client.State(ctx)
		if err == nil && st.Phase == "running" {
			return &found{client: client, state: st}
		}
		if err == nil && st.Phase == "exited" { // exit.json is there, or will be in a moment
			select {
			case exit, ok := <-client.Wait():
				if ok && !exit.Lost {
					client.Close()
					return &found{exit: &exit}
				}
			case <-time.After(5 * time.Second):
			}
		}
		client.Close()
	}
	exit := e.settle(c)
	return &found{exit: &exit}
}

// findUnsure asks the shim of a container whose state could not be read. One
// that runs goes on; what the state alone knew, such as its address, begins anew.
func (e *Engine) findUnsure(ctx context.Context, c *container, dir string) *found {
	if client, err := shim.Connect(ctx, dir); err == nil {
		st, err := client.State(ctx)
		if err == nil && st.Phase == "running" {
			c.st = state{
				State:   runtime.State{Status: runtime.Running, Pid: st.Pid, StartedAt: st.StartedAt},
				Sandbox: sandboxOf(c.rec), Connected: &overlaynet.Connected{}, Boot: e.boot,
			}
			return &found{client: client, state: st}
		}
		_ = client.Close()
	}
	if exit, err := shim.ReadExit(dir); err == nil {
		return &found{exit: &exit}
	}
	return &found{junk: true}
}

// reconnected asks what the network made of a container whose connection was
// not known.
func (e *Engine) reconnected(c *container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.Connected = nil; c.st.Sandbox != nil {
		now, err := e.cfg.Networks.Rename(c.id, c.st.Sandbox.DNSNames)
		if err != nil {
			e.log.Error("network of a container whose state was lost", "container", c.rec.Name, "err", err)
		} else {
			c.st.Connected = now
		}
	}
	if err := e.saveLocked(c); err != nil {
		e.log.Error("container state not saved", "container", c.rec.Name, "err", err)
	}
}

// restoreNetworks tells the network which sandboxes exist; it sweeps the rest.
// What cannot be restored, such as a network that is no more, is no reason not
// to start: the others need somebody who looks after them.
func (e *Engine) restoreNetworks(ctx context.Context, runs map[string]*found) {
	var have, unsure []overlaynet.Restored
	for id, f := range runs {
		st := e.containers[id].st
		if f.client == nil || st.Sandbox == nil || st.Connected == nil {
			continue
		}
		ready := st.Health == nil || st.Health.Status == health.Healthy
		r := overlaynet.Restored{Sandbox: *st.Sandbox, Connected: *st.Connected, Ready: ready}
		if e.containers[id].unsure {
			unsure = append(unsure, r)
		} else {
			have = append(have, r)
		}
	}
	// Those that get new addresses come last: what the others have is taken.
	if err := e.cfg.Networks.Restore(ctx, append(have, unsure...)); err != nil {
		e.log.Error("networks of running containers are not as they were", "err", err)
	}
}

// volumeUsers are the volumes that each container has in its mounts.
func volumeUsers(all []*container) map[string][]string {
	out := map[string][]string{}
	for _, c := range all {
		names := []string{}
		for _, p := range c.st.Mounts {
			if p.Type == stack.MountVolume && p.Name != "" {
				names = append(names, p.Name)
			}
		}
		out[c.id] = names
	}
	return out
}

// sweep removes bundles without container and cgroups without process.
func (e *Engine) sweep(ctx context.Context, runs map[string]*found) {
	running := map[string]bool{}
	for id, f := range runs {
		running[id] = f.client != nil
	}
	known := map[string]bool{}
	for id := range e.containers {
		known[id[:16]] = true
	}
	entries, _ := os.ReadDir(e.bundles())
	for _, entry := range entries {
		if known[entry.Name()] {
			continue
		}
		if err := e.sweepBundle(ctx, entry.Name()); err != nil {
			e.log.Error("remains of a container", "bundle", entry.Name(), "err", err)
		}
	}
	e.sweepStates(ctx, runs)
	e.sweepCgroups(running)
}

// sweepBundle ends and removes a bundle that has no record.
func (e *Engine) sweepBundle(ctx context.Context, name string) error {
	dir := filepath.Join(e.bundles(), name)
	id := name
	if cfg, err := shim.ReadConfig(dir); err == nil {
		id = cfg.ID
		if _, err := shim.Cleanup(ctx, dir); err != nil {
			return err
		}
	}
	for _, sub := range []string{"files", "shm", "rootfs", "copy"} {
		unmount(filepath.Join(dir, sub))
	}
	if id != name {
		if err := e.cfg.Images.RemoveRootfs(ctx, id, filepath.Join(dir, "rootfs")); err != nil {
			return err
		}
	}
	return removeFlat(dir)
}

// settleRestored brings one container into a consistent state.
func (e *Engine) settleRestored(ctx context.Context, c *container, f *found) {
	switch {
	case f == nil:
	case f.client != nil:
		if c.unsure {
			e.reconnected(c)
		}
		e.adopt(c, f)
	case f.junk:
		if err := e.cleanup(ctx, c); err != nil {
			e.log.Error("remains of a start", "container", c.rec.Name, "err", err)
		}
	default:
		e.exited(ctx, c, nil, *f.exit)
	}
	r, _ := c.current()
	e.restoreExecs(c, r)
	e.laterAtStart(c)
}

// adopt goes on with a container that runs.
func (e *Engine) adopt(c *container, f *found) {
	r := &run{client: f.client, done: make(chan struct{}), lost: make(chan struct{})}
	c.mu.Lock()
	c.run = r
	c.st.Pid = f.state.Pid
	c.st.Status = runtime.Running
	if f.state.Paused {
		c.st.Status = runtime.Paused
	}
	have := runtime.Health{}
	if c.st.Health != nil {
		have = *c.st.Health
	}
	started := c.st.StartedAt
	probe, checked := c.rec.probe()
	c.mu.Unlock()
	if checked {
		e.watchHealth(c, r, probe, started, have)
		r.probe.Pause(f.state.Paused)
	}
	r.oomKills = e.oomKills(c) // told by the daemon before
	e.watch(c, r)
	e.log.Info("container taken over", "container", c.rec.Name, "pid", f.state.Pid)
}

// laterAtStart queues what Run has to do: finish removals, and restart what the
// policies want running.
func (e *Engine) laterAtStart(c *container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.st.Removing:
		e.resume = append(e.resume, func() { e.finishRemoval(c) })
	case c.st.Status == runtime.Restarting:
		if c.retry == nil {
			e.resume = append(e.resume, func() { e.restartNow(c) })
		}
	case c.st.Status == runtime.Exited && startsWithDaemon(c.rec.Spec, c.st, e.boot):
		c.st.Status = runtime.Restarting
		e.resume = append(e.resume, func() { e.restartNow(c) })
	case c.st.Status == runtime.Exited && c.rec.Spec.AutoRemove:
		e.resume = append(e.resume, func() { e.autoRemove(c) })
	}
}

// startsWithDaemon: as in Docker, "always" starts with the daemon even what a
// person stopped, but not a container of a task: what that one should do is
// known to the managers.
func startsWithDaemon(s stack.ContainerSpec, st state, boot string) bool {
	return s.Restart.Condition == "always" && st.ManuallyStopped && s.Labels[TaskLabel] == ""
}

// TaskLabel is on containers that belong to a task; its value is the task's ID.
const TaskLabel = "dhow.task"

func (e *Engine) finishRemoval(c *container) {
	err := e.Remove(context.Background(), c.id, runtime.RemoveOptions{Force: true})
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		e.log.Error("removal not finished", "container", c.name(), "err", err)
	}
}

// withRootfs mounts the root file system of a container that does not run, for
// the time of f. op is held.
func (e *Engine) withRootfs(ctx context.Context, c *container, f func() error) error {
	dir := e.bundleDir(c.id)
	if r, _ := c.current(); r != nil {
		return f()
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	c.mu.Lock()
	imageID := c.rec.ImageID
	c.mu.Unlock()
	err := e.cfg.Images.MountRootfs(ctx, c.id, imageID, e.rootfs(c.id))
	if err == nil {
		err = f()
	}
	if unmountErr := e.cfg.Images.UnmountRootfs(ctx, c.id, e.rootfs(c.id)); unmountErr != nil {
		return errors.Join(err, unmountErr)
	}
	return errors.Join(err, removeFlat(dir))
}
