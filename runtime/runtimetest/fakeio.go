package runtimetest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
)

// fakeFile is one file that was copied into a container.
type fakeFile struct {
	data []byte
	mode int64
}

// Logs implements Engine.
func (f *Fake) Logs(ctx context.Context, ref string, opt runtime.LogOptions, emit func(runtime.LogEntry) error) error {
	f.mu.Lock()
	c, err := f.findLocked(ref)
	if err != nil {
		f.mu.Unlock()
		return err
	}
	next := 0
	if opt.Tail >= 0 && opt.Tail < len(c.log) {
		next = len(c.log) - opt.Tail
	}
	for {
		pending, alive, changed := c.log[next:], running(c), c.changed
		next = len(c.log)
		f.mu.Unlock()
		for _, e := range pending {
			wanted := (e.Stream == "stdout" && opt.Stdout) || (e.Stream == "stderr" && opt.Stderr)
			if !wanted || e.Time.Before(opt.Since) || (!opt.Until.IsZero() && e.Time.After(opt.Until)) {
				continue
			}
			if err := emit(e); err != nil {
				return err
			}
		}
		if !opt.Follow || !alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		f.mu.Lock()
	}
}

// Attach implements Engine: output is the log from now on (or from the start), input is discarded.
func (f *Fake) Attach(ctx context.Context, ref string, opt runtime.AttachOptions) (*runtime.Streams, error) {
	f.mu.Lock()
	c, err := f.findLocked(ref)
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	next := len(c.log)
	if opt.Logs {
		next = 0
	}
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	s := &runtime.Streams{Close: func() error { cancel(); return errors.Join(outR.Close(), errR.Close()) }}
	if opt.Stdin {
		s.Stdin = discard{}
	}
	if opt.Stdout {
		s.Stdout = outR
	}
	if opt.Stderr && !c.Spec.TTY {
		s.Stderr = errR
	}
	go func() {
		f.follow(ctx, c, next, func(e runtime.LogEntry) {
			switch {
			case e.Stream == "stdout" && s.Stdout != nil:
				_, _ = outW.Write(e.Line)
			case e.Stream == "stderr" && s.Stderr != nil:
				_, _ = errW.Write(e.Line)
			}
		})
		_, _ = outW.Close(), errW.Close()
	}()
	return s, nil
}

// follow calls emit for each entry until a container that ran has stopped.
func (f *Fake) follow(ctx context.Context, c *fakeContainer, next int, emit func(runtime.LogEntry)) {
	ran := false
	for {
		f.mu.Lock()
		pending, status, changed := c.log[next:], c.State.Status, c.changed
		next = len(c.log)
		f.mu.Unlock()
		for _, e := range pending {
			emit(e)
		}
		if status != runtime.Created {
			ran = true
		}
		if ran && status != runtime.Running && status != runtime.Paused {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// Resize implements Engine.
func (f *Fake) Resize(_ context.Context, ref string, rows, cols uint16) error {
	_, err := f.live(ref)
	return err
}

func (f *Fake) live(ref string) (runtime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return runtime.Container{}, err
	}
	if !running(c) {
		return runtime.Container{}, fmt.Errorf("container %s: %w", c.Name, runtime.ErrNotRunning)
	}
	return c.snapshot(), nil
}

// Top implements Engine: one process, the command.
func (f *Fake) Top(_ context.Context, ref string, _ []string) ([]string, [][]string, error) {
	c, err := f.live(ref)
	if err != nil {
		return nil, nil, err
	}
	argv := append(append([]string{}, c.Spec.Entrypoint...), c.Spec.Command...)
	return []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
		[][]string{{"root", fmt.Sprint(c.State.Pid), "1", "0", "00:00", "?", "00:00:00", strings.Join(argv, " ")}}, nil
}

// Stats implements Engine.
func (f *Fake) Stats(_ context.Context, ref string) (*runtime.Stats, error) {
	if _, err := f.live(ref); err != nil {
		return nil, err
	}
	return &runtime.Stats{Time: f.now(), CPUNanos: 1e6, SystemNanos: 1e9, OnlineCPUs: 1, Memory: 1 << 20, MemoryLimit: 1 << 30, Pids: 1}, nil
}

// ExecCreate implements Engine.
func (f *Fake) ExecCreate(_ context.Context, ref string, spec runtime.ExecSpec) (string, error) {
	c, err := f.live(ref)
	if err != nil {
		return "", err
	}
	if len(spec.Args) == 0 {
		return "", fmt.Errorf("exec: no command: %w", runtime.ErrInvalid)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	id := fmt.Sprintf("%064x", f.seq)
	f.execs[id] = &runtime.Exec{ID: id, ContainerID: c.ID, Spec: spec}
	f.eventLocked(f.containers[c.ID], "exec_create: "+strings.Join(spec.Args, " "), map[string]string{"execID": id})
	return id, nil
}

// ExecStart implements Engine.
func (f *Fake) ExecStart(_ context.Context, execID string, detach bool) (*runtime.Streams, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.execs[execID]
	if !ok {
		return nil, fmt.Errorf("exec %s: %w", execID, runtime.ErrNotFound)
	}
	if e.Running || e.ExitCode != nil {
		return nil, fmt.Errorf("exec %s has been started: %w", execID, runtime.ErrConflict)
	}
	c := f.containers[e.ContainerID]
	output, code := "", 0
	if f.onExec != nil {
		output, code = f.onExec(c.Name, e.Spec)
	}
	e.ExitCode = &code
	f.eventLocked(c, "exec_start: "+strings.Join(e.Spec.Args, " "), map[string]string{"execID": execID})
	f.eventLocked(c, "exec_die", map[string]string{"execID": execID, "exitCode": fmt.Sprint(code)})
	if detach {
		return nil, nil
	}
	s := &runtime.Streams{Close: func() error { return nil }}
	if e.Spec.Stdin {
		s.Stdin = discard{}
	}
	if e.Spec.Stdout || e.Spec.TTY {
		s.Stdout = strings.NewReader(output)
	}
	if e.Spec.Stderr && !e.Spec.TTY {
		s.Stderr = strings.NewReader("")
	}
	return s, nil
}

// ExecInspect implements Engine.
func (f *Fake) ExecInspect(_ context.Context, execID string) (*runtime.Exec, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.execs[execID]
	if !ok {
		return nil, fmt.Errorf("exec %s: %w", execID, runtime.ErrNotFound)
	}
	out := *e
	return &out, nil
}

// ExecResize implements Engine.
func (f *Fake) ExecResize(ctx context.Context, execID string, rows, cols uint16) error {
	_, err := f.ExecInspect(ctx, execID)
	return err
}

// StatPath implements Engine: it knows the files that CopyTo brought, and "/".
func (f *Fake) StatPath(_ context.Context, ref, name string) (*runtime.PathStat, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return nil, err
	}
	clean := path.Clean("/" + name)
	if clean == "/" {
		return &runtime.PathStat{Name: "/", Mode: 1<<31 | 0o755}, nil
	}
	file, ok := c.files[clean]
	if !ok {
		return nil, fmt.Errorf("container %s: path %s: %w", c.Name, name, runtime.ErrNotFound)
	}
	return &runtime.PathStat{Name: path.Base(clean), Size: int64(len(file.data)), Mode: uint32(file.mode), ModTime: time.Unix(0, 0)}, nil
}

// CopyFrom implements Engine.
func (f *Fake) CopyFrom(ctx context.Context, ref, name string) (io.ReadCloser, *runtime.PathStat, error) {
	st, err := f.StatPath(ctx, ref, name)
	if err != nil {
		return nil, nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return nil, nil, err
	}
	file := c.files[path.Clean("/"+name)]
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	_ = tw.WriteHeader(&tar.Header{Name: st.Name, Size: st.Size, Mode: file.mode, Typeflag: tar.TypeReg})
	_, _ = tw.Write(file.data)
	_ = tw.Close()
	return io.NopCloser(&buf), st, nil
}

// CopyTo implements Engine.
func (f *Fake) CopyTo(_ context.Context, ref, dir string, r io.Reader, _ bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("copy to container %s: %w", c.Name, err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("copy to container %s: %w", c.Name, err)
		}
		if h.Typeflag == tar.TypeReg {
			c.files[path.Join("/", dir, h.Name)] = fakeFile{data, h.Mode}
		}
	}
}
