package runtimetest

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Create implements Engine.
func (f *Fake) Create(_ context.Context, name string, spec stack.ContainerSpec) (string, []string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = strings.TrimPrefix(name, "/")
	img, known := f.images[spec.Image]
	if f.images != nil && !known {
		return "", nil, fmt.Errorf("image %s: %w", spec.Image, runtime.ErrNotFound)
	}
	f.seq++
	if name == "" {
		name = fmt.Sprintf("fake_%d", f.seq)
	}
	for _, c := range f.containers {
		if c.Name == name {
			return "", nil, fmt.Errorf("name %q is in use by container %s: %w", name, c.ID, runtime.ErrConflict)
		}
	}
	c := &fakeContainer{changed: make(chan struct{}), files: map[string]fakeFile{}}
	c.Container = runtime.Container{
		ID: fmt.Sprintf("%064x", f.seq), Name: name, Created: f.now(), Spec: spec.Clone(),
		ImageID: img.ID, Image: img.Config, Driver: "fake",
		State: runtime.State{Status: runtime.Created},
	}
	f.containers[c.ID] = c
	f.eventLocked(c, "create", nil)
	return c.ID, nil, nil
}

// Start implements Engine.
func (f *Fake) Start(_ context.Context, ref string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if c.State.Status == runtime.Paused {
		return fmt.Errorf("container %s is paused: %w", c.Name, runtime.ErrConflict)
	}
	if running(c) {
		return fmt.Errorf("container %s is running: %w", c.Name, runtime.ErrNotModified)
	}
	c.RestartCount = 0
	return f.startLocked(c)
}

func (f *Fake) startLocked(c *fakeContainer) error {
	c.State.ManuallyStopped = false
	if err := f.failStart[c.Name]; err != nil {
		c.State.Error = err.Error()
		c.State.ExitCode = 127
		return fmt.Errorf("start container %s: %w", c.Name, err)
	}
	c.State.Status, c.State.Error, c.State.ExitCode, c.State.OOMKilled = runtime.Running, "", 0, false
	c.State.StartedAt, c.State.FinishedAt = f.now(), time.Time{}
	c.State.Pid = 1000 + f.seq
	c.State.Health = nil
	if h := c.Spec.Healthcheck; h != nil && len(h.Test) > 0 && h.Test[0] != "NONE" {
		c.State.Health = &runtime.Health{Status: "starting"}
	}
	f.eventLocked(c, "start", nil)
	if code, output, ends := ownExit(c); ends {
		if output != "" {
			f.printLocked(c, "stdout", output)
		}
		f.exitLocked(c, code)
	}
	return nil
}

// exitLocked ends the process, then applies the restart policy without delay.
// A container that ends by itself is started at most ten times here, so that a
// test with "always" and "true" comes to an end.
func (f *Fake) exitLocked(c *fakeContainer, code int) {
	c.State.Status, c.State.ExitCode, c.State.Pid = runtime.Exited, code, 0
	c.State.FinishedAt = f.now()
	f.eventLocked(c, "die", map[string]string{"exitCode": fmt.Sprint(code)})
	if f.restarts(c, code) {
		c.RestartCount++
		if f.startLocked(c) == nil {
			return
		}
	}
	c.notify(false)
	if c.Spec.AutoRemove {
		f.removeLocked(c)
	}
}

func (f *Fake) restarts(c *fakeContainer, code int) bool {
	p := c.Spec.Restart
	if c.State.ManuallyStopped || (p.MaxAttempts > 0 && c.RestartCount >= p.MaxAttempts) {
		return false
	}
	if _, _, ends := ownExit(c); ends && c.RestartCount >= 10 {
		return false
	}
	switch p.Condition {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0
	}
	return false
}

// Stop implements Engine.
func (f *Fake) Stop(_ context.Context, ref, signal string, _ *time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	c.State.ManuallyStopped = true
	if !running(c) {
		return fmt.Errorf("container %s is not running: %w", c.Name, runtime.ErrNotModified)
	}
	f.eventLocked(c, "kill", map[string]string{"signal": "15"})
	f.exitLocked(c, 128+15)
	if _, still := f.containers[c.ID]; still {
		f.eventLocked(c, "stop", nil)
	}
	return nil
}

// Restart implements Engine.
func (f *Fake) Restart(ctx context.Context, ref, signal string, grace *time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if running(c) {
		auto := c.Spec.AutoRemove
		c.Spec.AutoRemove, c.State.ManuallyStopped = false, true
		f.exitLocked(c, 128+15)
		f.eventLocked(c, "stop", nil)
		c.Spec.AutoRemove = auto
	}
	if err := f.startLocked(c); err != nil {
		return err
	}
	f.eventLocked(c, "restart", nil)
	return nil
}

// Kill implements Engine. Every signal but those that commonly do not end a
// process (HUP, USR1, USR2, WINCH, CONT) ends it.
func (f *Fake) Kill(_ context.Context, ref, signal string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if !running(c) {
		return fmt.Errorf("container %s: %w", c.Name, runtime.ErrNotRunning)
	}
	name := strings.TrimPrefix(strings.ToUpper(signal), "SIG")
	number := map[string]syscall.Signal{"": syscall.SIGKILL, "KILL": syscall.SIGKILL, "9": syscall.SIGKILL, "TERM": syscall.SIGTERM, "15": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT}[name]
	f.eventLocked(c, "kill", map[string]string{"signal": fmt.Sprint(int(number))})
	if number == 0 {
		return nil
	}
	c.State.ManuallyStopped = true
	f.exitLocked(c, 128+int(number))
	return nil
}

// Serve implements what the agent needs.
func (f *Fake) Serve(_ context.Context, ref string, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if f.withdrawn == nil {
		f.withdrawn = map[string]bool{}
	}
	f.withdrawn[c.ID] = !on
	return nil
}

// Serves reports whether a container gets new requests.
func (f *Fake) Serves(ref string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	return err == nil && !f.withdrawn[c.ID]
}

// Pause implements Engine.
func (f *Fake) Pause(_ context.Context, ref string) error {
	return f.freeze(ref, runtime.Running, runtime.Paused, "pause")
}

// Unpause implements Engine.
func (f *Fake) Unpause(_ context.Context, ref string) error {
	return f.freeze(ref, runtime.Paused, runtime.Running, "unpause")
}

func (f *Fake) freeze(ref string, from, to runtime.Status, event string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if c.State.Status != from {
		return fmt.Errorf("container %s is %s: %w", c.Name, c.State.Status, runtime.ErrConflict)
	}
	c.State.Status = to
	f.eventLocked(c, event, nil)
	return nil
}

// Rename implements Engine.
func (f *Fake) Rename(_ context.Context, ref, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	for _, other := range f.containers {
		if other.Name == name {
			return fmt.Errorf("name %q is in use by container %s: %w", name, other.ID, runtime.ErrConflict)
		}
	}
	old := c.Name
	c.Name = name
	f.eventLocked(c, "rename", map[string]string{"oldName": "/" + old})
	return nil
}

// Remove implements Engine.
func (f *Fake) Remove(_ context.Context, ref string, opt runtime.RemoveOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if running(c) {
		if !opt.Force {
			return fmt.Errorf("container %s is running: stop it first or force: %w", c.Name, runtime.ErrConflict)
		}
		c.State.ManuallyStopped = true
		c.Spec.AutoRemove = false
		f.exitLocked(c, 137)
	}
	f.removeLocked(c)
	return nil
}

func (f *Fake) removeLocked(c *fakeContainer) {
	delete(f.containers, c.ID)
	for id, e := range f.execs {
		if e.ContainerID == c.ID {
			delete(f.execs, id)
		}
	}
	c.notify(true)
	f.eventLocked(c, "destroy", nil)
}

// Prune implements Engine.
func (f *Fake) Prune(_ context.Context, labels map[string]string) (runtime.PruneReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rep runtime.PruneReport
	for id, c := range f.containers {
		if !running(c) && matches(c, runtime.Filter{Labels: labels}) {
			rep.Deleted = append(rep.Deleted, id)
			f.removeLocked(c)
		}
	}
	return rep, nil
}

// Wait implements Engine.
func (f *Fake) Wait(_ context.Context, ref string, cond runtime.WaitCondition) (<-chan runtime.ExitStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return nil, err
	}
	ch := make(chan runtime.ExitStatus, 1)
	if (cond == "" || cond == runtime.WaitNotRunning) && !running(c) {
		ch <- runtime.ExitStatus{Code: c.State.ExitCode, Err: c.State.Error}
		return ch, nil
	}
	c.waiters = append(c.waiters, fakeWaiter{cond, ch})
	return ch, nil
}
