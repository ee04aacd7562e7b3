package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/runtime/shim/logs"
	"golang.org/x/sync/errgroup"
)

// Start starts a container that does not run. A running one is ErrNotModified.
// The start goes on when ctx ends: half a container is of no use to anyone.
func (e *Engine) Start(ctx context.Context, ref string) error {
	c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	err = e.startByHand(context.WithoutCancel(ctx), c)
	c.op.unlock()
	if err != nil {
		return err
	}
	return e.postStart(ctx, c)
}

// startByHand starts with a clean slate for the restart policy. op is held.
func (e *Engine) startByHand(ctx context.Context, c *container) error {
	c.mu.Lock()
	switch {
	case c.st.Removing:
		c.mu.Unlock()
		return fmt.Errorf("container %s is being removed: %w", c.name(), runtime.ErrConflict)
	case c.st.Status == runtime.Paused:
		c.mu.Unlock()
		return fmt.Errorf("container %s is paused: unpause it: %w", c.name(), runtime.ErrConflict)
	case c.st.Status == runtime.Running:
		c.mu.Unlock()
		return fmt.Errorf("container %s is running: %w", c.name(), runtime.ErrNotModified)
	}
	c.cancelRetryLocked()
	c.st.ManuallyStopped, c.st.RestartCount, c.st.Attempts, c.st.Delay = false, 0, nil, 0
	c.mu.Unlock()
	err := e.start(ctx, c)
	if err == nil {
		return nil
	}
	e.failed(c, err)
	return fmt.Errorf("start container %s: %w", c.name(), err)
}

// start runs the container's process. When it returns an error, nothing is
// left of the attempt. op is held.
func (e *Engine) start(ctx context.Context, c *container) error {
	b := &bundle{e: e, c: c, dir: e.bundleDir(c.id)}
	c.mu.Lock()
	b.rec = c.rec
	c.mu.Unlock()
	if e.registered(c.id) { // what the last run has left could not be let go of then
		if err := e.cleanup(ctx, c); err != nil {
			return err
		}
	}
	defer b.share.close()
	err := b.prepare(ctx)
	if err == nil {
		err = b.launch(ctx)
	}
	if err != nil {
		if b.client != nil {
			_ = b.client.Close()
		}
		return errors.Join(err, e.cleanup(ctx, c))
	}
	return nil
}

// bundle is one start under way.
type bundle struct {
	e   *Engine
	c   *container
	rec record
	dir string

	client  *shim.Client
	net     *overlaynet.Connected
	sandbox *overlaynet.Sandbox
	vols    []prepared
	share   sharing
	run     *run
}

// prepare makes root file system, volumes, network and shim side by side, and
// then what depends on them.
func (b *bundle) prepare(ctx context.Context) error {
	if err := os.Mkdir(b.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var err error
	if err = b.e.share(ctx, b.rec, &b.share); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.mountAll(gctx) })
	g.Go(func() error { return b.connect(gctx) })
	g.Go(func() error { return b.shim(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	return b.writeSpec(ctx)
}

func (b *bundle) mountAll(ctx context.Context) error {
	if err := b.e.cfg.Images.MountRootfs(ctx, b.c.id, b.rec.ImageID, b.e.rootfs(b.c.id)); err != nil {
		return err
	}
	return b.prepareVolumes(ctx)
}

func (b *bundle) connect(ctx context.Context) error {
	b.sandbox = sandboxOf(b.rec)
	if b.sandbox == nil {
		return nil
	}
	n, err := b.e.cfg.Networks.Connect(ctx, *b.sandbox)
	b.net = n
	return err
}

func (b *bundle) shim(ctx context.Context) error {
	s := b.rec.Spec
	path, err := b.e.runtimePath(s.Runtime)
	if err != nil {
		return err
	}
	l, err := logConfig(s.Log, b.e.store.logPath(b.c.id))
	if err != nil {
		return err
	}
	b.client, err = shim.Launch(ctx, b.e.cfg.Shim, shim.Config{
		ID: b.c.id, Bundle: b.dir, Dir: b.dir, Runtime: path, RuntimeRoot: b.e.runtimeRoot(), CgroupPath: b.e.cgroupPath(b.rec),
		TTY: s.TTY, Stdin: s.OpenStdin, StdinOnce: s.StdinOnce, Rows: s.ConsoleSize[0], Cols: s.ConsoleSize[1],
		Log:   logs.Config{Driver: l.Driver, Path: l.Path, MaxSize: l.MaxSize, MaxFiles: l.MaxFiles},
		Lease: b.e.leaseOf(b.rec.Spec),
	})
	return err
}

// launch lets those in who attached before the start, runs the process, saves
// that it runs, and tells.
func (b *bundle) launch(ctx context.Context) error {
	e, c := b.e, b.c
	c.mu.Lock()
	late := c.late
	c.late = nil
	c.mu.Unlock()
	for _, l := range late {
		l.connect(ctx, b.client)
	}
	pid, err := b.client.Run(ctx)
	for _, l := range late {
		l.settle(err)
	}
	if err != nil {
		return err
	}
	b.run.client = b.client
	c.mu.Lock()
	c.run, c.unsure = b.run, false
	st := &c.st
	st.Status, st.Pid, st.ExitCode, st.Error, st.OOMKilled, st.Unhealthy = runtime.Running, pid, 0, "", false, false
	st.StartedAt, st.FinishedAt, st.Boot = time.Now(), time.Time{}, e.boot
	st.Connected, st.Sandbox, st.Health = b.net, b.sandbox, nil
	probe, checked := b.rec.probe()
	if checked {
		st.Health = &runtime.Health{Status: "starting"}
	}
	c.withdrawn = false
	started, using := st.StartedAt, c.useLocked()
	if err = e.saveLocked(c); err != nil {
		c.run = nil
	}
	c.touchLocked()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if b.sandbox != nil {
		e.cfg.Networks.SetReady(c.id, !checked)
	}
	e.publishUse(c, using)
	e.publish(c, "start")
	if checked {
		e.watchHealth(c, b.run, probe, started, runtime.Health{})
	}
	e.watch(c, b.run)
	return nil
}

// failed records why a container could not be started. op is held.
func (e *Engine) failed(c *container, cause error) {
	c.mu.Lock()
	st := &c.st
	st.Pid, st.Error, st.ExitCode, st.FinishedAt = 0, cause.Error(), startExitCode(cause), time.Now()
	if st.Status != runtime.Created {
		st.Status = runtime.Exited
	}
	if err := e.saveLocked(c); err != nil {
		e.log.Error("container state not saved", "container", c.rec.Name, "err", err)
	}
	auto := c.rec.Spec.AutoRemove
	late := c.late
	c.late = nil
	c.notifyLocked(false)
	c.touchLocked()
	c.mu.Unlock()
	for _, l := range late {
		l.fail()
	}
	e.log.Warn("container could not be started", "container", c.name(), "err", cause)
	if auto {
		e.spawn(func() { e.autoRemove(c) })
	}
}

// startExitCode is 127 (not found) or 126 (not executable) where the runtime
// says so, and 128 for other reasons, as Docker does.
func startExitCode(err error) int {
	var refused *shim.RuntimeError
	if errors.As(err, &refused) && refused.Code != 0 {
		return refused.Code
	}
	return 128
}
