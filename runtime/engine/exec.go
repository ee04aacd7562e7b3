package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// execs is one further process in a container.
type execs struct {
	c       *container
	id      string
	spec    runtime.ExecSpec
	created time.Time
	done    chan struct{} // closed when the exit code is known

	mu      sync.Mutex
	started bool              // guarded by mu
	code    *int              // guarded by mu; nil until it has ended
	pid     int               // guarded by mu
	session *shim.ExecSession // guarded by mu; nil until it runs
}

func (x *execs) running() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.session != nil && x.code == nil
}

func (x *execs) ended(code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.code == nil {
		x.code = &code
		close(x.done)
	}
}

// ExecCreate records a further process for a running container.
func (e *Engine) ExecCreate(_ context.Context, ref string, spec runtime.ExecSpec) (string, error) {
	c, err := e.find(ref)
	if err != nil {
		return "", err
	}
	if len(spec.Args) == 0 {
		return "", fmt.Errorf("exec: no command: %w", runtime.ErrInvalid)
	}
	if err := c.mustRun("exec in"); err != nil {
		return "", err
	}
	x := &execs{c: c, id: newID(), spec: spec, created: time.Now(), done: make(chan struct{})}
	e.addExec(c, x)
	e.publish(c, "exec_create: "+strings.Join(spec.Args, " "), "execID", x.id)
	return x.id, nil
}

// mustRun refuses what needs a running container that is not frozen.
func (c *container) mustRun(verb string) error {
	r, status := c.current()
	switch {
	case r == nil:
		return fmt.Errorf("%s container %s: %w", verb, c.name(), runtime.ErrNotRunning)
	case status == runtime.Paused:
		return fmt.Errorf("%s container %s: it is paused: %w", verb, c.name(), runtime.ErrConflict)
	}
	return nil
}

func (e *Engine) findExec(id string) (*execs, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.execs[id]
	if x == nil {
		return nil, fmt.Errorf("exec %s: %w", id, runtime.ErrNotFound)
	}
	return x, nil
}

// ExecStart runs a recorded process, once. Detached, it returns no streams.
// Where the runtime cannot execute the command the exit code is 126 or 127.
func (e *Engine) ExecStart(ctx context.Context, execID string, detach bool) (*runtime.Streams, error) {
	x, err := e.findExec(execID)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	if x.started {
		x.mu.Unlock()
		return nil, fmt.Errorf("exec %s has been started before: %w", short(x.id), runtime.ErrConflict)
	}
	x.started = true
	x.mu.Unlock()
	s, r, err := e.runExec(context.WithoutCancel(ctx), x.c, x.id, x.spec, detach)
	if err != nil {
		var refused *shim.RuntimeError
		if errors.As(err, &refused) {
			x.ended(refused.Code)
		} else {
			x.ended(126)
		}
		return nil, fmt.Errorf("container %s: %w", x.c.name(), err)
	}
	x.mu.Lock()
	x.session, x.pid = s, s.Pid
	x.mu.Unlock()
	e.publish(x.c, "exec_start: "+strings.Join(x.spec.Args, " "), "execID", x.id)
	e.keep(x)
	e.spawn(func() { e.watchExec(x, r, s) })
	if detach {
		return nil, nil
	}
	return x.finalStreams(s), nil
}

// runExec starts a process in c, in the run that it returns too.
func (e *Engine) runExec(ctx context.Context, c *container, id string, spec runtime.ExecSpec, detach bool) (*shim.ExecSession, *run, error) {
	if err := c.mustRun("exec in"); err != nil {
		return nil, nil, err
	}
	r, _ := c.current()
	if r == nil {
		return nil, nil, runtime.ErrNotRunning
	}
	base, err := e.processOf(c, r)
	if err != nil {
		return nil, nil, err
	}
	p, err := oci.Exec(&specs.Spec{Process: base}, c.spec(), e.rootfs(c.id), spec, e.facts)
	if err != nil {
		return nil, nil, err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, nil, err
	}
	s, err := r.client.Exec(ctx, shim.ExecConfig{
		ID: id, Process: data, TTY: spec.TTY, Rows: spec.Rows, Cols: spec.Cols,
		Stdin: spec.Stdin && !detach, Stdout: (spec.Stdout || spec.TTY) && !detach, Stderr: spec.Stderr && !detach,
	})
	return s, r, err
}

// processOf is the container's own process, read back from the bundle after a
// restart of the daemon.
func (e *Engine) processOf(c *container, r *run) (*specs.Process, error) {
	c.mu.Lock()
	p := r.process
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	var spec specs.Spec
	if err := readJSON(filepath.Join(e.bundleDir(c.id), "config.json"), &spec); err != nil {
		return nil, err
	}
	if spec.Process == nil || spec.Process.Capabilities == nil {
		return nil, errors.New("the bundle has no process")
	}
	c.mu.Lock()
	r.process = spec.Process
	c.mu.Unlock()
	return spec.Process, nil
}

// watchExec records the end of a process and tells. A client that leaves takes
// its connection along, not the process.
func (e *Engine) watchExec(x *execs, r *run, s *shim.ExecSession) {
	code := 137
	select {
	case exit, ok := <-s.Wait():
		if ok && exit.Lost && e.rejoin(x, r) {
			return
		}
		if ok {
			code = exit.Code
		}
	case <-e.closing:
		return
	}
	x.ended(code)
	e.keep(x)
	e.publish(x.c, "exec_die", "execID", x.id, "exitCode", strconv.Itoa(code))
}

// finalStreams hold back the end of the output until the exit code is known,
// so that who has read everything finds it.
func (x *execs) finalStreams(s *shim.ExecSession) *runtime.Streams {
	out := *s.Streams
	if out.Stdout != nil {
		out.Stdout = finalReader{out.Stdout, x.done}
	}
	if out.Stderr != nil {
		out.Stderr = finalReader{out.Stderr, x.done}
	}
	return &out
}

type finalReader struct {
	io.Reader
	done <-chan struct{}
}

func (r finalReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		<-r.done
	}
	return n, err
}

// ExecInspect tells how a process is.
func (e *Engine) ExecInspect(_ context.Context, execID string) (*runtime.Exec, error) {
	x, err := e.findExec(execID)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	out := &runtime.Exec{ID: x.id, ContainerID: x.c.id, Spec: x.spec, Running: x.session != nil && x.code == nil, Pid: x.pid}
	if x.code != nil {
		code := *x.code
		out.ExitCode = &code
	}
	return out, nil
}

// ExecResize sets the size of a process' terminal.
func (e *Engine) ExecResize(ctx context.Context, execID string, rows, cols uint16) error {
	x, err := e.findExec(execID)
	if err != nil {
		return err
	}
	x.mu.Lock()
	s := x.session
	if !x.started { // the size is known before the start
		x.spec.Rows, x.spec.Cols = rows, cols
	}
	over := x.code != nil
	x.mu.Unlock()
	if over {
		return fmt.Errorf("exec %s: %w", short(execID), runtime.ErrNotRunning)
	}
	if s == nil {
		return nil
	}
	return s.Resize(ctx, rows, cols)
}
