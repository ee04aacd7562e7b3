package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sync/errgroup"
)

// watch handles the end of r when it comes.
func (e *Engine) watch(c *container, r *run) {
	exits := r.client.Wait()
	e.spawn(func() {
		var exit shim.Exit
		var ok bool
		oom, end := e.watchOOM(c)
		defer end()
		e.tellOOM(c, r) // what came before the watch
		for waiting := true; waiting; {
			select {
			case exit, ok = <-exits:
				waiting = false
			case <-oom:
				e.tellOOM(c, r)
			case <-e.closing:
				return
			}
		}
		select {
		case <-e.closing: // the next daemon handles it
			return
		default:
		}
		if !ok || exit.Lost {
			exit = e.settle(c)
		}
		if err := c.op.lock(context.Background()); err != nil {
			return
		}
		defer c.op.unlock()
		e.exited(context.Background(), c, r, exit)
	})
}

// settle ends what a killed shim has left and says how the container ended.
func (e *Engine) settle(c *container) shim.Exit {
	dir := e.bundleDir(c.id)
	if exit, err := shim.ReadExit(dir); err == nil && !exit.Lost {
		return exit
	}
	exit, err := shim.Cleanup(context.Background(), dir)
	if err != nil {
		e.log.Error("container left behind by its shim", "container", c.name(), "err", err)
		return shim.Exit{Code: 255, At: time.Now(), Error: err.Error()}
	}
	return exit
}

// exited records the end of a run, lets go of what it used, tells, and applies
// the restart policy. op is held. r is nil when the end was found at Open.
//
// Removing links takes the kernel long. Who waits for the end is told before,
// unless the container has something that others may want to have next; whoever
// then starts or removes it waits for op, so for the clean-up too.
func (e *Engine) exited(ctx context.Context, c *container, r *run, exit shim.Exit) {
	if r != nil {
		r.probe.Stop()
		_ = r.client.Close()
	}
	c.mu.Lock()
	used, coveted := c.useLocked(), c.covetedLocked()
	c.mu.Unlock()
	again, delay := e.recordExit(c, exit)
	if !coveted {
		e.tellExit(c, r, exit, again)
	}
	if err := e.cleanup(ctx, c); err != nil {
		e.log.Error("container not cleaned up", "container", c.name(), "err", err)
	}
	if coveted {
		e.tellExit(c, r, exit, again)
	}
	e.publishRelease(c, used)
	e.log.Debug("container ended", "container", c.name(), "code", exit.Code, "restart", again)
	c.mu.Lock()
	auto := !again && !c.keep && c.rec.Spec.AutoRemove
	if again {
		e.retryLocked(c, delay)
	}
	c.touchLocked()
	c.mu.Unlock()
	if r != nil {
		close(r.done)
	}
	if auto {
		e.spawn(func() { e.autoRemove(c) })
	}
}

// covetedLocked: the run holds host ports or an address of its own choice.
func (c *container) covetedLocked() bool {
	sb := c.st.Sandbox
	return sb != nil && (len(sb.Ports) > 0 || sb.PublishAll ||
		slices.ContainsFunc(sb.Attachments, func(a stack.Attachment) bool { return a.IPv4 != "" || a.IPv6 != "" }))
}

// tellExit publishes the end and answers those who wait for it.
func (e *Engine) tellExit(c *container, r *run, exit shim.Exit, again bool) {
	e.dropPending(c)
	if exit.OOMKilled && (r == nil || r.oomKills == 0) { // not told live
		e.publish(c, "oom")
	}
	e.publish(c, "die", "exitCode", fmt.Sprint(exit.Code))
	if again {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notifyLocked(false)
	c.touchLocked()
}

// recordExit saves how the run ended and whether it will be repeated.
func (e *Engine) recordExit(c *container, exit shim.Exit) (again bool, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := &c.st
	c.run = nil
	st.Pid, st.ExitCode, st.OOMKilled, st.Error = 0, exit.Code, exit.OOMKilled, exit.Error
	st.FinishedAt = exit.At
	if st.FinishedAt.IsZero() {
		st.FinishedAt = time.Now()
	}
	if st.Unhealthy {
		st.Error = "stopped because it was unhealthy"
		st.ExitCode = max(st.ExitCode, 1)
	}
	again, delay = decideRestart(c.rec.Spec.Restart, c.st, time.Now())
	again = again && !c.keep && exit.Error != lease.Ended // another node may run it next
	st.Status = runtime.Exited
	if again {
		st.Status = runtime.Restarting
	}
	st.Connected, st.Sandbox = nil, nil
	if err := e.saveLocked(c); err != nil {
		e.log.Error("container state not saved", "container", c.rec.Name, "err", err)
	}
	return again, delay
}

// cleanup lets go of everything that a start made. It may be repeated; what
// could not be let go of is tried again at the next start or Open.
func (e *Engine) cleanup(ctx context.Context, c *container) error {
	dir := e.bundleDir(c.id)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return e.unregister(ctx, c)
	}
	var left error
	if exit, err := shim.ReadExit(dir); err != nil || exit.Lost {
		if _, err := shim.Cleanup(ctx, dir); err != nil && !errors.Is(err, runtime.ErrNotFound) {
			left = err
		}
	}
	if left == nil {
		left = e.unregister(ctx, c)
	}
	var g errgroup.Group
	g.Go(func() error { return e.cfg.Networks.Disconnect(ctx, c.id) })
	g.Go(func() error {
		unmount(filepath.Join(dir, "files"))
		unmount(filepath.Join(dir, "shm"))
		return errors.Join(e.cfg.Volumes.Unmount(ctx, c.id), e.cfg.Images.UnmountRootfs(ctx, c.id, e.rootfs(c.id)))
	})
	if err := errors.Join(left, g.Wait()); err != nil {
		return err
	}
	e.removeCgroup(c)
	return removeFlat(dir)
}

// removeFlat removes a bundle directory without descending: what is still
// mounted in it must not be emptied.
func removeFlat(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Remove(dir)
}
