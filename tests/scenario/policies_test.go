package scenario

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

const policiesFile = `
name: pol
x-crash: &crash
  image: busybox
  command: [sh, -c, "usleep 50000; exit 3"]
x-idle: &idle
  image: busybox
  command: [sleep, "1000"]
  stop_signal: SIGKILL
services:
  never: {<<: *crash}
  twice: {<<: *crash, restart: "on-failure:2"}
  always: {image: busybox, command: [sh, -c, "usleep 50000; exit 0"], restart: always}
  success: {image: busybox, command: ["true"], restart: on-failure}
  deployed: {<<: *crash, deploy: {restart_policy: {condition: on-failure, max_attempts: 1, delay: 10ms}}}
  kept: {<<: *idle, restart: unless-stopped}
  stopped: {<<: *idle, restart: unless-stopped}
  plain: {<<: *idle}
  cured:
    <<: *idle
    x-dhow-restart-unhealthy: true
    healthcheck: &check {test: "! test -e /dev/shm/sick", interval: 200ms, timeout: 2s, retries: 2}
  sick:
    <<: *idle
    restart: always
    healthcheck: *check
`

func TestRestartPolicies(t *testing.T) {
	s := Scenario(t, "containers are restarted as their policy says: after an exit, after the daemon's restart, when unhealthy if asked, and never after a stop by a person", "busybox:latest")
	s.Compose(policiesFile)
	s.TryIn("up", "-d") // an error where it sees the crash of one that is not restarted
	is := func(service, status string, restarts, code int) {
		s.Helper()
		s.Until(service+" is "+status, func() error {
			in := s.inspect("pol-" + service + "-1")
			if in.State.Status != status || in.RestartCount != restarts || in.State.ExitCode != code {
				return fmt.Errorf("%+v", in)
			}
			return nil
		})
	}
	s.Step("after an exit", func() {
		is("never", "exited", 0, 3)
		is("twice", "exited", 2, 3)
		is("deployed", "exited", 1, 3)
		is("success", "exited", 0, 0)
		s.Until("always goes on", func() error {
			if in := s.inspect("pol-always-1"); in.RestartCount < 3 {
				return fmt.Errorf("%+v", in)
			}
			return nil
		})
	})
	s.Step("unhealthy", func() {
		s.Until("both are healthy", func() error {
			if ps := s.PS(); ps["pol-cured-1"].Health != "healthy" || ps["pol-sick-1"].Health != "healthy" {
				return fmt.Errorf("%v %v", ps["pol-cured-1"], ps["pol-sick-1"])
			}
			return nil
		})
		before := s.inspect("pol-sick-1")
		for _, service := range []string{"cured", "sick"} {
			s.Run("exec", "-T", service, "touch", "/dev/shm/sick")
		}
		s.Until("one is restarted and healthy, the other stays as it is and says so", func() error {
			cured, sick := s.inspect("pol-cured-1"), s.inspect("pol-sick-1")
			if cured.RestartCount != 1 || cured.State.Health.Status != "healthy" || sick.State.Health.Status != "unhealthy" {
				return fmt.Errorf("%+v %+v", cured, sick)
			}
			if sick.State.Pid != before.State.Pid {
				t.Error("it was restarted without being asked for")
			}
			return nil
		})
	})
	s.Step("over the daemon's restart", func() {
		s.Run("stop", "stopped", "always")
		kept, plain := s.inspect("pol-kept-1").State.Pid, s.inspect("pol-plain-1").State.Pid
		s.Kill()
		for _, pid := range []int{kept, plain} { // they die while no daemon looks
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		s.Start()
		s.Until("what was to run runs again", func() error {
			if in := s.inspect("pol-kept-1"); in.State.Status != "running" || in.State.Pid == kept {
				return fmt.Errorf("%+v", in)
			}
			return nil
		})
		is("plain", "exited", 0, 137)
		is("stopped", "exited", 0, 137)
		if in := s.inspect("pol-always-1"); in.State.Status != "exited" {
			t.Errorf("stopped by a person, and yet: %+v", in)
		}
	})
	s.Step("killed by a person it stays down, until an up", func() {
		s.Run("kill", "kept")
		is("kept", "exited", s.inspect("pol-kept-1").RestartCount, 137)
		s.Run("up", "-d", "--wait", "kept")
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestStopping(t *testing.T) {
	s := Scenario(t, "a container gets its stop signal and its time, then the kill", "busybox:latest")
	s.Compose(`
name: halt
x-trap: &trap {image: busybox, command: [sh, -c, "trap 'exit 9' USR1; trap 'exit 0' TERM; echo up; while :; do usleep 10000; done"]}
services:
  usr1: {<<: *trap, stop_signal: SIGUSR1}
  term: {<<: *trap}
  deaf: {image: busybox, command: [sh, -c, "trap '' TERM; echo up; sleep 1000"], stop_grace_period: 800ms}
  patient: {image: busybox, command: [sh, -c, "trap 'usleep 1500000; exit 4' TERM; echo up; while :; do usleep 10000; done"], stop_grace_period: 20s}
`)
	up := func() {
		s.Helper()
		s.Run("up", "-d")
		s.Until("all listen for signals", func() error {
			for _, service := range []string{"usr1", "term", "deaf", "patient"} {
				if out := s.Run("logs", "--no-log-prefix", service); !strings.Contains(out, "up") {
					return fmt.Errorf("%s: %q", service, out)
				}
			}
			return nil
		})
	}
	code := func(service string, want int) {
		s.Helper()
		if in := s.inspect("halt-" + service + "-1"); in.State.ExitCode != want {
			t.Errorf("%s: %+v, want exit code %d", service, in, want)
		}
	}
	s.Step("all at once", func() {
		up()
		start := time.Now()
		s.Run("stop")
		took := time.Since(start)
		code("usr1", 9)
		code("term", 0)
		code("deaf", 137)
		code("patient", 4)
		const byDefault = 10 * time.Second // the time of who asks for none
		if took < 1500*time.Millisecond || took > byDefault {
			t.Errorf("took %s, want the slowest's 1.5 s", took)
		}
		if deaf := s.times("halt-deaf-1").FinishedAt; deaf.Sub(start) < 700*time.Millisecond || deaf.After(s.times("halt-patient-1").FinishedAt) {
			t.Errorf("killed after %s, want 0.8 s, before the one that takes 1.5", deaf.Sub(start))
		}
	})
	s.Step("--timeout is stronger than the file", func() {
		s.Run("down")
		up()
		s.Run("stop", "--timeout", "0", "patient")
		code("patient", 137)
	})
	s.Run("down", "-t", "1")
	s.Clean()
}
