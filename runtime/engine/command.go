package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/health"
	"github.com/dhow-project/dhow/stack"
	"golang.org/x/sys/unix"
)

// command runs a process in c to its end and returns its exit code and the
// first bytes of its output. A context that ends kills it and its children.
func (e *Engine) command(ctx context.Context, c *container, spec runtime.ExecSpec, maxOutput int) (code int, output string, err error) {
	spec.Stdin, spec.Stdout, spec.Stderr = false, true, true
	s, _, err := e.runExec(ctx, c, newID(), spec, false)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = s.Close() }()
	stop := context.AfterFunc(ctx, func() {
		killCtx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Kill(killCtx, unix.SIGKILL)
		e.endSession(killCtx, c, s.Pid)
		_ = s.Close()
	})
	defer stop()
	out := &limited{max: maxOutput}
	var g sync.WaitGroup
	for _, r := range []io.Reader{s.Stdout, s.Stderr} {
		if r != nil {
			g.Go(func() { _, _ = io.Copy(out, r) })
		}
	}
	g.Wait()
	select {
	case exit, ok := <-s.Wait():
		if !ok || ctx.Err() != nil {
			return 0, out.String(), context.Cause(ctx)
		}
		return exit.Code, out.String(), exit.Err
	case <-ctx.Done():
		return 0, out.String(), ctx.Err()
	}
}

// limited keeps the first max bytes and counts the rest.
type limited struct {
	mu   sync.Mutex
	max  int
	buf  bytes.Buffer
	lost int
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(p), l.max-l.buf.Len())
	l.buf.Write(p[:n])
	l.lost += len(p) - n
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// watchHealth begins to probe a run.
func (e *Engine) watchHealth(c *container, r *run, cfg health.Config, started time.Time, have runtime.Health) {
	probe := func(ctx context.Context) runtime.HealthResult { return e.probe(ctx, c, cfg) }
	m := health.Start(cfg, started, have, probe, func(h runtime.Health) { e.healthResult(c, r, h) })
	c.mu.Lock()
	r.probe = m
	over := c.run != r
	c.mu.Unlock()
	if over {
		m.Stop()
	}
}

// probe runs the health check once, as Docker records it: -1 when it did not
// come to an end.
func (e *Engine) probe(ctx context.Context, c *container, cfg health.Config) runtime.HealthResult {
	res := runtime.HealthResult{Start: time.Now()}
	code, output, err := e.command(ctx, c, runtime.ExecSpec{Args: cfg.Args}, health.MaxOutput)
	res.End, res.ExitCode, res.Output = time.Now(), code, output
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		res.ExitCode, res.Output = -1, fmt.Sprintf("Health check exceeded timeout (%v)%s", cfg.Timeout, prefixed(": ", output))
	case err != nil:
		res.ExitCode, res.Output = -1, err.Error()
	}
	return res
}

func prefixed(p, s string) string {
	if s == "" {
		return ""
	}
	return p + s
}

// healthResult records a result; a change is told to the network and the bus.
// An unhealthy container is stopped when its policy says so.
func (e *Engine) healthResult(c *container, r *run, h runtime.Health) {
	c.mu.Lock()
	if c.run != r {
		c.mu.Unlock()
		return
	}
	before := ""
	if c.st.Health != nil {
		before = c.st.Health.Status
	}
	c.st.Health = &h
	changed := h.Status != before
	if changed {
		c.touchLocked()
	}
	replace := changed && h.Status == health.Unhealthy && c.rec.Spec.Restart.Unhealthy
	c.st.Unhealthy = c.st.Unhealthy || replace
	save := e.saveLocked
	if !changed {
		save = e.noteLocked
	}
	err := save(c)
	connected, ready := c.st.Connected != nil, c.readyLocked()
	c.mu.Unlock()
	if err != nil {
		e.log.Warn("health not saved", "container", c.name(), "err", err)
	}
	if !changed {
		return
	}
	if connected {
		e.cfg.Networks.SetReady(c.id, ready)
	}
	e.publish(c, "health_status: "+h.Status)
	if replace {
		e.spawn(func() {
			if err := e.stopRun(context.Background(), c, r, "", nil); err != nil {
				e.log.Warn("unhealthy container not stopped", "container", c.name(), "err", err)
			}
		})
	}
}

// postStart runs the hooks after a start. One that fails ends the container,
// to which the restart policy then applies.
func (e *Engine) postStart(ctx context.Context, c *container) error {
	hooks := c.spec().PostStart
	if len(hooks) == 0 {
		return nil
	}
	r, _ := c.current()
	if r == nil {
		return nil
	}
	for i, h := range hooks {
		err := e.hook(ctx, c, r, h)
		if err == nil {
			continue
		}
		select {
		case <-r.done: // it ended by itself meanwhile
			return nil
		default:
		}
		err = fmt.Errorf("container %s: post-start hook %d: %w", c.name(), i+1, err)
		if killErr := e.killRun(ctx, c, r); killErr != nil {
			e.log.Warn("container not ended after its hook", "container", c.name(), "err", killErr)
		}
		return err
	}
	return nil
}

// preStop runs the hooks before a stop, at most for the grace period. Their
// failure does not keep anyone from stopping.
func (e *Engine) preStop(ctx context.Context, c *container, r *run, grace time.Duration) {
	hooks := c.spec().PreStop
	if len(hooks) == 0 || c.status() != runtime.Running {
		return
	}
	if grace >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, grace)
		defer cancel()
	}
	for i, h := range hooks {
		if err := e.hook(ctx, c, r, h); err != nil {
			e.log.Warn("pre-stop hook", "container", c.name(), "hook", i+1, "err", err)
		}
	}
}

func (e *Engine) hook(ctx context.Context, c *container, r *run, h stack.Hook) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the container's end is the hook's
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	code, output, err := e.command(ctx, c, runtime.ExecSpec{
		Args: h.Command, Env: h.Env, User: h.User, WorkingDir: h.WorkingDir, Privileged: h.Privileged,
	}, health.MaxOutput)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit code %d%s", code, prefixed(": ", output))
	}
	return nil
}
