package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Image is the image that the suite's containers run; it must have sh, sleep,
// true and echo.
const Image = "busybox:latest"

// Run checks that an engine keeps the promises that its users rely on.
// newEngine returns an empty engine that has Image.
func Run(t *testing.T, newEngine func(*testing.T) Engine) {
	for _, tc := range []struct {
		name string
		run  func(*suite)
	}{
		{"names", (*suite).names},
		{"lifecycle", (*suite).lifecycle},
		{"wait never misses a fast exit", (*suite).fastExit},
		{"wait for removal", (*suite).waitRemoved},
		{"exit codes", (*suite).exitCodes},
		{"restart on failure", (*suite).restartOnFailure},
		{"a stop by hand rests the policy", (*suite).manualStop},
		{"auto remove", (*suite).autoRemove},
		{"logs", (*suite).logs},
		{"missing", (*suite).missing},
		{"list", (*suite).list},
		{"pause", (*suite).pause},
		{"exec", (*suite).exec},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			tc.run(&suite{t, ctx, newEngine(t)})
		})
	}
}

type suite struct {
	*testing.T
	ctx context.Context
	e   Engine
}

func (s *suite) create(name string, argv ...string) string {
	s.Helper()
	return s.createSpec(name, stack.ContainerSpec{Command: argv})
}

func (s *suite) createSpec(name string, spec stack.ContainerSpec) string {
	s.Helper()
	spec.Image = Image
	id, _, err := s.e.Create(s.ctx, name, spec)
	if err != nil {
		s.Fatalf("create %s: %v", name, err)
	}
	s.Cleanup(func() {
		err := s.e.Remove(context.Background(), id, runtime.RemoveOptions{Force: true, Volumes: true})
		if err != nil && !errors.Is(err, runtime.ErrNotFound) {
			s.Errorf("remove %s: %v", name, err)
		}
	})
	return id
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error %v, want %v", err, want)
	}
}

func (s *suite) inspect(ref string) *runtime.Container {
	s.Helper()
	c, err := s.e.Inspect(s.ctx, ref)
	s.ok(err)
	return c
}

func (s *suite) status(ref string, want runtime.Status) {
	s.Helper()
	if c := s.inspect(ref); c.State.Status != want {
		s.Fatalf("status of %s is %s, want %s", ref, c.State.Status, want)
	}
}

func (s *suite) wait(ref string, cond runtime.WaitCondition) <-chan runtime.ExitStatus {
	s.Helper()
	ch, err := s.e.Wait(s.ctx, ref, cond)
	s.ok(err)
	return ch
}

func (s *suite) code(ch <-chan runtime.ExitStatus, want int) {
	s.Helper()
	select {
	case st := <-ch:
		if st.Code != want {
			s.Fatalf("exit code %d (%s), want %d", st.Code, st.Err, want)
		}
	case <-s.ctx.Done():
		s.Fatal("wait never answered")
	}
}

func grace(d time.Duration) *time.Duration { return &d }

func (s *suite) names() {
	id := s.create("conf-a", "sleep", "1000")
	if c := s.inspect(id[:12]); c.Name != "conf-a" || c.ID != id {
		s.Fatalf("found %s %s by ID prefix", c.Name, c.ID)
	}
	_, _, err := s.e.Create(s.ctx, "conf-a", stack.ContainerSpec{Image: Image})
	s.is(err, runtime.ErrConflict)
	s.ok(s.e.Rename(s.ctx, "conf-a", "conf-b"))
	if c := s.inspect("conf-b"); c.ID != id {
		s.Fatalf("conf-b is %s", c.ID)
	}
	_, err = s.e.Inspect(s.ctx, "conf-a")
	s.is(err, runtime.ErrNotFound)
	other := s.create("conf-a", "true")
	s.is(s.e.Rename(s.ctx, other, "conf-b"), runtime.ErrConflict)
	if unnamed := s.create("", "true"); s.inspect(unnamed).Name == "" {
		s.Fatal("no name was made")
	}
}

func (s *suite) lifecycle() {
	id := s.create("conf-life", "sleep", "1000")
	s.status(id, runtime.Created)
	s.ok(s.e.Start(s.ctx, id))
	s.status(id, runtime.Running)
	if c := s.inspect(id); c.State.Pid == 0 || c.State.StartedAt.IsZero() {
		s.Fatalf("running without pid or time: %+v", c.State)
	}
	s.is(s.e.Start(s.ctx, id), runtime.ErrNotModified)
	s.is(s.e.Remove(s.ctx, id, runtime.RemoveOptions{}), runtime.ErrConflict)
	s.ok(s.e.Kill(s.ctx, id, "KILL"))
	s.code(s.wait(id, runtime.WaitNotRunning), 137)
	s.is(s.e.Kill(s.ctx, id, ""), runtime.ErrNotRunning)
	s.is(s.e.Stop(s.ctx, id, "", nil), runtime.ErrNotModified)
	s.ok(s.e.Start(s.ctx, id))
	s.ok(s.e.Restart(s.ctx, id, "KILL", grace(time.Second)))
	s.status(id, runtime.Running)
	s.ok(s.e.Remove(s.ctx, id, runtime.RemoveOptions{Force: true}))
	_, err := s.e.Inspect(s.ctx, id)
	s.is(err, runtime.ErrNotFound)
}

func (s *suite) fastExit() {
	id := s.create("conf-fast", "sh", "-c", "exit 7")
	next := s.wait(id, runtime.WaitNextExit)
	s.ok(s.e.Start(s.ctx, id))
	s.code(next, 7)
	s.code(s.wait(id, runtime.WaitNotRunning), 7)
	s.status(id, runtime.Exited)
}

func (s *suite) waitRemoved() {
	id := s.create("conf-gone", "sh", "-c", "exit 4")
	gone := s.wait(id, runtime.WaitRemoved)
	s.ok(s.e.Start(s.ctx, id))
	s.code(s.wait(id, runtime.WaitNotRunning), 4)
	select {
	case <-gone:
		s.Fatal("told to be removed before it was")
	default:
	}
	s.ok(s.e.Remove(s.ctx, id, runtime.RemoveOptions{}))
	s.code(gone, 4)
}

func (s *suite) exitCodes() {
	for code := range 3 {
		id := s.create(fmt.Sprintf("conf-exit-%d", code), "sh", "-c", fmt.Sprintf("exit %d", code))
		s.ok(s.e.Start(s.ctx, id))
		s.code(s.wait(id, runtime.WaitNotRunning), code)
		if c := s.inspect(id); c.State.ExitCode != code || c.State.FinishedAt.IsZero() || c.State.Pid != 0 {
			s.Fatalf("state %+v", c.State)
		}
	}
}

func (s *suite) restartOnFailure() {
	policy := stack.RestartPolicy{Condition: "on-failure", MaxAttempts: 2, Delay: time.Millisecond}
	id := s.createSpec("conf-restart", stack.ContainerSpec{Command: []string{"sh", "-c", "exit 5"}, Restart: policy})
	done := s.wait(id, runtime.WaitNextExit)
	s.ok(s.e.Start(s.ctx, id))
	s.code(done, 5)
	if c := s.inspect(id); c.RestartCount != 2 || c.State.Status != runtime.Exited {
		s.Fatalf("%d restarts, %s", c.RestartCount, c.State.Status)
	}
}

func (s *suite) manualStop() {
	id := s.createSpec("conf-manual", stack.ContainerSpec{Command: []string{"sleep", "1000"}, Restart: stack.RestartPolicy{Condition: "always", Delay: time.Millisecond}})
	s.ok(s.e.Start(s.ctx, id))
	s.ok(s.e.Stop(s.ctx, id, "KILL", grace(time.Second)))
	if c := s.inspect(id); c.State.Status != runtime.Exited || !c.State.ManuallyStopped {
		s.Fatalf("state %+v", c.State)
	}
	s.ok(s.e.Start(s.ctx, id))
	if c := s.inspect(id); c.State.ManuallyStopped {
		s.Fatal("still stopped by hand after a start")
	}
}

func (s *suite) autoRemove() {
	id := s.createSpec("conf-auto", stack.ContainerSpec{Command: []string{"sh", "-c", "exit 3"}, AutoRemove: true})
	gone := s.wait(id, runtime.WaitRemoved)
	s.ok(s.e.Start(s.ctx, id))
	s.code(gone, 3)
	_, err := s.e.Inspect(s.ctx, id)
	s.is(err, runtime.ErrNotFound)
}

func (s *suite) logs() {
	id := s.create("conf-logs", "echo", "hello", "there")
	s.ok(s.e.Start(s.ctx, id))
	s.code(s.wait(id, runtime.WaitNotRunning), 0)
	var got string
	for _, follow := range []bool{false, true} {
		got = ""
		s.ok(s.e.Logs(s.ctx, id, runtime.LogOptions{Stdout: true, Stderr: true, Tail: -1, Follow: follow}, func(e runtime.LogEntry) error {
			got += e.Stream + ": " + string(e.Line)
			return nil
		}))
		if got != "stdout: hello there\n" {
			s.Fatalf("log (follow %v) %q", follow, got)
		}
	}
}

func (s *suite) missing() {
	const ref = "conf-nobody"
	_, err := s.e.Inspect(s.ctx, ref)
	s.is(err, runtime.ErrNotFound)
	s.is(s.e.Start(s.ctx, ref), runtime.ErrNotFound)
	s.is(s.e.Stop(s.ctx, ref, "", nil), runtime.ErrNotFound)
	s.is(s.e.Remove(s.ctx, ref, runtime.RemoveOptions{Force: true}), runtime.ErrNotFound)
	_, err = s.e.Wait(s.ctx, ref, runtime.WaitNotRunning)
	s.is(err, runtime.ErrNotFound)
	_, err = s.e.ExecInspect(s.ctx, ref)
	s.is(err, runtime.ErrNotFound)
}

func (s *suite) list() {
	a := s.createSpec("conf-list-a", stack.ContainerSpec{Command: []string{"sleep", "1000"}, Labels: map[string]string{"tier": "x"}})
	s.createSpec("conf-list-b", stack.ContainerSpec{Command: []string{"sleep", "1000"}, Labels: map[string]string{"tier": "y"}})
	s.ok(s.e.Start(s.ctx, a))
	for _, tc := range []struct {
		f    runtime.Filter
		want int
	}{
		{runtime.Filter{}, 1},
		{runtime.Filter{All: true}, 2},
		{runtime.Filter{All: true, Labels: map[string]string{"tier": "y"}}, 1},
		{runtime.Filter{All: true, Labels: map[string]string{"tier": ""}}, 2},
		{runtime.Filter{All: true, Names: []string{"conf-list-b"}}, 1},
		{runtime.Filter{All: true, IDs: []string{a}}, 1},
	} {
		got, err := s.e.List(s.ctx, tc.f)
		s.ok(err)
		if len(got) != tc.want {
			s.Errorf("%+v: %d containers, want %d", tc.f, len(got), tc.want)
		}
	}
}

func (s *suite) pause() {
	id := s.create("conf-pause", "sleep", "1000")
	s.is(s.e.Pause(s.ctx, id), runtime.ErrConflict)
	s.ok(s.e.Start(s.ctx, id))
	s.ok(s.e.Pause(s.ctx, id))
	s.status(id, runtime.Paused)
	s.is(s.e.Pause(s.ctx, id), runtime.ErrConflict)
	s.ok(s.e.Unpause(s.ctx, id))
	s.status(id, runtime.Running)
}

func (s *suite) exec() {
	id := s.create("conf-exec", "sleep", "1000")
	_, err := s.e.ExecCreate(s.ctx, id, runtime.ExecSpec{Args: []string{"true"}})
	s.is(err, runtime.ErrNotRunning)
	s.ok(s.e.Start(s.ctx, id))
	x, err := s.e.ExecCreate(s.ctx, id, runtime.ExecSpec{Args: []string{"true"}, Stdout: true})
	s.ok(err)
	st, err := s.e.ExecStart(s.ctx, x, false)
	s.ok(err)
	buf := make([]byte, 1)
	if n, err := st.Stdout.Read(buf); n != 0 || err == nil {
		s.Fatalf("read %d %v from a silent command", n, err)
	}
	info, err := s.e.ExecInspect(s.ctx, x)
	s.ok(err)
	if info.Running || info.ExitCode == nil || *info.ExitCode != 0 {
		s.Fatalf("exec %+v", info)
	}
	_, err = s.e.ExecStart(s.ctx, x, false)
	s.is(err, runtime.ErrConflict)
}
