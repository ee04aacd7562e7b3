package engine_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Everything that changes a container's state saves it; none may disturb
// another, and what is on disk at the end is the end.
func TestStateHasOneWriterAtATime(t *testing.T) {
	n := newNode(t)
	spec := sh("trap '' USR1; while :; do sleep 1; done")
	spec.StopSignal = "USR1"
	interval := 2 * time.Millisecond
	spec.Healthcheck = &stack.Healthcheck{Test: []string{"CMD", "true"}, Interval: interval}
	id := n.start("busy", spec)
	var g sync.WaitGroup
	for range 6 {
		g.Go(func() {
			for range 150 {
				if err := n.Kill(n.ctx(), id, "USR1"); err != nil && !errors.Is(err, runtime.ErrNotRunning) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		n.ok(n.Rename(n.ctx(), id, "busier"))
		n.ok(n.Rename(n.ctx(), id, "busy"))
		n.savedState(id) // readable at any moment
	}
	n.ok(n.Kill(n.ctx(), id, "KILL"))
	g.Wait()
	if st := n.savedState(id); st.Status != runtime.Exited || st.Pid != 0 || st.ExitCode != 137 {
		t.Errorf("on disk it is %s with pid %d and code %d", st.Status, st.Pid, st.ExitCode)
	}
}

func (n *node) statePath(id string) string {
	return filepath.Join(n.dir, "data", "engine", "containers", id, "state.json")
}

// savedState is the state as the next daemon would find it.
func (n *node) savedState(id string) runtime.State {
	n.Helper()
	data, err := os.ReadFile(n.statePath(id))
	n.ok(err)
	var st runtime.State
	if err := json.Unmarshal(data, &st); err != nil {
		n.Fatalf("state: %v: %q", err, data)
	}
	return st
}

// A container runs although its state cannot be read: the shim knows it, so it
// goes on, with its network, and its end is seen.
func TestUnreadableStateOfARunningContainer(t *testing.T) {
	n := newNode(t)
	id := n.start("goeson", stack.ContainerSpec{
		Command: []string{"sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 5"}, Networks: []stack.Attachment{{Network: "front"}},
	})
	before := n.inspect(id)
	n.stop()
	n.ok(os.WriteFile(n.statePath(id), []byte(`{"status":"runn`), 0o600))
	n.open()
	after := n.inspect(id)
	if after.State.Status != runtime.Running || after.State.Pid != before.State.Pid || after.State.StartedAt.Sub(before.State.StartedAt).Abs() > 5*time.Second {
		t.Fatalf("it is %+v, was %+v", after.State, before.State)
	}
	if len(after.Endpoints) != 1 || after.Endpoints[0].Network != "front" || n.net.String() == "" {
		t.Errorf("endpoints %+v, sandboxes %q", after.Endpoints, n.net)
	}
	if st := n.savedState(id); st.Status != runtime.Running {
		t.Errorf("saved as %s", st.Status)
	}
	n.exec(id, "touch", "/tmp/end")
	if code := n.exit(id); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// The same with one that has ended meanwhile: its exit code is in the bundle.
func TestUnreadableStateOfAnEndedContainer(t *testing.T) {
	n := newNode(t)
	id := n.start("ended", sh("while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 5"))
	n.stop()
	bundle := filepath.Join(n.dir, "run", "c", id[:16])
	n.ok(os.WriteFile(filepath.Join(bundle, "rootfs", "tmp", "end"), nil, 0o644))
	n.eventually("exit.json", func() bool {
		_, err := os.Stat(filepath.Join(bundle, "exit.json"))
		return err == nil
	})
	n.ok(os.WriteFile(n.statePath(id), nil, 0o600))
	n.open()
	if c := n.inspect(id); c.State.Status != runtime.Exited || c.State.ExitCode != 5 {
		t.Errorf("%+v", c.State)
	}
}

// eventually waits until ok, at most 30 s.
func (n *node) eventually(what string, ok func() bool) {
	n.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.Fatal("never: " + what)
		}
	}
}
