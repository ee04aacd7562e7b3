package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// daemon is another process that runs an engine on ENGINE_TEST_DAEMON and
// creates, starts, stops and removes containers until it is killed. It prints
// what it was told has been done.
func daemon() {
	m := &fatal{}
	n := &node{TB: m, dir: os.Getenv("ENGINE_TEST_DAEMON"), net: &network{}}
	n.open()
	ctx := context.Background()
	for i := 0; ; i++ {
		spec := stack.ContainerSpec{Image: busybox, Command: []string{"sh", "-c", "while :; do echo tick; sleep 0.05; done"}, StopSignal: "KILL"}
		name := fmt.Sprintf("c%d", i)
		id, _, err := n.Create(ctx, name, spec)
		n.ok(err)
		fmt.Println("created", id)
		n.ok(n.Start(ctx, id))
		fmt.Println("started", id)
		switch i % 4 {
		case 1:
			n.ok(n.Stop(ctx, id, "", nil))
			fmt.Println("stopped", id)
		case 2:
			n.ok(n.Remove(ctx, id, runtime.RemoveOptions{Force: true}))
			fmt.Println("removed", id)
		case 3:
			n.ok(n.Restart(ctx, id, "", nil))
			fmt.Println("started", id)
		}
	}
}

// fatal lets a node work outside of a test.
type fatal struct{ testing.TB }

func (fatal) Helper()           {}
func (fatal) Cleanup(func())    {}
func (fatal) Fatal(args ...any) { fmt.Fprintln(os.Stderr, args...); os.Exit(3) }

// TestKillAtAnyMoment kills a busy daemon again and again; whatever the last
// one had acknowledged is true afterwards, and nothing without owner is left.
func TestKillAtAnyMoment(t *testing.T) {
	n := newNode(t)
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		n.stop()
		said := n.killedDaemon(time.Duration(50+rand.IntN(700)) * time.Millisecond)
		n.open()
		last := map[string]string{}
		for _, line := range said {
			verb, id, _ := strings.Cut(line, " ")
			last[id] = verb
		}
		for id, verb := range last {
			n.agrees(round, id, verb)
		}
		all, err := n.List(n.ctx(), runtime.Filter{All: true})
		n.ok(err)
		for _, c := range all {
			if c.State.Status == runtime.Running {
				if out, code := n.exec(c.ID, "echo", "alive"); out != "alive\n" || code != 0 {
					t.Errorf("round %d: exec in %s: %q %d", round, c.Name, out, code)
				}
			}
			err := n.Remove(n.ctx(), c.ID, runtime.RemoveOptions{Force: true})
			if !errors.Is(err, runtime.ErrNotFound) { // one that was half removed goes by itself
				n.ok(err)
			}
		}
		n.leftovers()
		if t.Failed() {
			t.Fatalf("round %d; the daemon said:\n%s", round, strings.Join(said, "\n"))
		}
	}
}

// agrees checks that the container is as the killed daemon last said, or
// further on: it may have been killed between doing and saying.
func (n *node) agrees(round int, id, verb string) {
	n.Helper()
	c, err := n.Inspect(n.ctx(), id)
	gone := errors.Is(err, runtime.ErrNotFound)
	switch verb {
	case "created", "started":
		// the next step may have been under way
	case "stopped":
		if gone || c.State.Status != runtime.Exited || c.State.ExitCode != 137 || !c.State.ManuallyStopped {
			n.Errorf("round %d: %s was stopped, is %+v", round, id[:12], c)
		}
	case "removed":
		if !gone {
			n.Errorf("round %d: %s was removed, is %s", round, id[:12], c.State.Status)
		}
	}
	if err == nil && c.State.Status == runtime.Running && !strings.Contains(n.log(id), "tick") && time.Since(c.State.StartedAt) > time.Second {
		n.Errorf("round %d: %s runs without a log", round, id[:12])
	}
}

// killedDaemon runs a daemon for the given time after its first word, kills it
// and returns what it said.
func (n *node) killedDaemon(after time.Duration) []string {
	n.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ENGINE_TEST_DAEMON="+n.dir, "ENGINE_TEST_SHIM="+shimBinary)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	n.ok(err)
	n.ok(cmd.Start())
	var said []string
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		said = append(said, scan.Text())
		if len(said) == 1 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != -1 {
		n.Fatalf("the daemon ended by itself: %v\n%s\n%s", cmd.ProcessState, strings.Join(said, "\n"), stderr.String())
	}
	return said
}

func TestRestartOfTheDaemon(t *testing.T) {
	n := newNode(t)
	spec := sh("i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i; sleep 0.02; done; exit 6")
	id := n.start("stays", spec)
	fast := n.start("ends", sh("while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 8"))
	failing := sh("exit 9")
	failing.Restart = stack.RestartPolicy{Condition: "on-failure", MaxAttempts: 2, Delay: time.Millisecond}
	counted := n.start("counted", failing)
	n.exit(counted)
	pid := n.inspect(id).State.Pid
	n.stop()
	bundle := filepath.Join(n.dir, "run", "c", fast[:16])
	n.ok(os.WriteFile(filepath.Join(bundle, "rootfs", "tmp", "end"), nil, 0o644))
	for deadline := time.Now().Add(30 * time.Second); ; { // it ends while nobody watches
		if _, err := os.Stat(filepath.Join(bundle, "exit.json")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no exit.json")
		}
	}
	n.open()
	if c := n.inspect(id); c.State.Status != runtime.Running || c.State.Pid != pid {
		t.Errorf("%+v, want pid %d", c.State, pid)
	}
	if c := n.inspect(fast); c.State.Status != runtime.Exited || c.State.ExitCode != 8 {
		t.Errorf("%+v", c.State)
	}
	if c := n.inspect(counted); c.RestartCount != 2 || c.State.ExitCode != 9 {
		t.Errorf("%d restarts, %+v", c.RestartCount, c.State)
	}
	n.exec(id, "touch", "/tmp/end")
	if code := n.exit(id); code != 6 {
		t.Errorf("exit code %d", code)
	}
	want := 0
	for line := range strings.Lines(n.log(id)) {
		want++
		if strings.TrimSpace(line) != fmt.Sprint(want) {
			t.Fatalf("line %d of the log is %q", want, line)
		}
	}
}

func TestKilledShim(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("sleep 1000")
	spec.Restart = stack.RestartPolicy{Condition: "always", Delay: time.Millisecond}
	id := n.start("orphan", spec)
	old := []int{n.inspect(id).State.Pid}
	n.killShim(id)
	n.until(events, func(e runtime.Event) bool { return e.Action == "die" })
	n.until(events, func(e runtime.Event) bool { return e.Action == "start" })
	old = append(old, n.inspect(id).State.Pid)
	n.stop()
	n.killShim(id) // while no daemon watches
	n.open()
	n.eventually("it runs again", func() bool { return n.inspect(id).State.Status == runtime.Running })
	if out, _ := n.exec(id, "echo", "back"); out != "back\n" {
		t.Errorf("%q", out)
	}
	now := n.inspect(id).State.Pid
	for _, pid := range old { // their number may be another's, their cgroup not
		cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		zombie := strings.Contains(string(stat), ") Z ") // of whoever reaps what its shim cannot any more
		if pid != now && err == nil && !zombie && strings.Contains(string(cgroup), id) {
			t.Errorf("process %d of an earlier run is still there: %s", pid, stat)
		}
	}
}

func (n *node) killShim(id string) {
	n.Helper()
	data, err := os.ReadFile(filepath.Join(n.dir, "run", "c", id[:16], "shim.pid"))
	n.ok(err)
	var pid int
	_, err = fmt.Sscan(string(data), &pid)
	n.ok(err)
	p, err := os.FindProcess(pid)
	n.ok(err)
	n.ok(p.Kill())
}

// TestAfterAReboot: nothing that ran is there, only the records are.
func TestAfterAReboot(t *testing.T) {
	n := newNode(t)
	ids := map[string]string{}
	for name, policy := range map[string]string{"always": "always", "never": "", "unless": "unless-stopped", "stopped": "unless-stopped", "alwaysstopped": "always"} {
		spec := sh("sleep 1000")
		spec.StopSignal, spec.Restart.Condition = "KILL", policy
		ids[name] = n.start(name, spec)
	}
	n.ok(n.Stop(n.ctx(), ids["stopped"], "", nil))
	n.ok(n.Stop(n.ctx(), ids["alwaysstopped"], "", nil))
	n.stop()
	n.reboot(ids)
	n.open()
	want := map[string]runtime.Status{"always": runtime.Running, "unless": runtime.Running, "alwaysstopped": runtime.Running, "never": runtime.Exited, "stopped": runtime.Exited}
	deadline := time.Now().Add(20 * time.Second)
	for name, status := range want {
		for n.inspect(name).State.Status != status && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if c := n.inspect(name); c.State.Status != status {
			t.Errorf("%s is %s (%s), want %s", name, c.State.Status, c.State.Error, status)
		}
	}
	if c := n.inspect("never"); c.State.ExitCode != 255 {
		t.Errorf("exit code %d", c.State.ExitCode)
	}
}

// reboot ends all processes, unmounts all, empties the run directory and makes
// the states look like those of an earlier boot.
func (n *node) reboot(ids map[string]string) {
	n.Helper()
	for _, id := range ids {
		if _, err := os.Stat(filepath.Join(n.dir, "run", "c", id[:16])); err == nil {
			n.killShim(id)
			_ = exec.Command("runc", "--root", filepath.Join(n.dir, "run", "runc"), "delete", "--force", id).Run()
		}
		path := filepath.Join(n.dir, "data", "engine", "containers", id, "state.json")
		data, err := os.ReadFile(path)
		n.ok(err)
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		n.ok(err)
		n.ok(os.WriteFile(path, bytes.ReplaceAll(data, bytes.TrimSpace(boot), []byte("earlier")), 0o600))
	}
	// Reading the list of mounts can miss one while others on the machine mount and unmount: look again
	// until nothing is busy.
	run := filepath.Join(n.dir, "run")
	for deadline := time.Now().Add(10 * time.Second); ; {
		for _, m := range n.mounts() {
			n.ok(exec.Command("umount", "-l", m).Run())
		}
		err := os.RemoveAll(run)
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			n.ok(err)
			return
		}
	}
}

// TestSweepTouchesOwnRemainsOnly: bundles and cgroups without record go, those
// of another instance stay.
func TestSweepTouchesOwnRemainsOnly(t *testing.T) {
	n := newNode(t)
	other := newNode(t)
	theirs := other.start("theirs", sh("sleep 1000"))
	mine := n.start("mine", sh("sleep 1000"))
	n.stop()
	n.ok(os.RemoveAll(filepath.Join(n.dir, "data", "engine", "containers", mine)))
	n.open()
	if _, err := n.Inspect(n.ctx(), mine); !errors.Is(err, runtime.ErrNotFound) {
		t.Error(err)
	}
	n.leftovers()
	if out, _ := other.exec(theirs, "echo", "ok"); out != "ok\n" {
		t.Errorf("%q", out)
	}
}

func TestDamagedRecords(t *testing.T) {
	n := newNode(t)
	id := n.create("damaged", sh("sleep 1000"))
	gone := n.create("torn", sh("true"))
	n.stop()
	dir := filepath.Join(n.dir, "data", "engine", "containers")
	n.ok(os.WriteFile(filepath.Join(dir, id, "state.json"), []byte(`{"status":"runn`), 0o600))
	n.ok(os.WriteFile(filepath.Join(dir, gone, "record.json"), nil, 0o600))
	n.open()
	if c := n.inspect(id); c.State.Status != runtime.Exited || c.State.ExitCode != 255 {
		t.Errorf("%+v", c.State)
	}
	if _, err := n.Inspect(n.ctx(), gone); !errors.Is(err, runtime.ErrNotFound) {
		t.Error(err)
	}
	n.ok(n.Start(n.ctx(), id))
}
