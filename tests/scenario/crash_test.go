package scenario

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/tests/netlab"
)

// alive reports whether a process runs; one that waits for its parent does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// reboot takes away what a reboot would: the daemon, the containers' and
// shims' processes, mounts and the run directory.
func (s *S) reboot(containers ...int) {
	s.Helper()
	s.Kill()
	for _, pid := range append(s.Shims(), containers...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			s.Fatal(err)
		}
	}
	s.Until("all processes have ended", func() error {
		for _, pid := range containers {
			if alive(pid) {
				return fmt.Errorf("%d lives", pid)
			}
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		s.Fatal(err)
	}
	lines := strings.Split(string(mounts), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && (strings.HasPrefix(f[1], s.RunDir+"/") || strings.HasPrefix(f[1], s.DataDir+"/")) {
			if err := unix.Unmount(f[1], unix.MNT_DETACH); err != nil {
				s.Fatalf("unmount %s: %v", f[1], err)
			}
		}
	}
	if err := os.RemoveAll(s.RunDir); err != nil {
		s.Fatal(err)
	}
}

func TestRestartPoliciesOutliveEverything(t *testing.T) {
	s := Scenario(t, "restart policies hold when a shim is killed, when containers end without a daemon, and over a reboot", "busybox:latest")
	s.Compose(`
name: hard
x-sleeper: &sleeper {image: busybox, command: [sh, -c, "echo started; exec sleep 1000"], stop_signal: SIGKILL}
services:
  always: {<<: *sleeper, restart: always, volumes: ["data:/d"], ports: ["8088:80"]}
  unless: {<<: *sleeper, restart: unless-stopped}
  stopped: {<<: *sleeper, restart: unless-stopped}
  never: {<<: *sleeper}
  job: {image: busybox, command: ["true"]}
volumes: {data: {}}
`)
	s.Run("up", "-d", "--wait")
	s.sh("always", "echo kept > /d/f")
	s.Run("stop", "stopped")
	running := func(name string, want bool) {
		t.Helper()
		s.Until(fmt.Sprintf("%s runs: %v", name, want), func() error {
			if st := s.inspect("hard-" + name + "-1").State; (st.Status == "running") != want {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
	}
	s.Step("a killed shim", func() {
		before := s.inspect("hard-always-1")
		shims := s.Shims()
		if len(shims) != 3 {
			t.Errorf("%d shims run, want 3", len(shims))
		}
		id, never := s.inspectID("hard-always-1"), s.inspectID("hard-never-1")
		for _, pid := range append(s.Shims(id), s.Shims(never)...) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		running("never", false)
		s.Until("another process runs", func() error {
			if now := s.inspect("hard-always-1"); now.State.Status != "running" || now.State.Pid == before.State.Pid {
				return fmt.Errorf("%+v", now)
			}
			return nil
		})
		if alive(before.State.Pid) {
			t.Error("the process without a shim lives on")
		}
		if in := s.inspect("hard-never-1"); in.State.ExitCode != 137 && in.State.ExitCode != 255 {
			t.Errorf("exit code of a container whose shim was killed: %+v", in)
		}
		s.Run("start", "never")
	})
	s.Step("containers end while no daemon runs", func() {
		var ended []int
		for _, name := range []string{"always", "unless", "never"} {
			ended = append(ended, s.inspect("hard-"+name+"-1").State.Pid)
		}
		s.Kill()
		for _, pid := range ended {
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL) // the first process of a container may ignore the other
		}
		s.Start()
		running("always", true)
		running("unless", true)
		running("never", false)
		running("stopped", false)
		if in := s.inspect("hard-never-1"); in.State.ExitCode != 137 {
			t.Errorf("exit code: %+v", in)
		}
	})
	s.Step("a reboot", func() {
		s.Run("start", "never")
		var all []int
		for _, name := range []string{"always", "unless", "never"} {
			all = append(all, s.inspect("hard-"+name+"-1").State.Pid)
		}
		s.reboot(all...)
		s.Start()
		running("always", true)
		running("unless", true)
		running("stopped", false)
		if got := s.sh("always", "cat /d/f"); got != "kept\n" {
			t.Errorf("volume: %q", got)
		}
		if in := s.inspect("hard-job-1"); in.State.Status != "exited" || in.State.ExitCode != 0 {
			t.Errorf("the job: %+v", in)
		}
		s.Run("up", "-d", "--wait")
		running("never", true)
		if n := strings.Count(s.Run("logs", "--no-log-prefix", "always"), "started"); n < 4 {
			t.Errorf("the log has %d starts", n)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestTwoDaemonsOnOneDirectory(t *testing.T) {
	s := Scenario(t, "a second daemon on the same directories is refused, and the first goes on")
	for _, dirs := range [][]string{{"--data-dir", s.DataDir, "--run-dir", t.TempDir()}, {"--data-dir", t.TempDir(), "--run-dir", s.RunDir}} {
		start := time.Now()
		r := s.TryWith(netlab.Input{Timeout: 20 * time.Second}, append([]string{"daemon"}, dirs...)...)
		if r.Code == 0 || !strings.Contains(r.Stderr, "another daemon") {
			t.Errorf("%v: exit code %d after %s: %s", dirs, r.Code, time.Since(start), r.Stderr)
		}
	}
	s.Run("system", "info")
}
