package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// inspect is the part of what the API tells of a container that scenarios look at.
type inspect struct {
	ID           string `json:"Id"`
	RestartCount int
	Config       struct{ Labels map[string]string }
	State        struct {
		Status                string
		ExitCode              int
		Pid                   int
		StartedAt, FinishedAt time.Time
		Health                *struct{ Status string }
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

func (s *S) inspect(name string) (in inspect) {
	s.Helper()
	s.API("GET", "/containers/"+name+"/json", &in)
	return in
}

func TestContainersOutliveTheDaemon(t *testing.T) {
	s := Scenario(t, "kill -9 of the daemon stops no container and loses no log line, exit code, restart count or health", "busybox:latest")
	s.Compose(`
name: life
services:
  counter:
    image: busybox
    command: [sh, -c, "i=0; while :; do i=$$((i+1)); echo line $$i; usleep 10000; done"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, "true"], interval: 1s, start_interval: 100ms, start_period: 5s}
  brief: {image: busybox, command: [sh, -c, "sleep 3; exit 7"]}
  crasher: {image: busybox, command: [sh, -c, "sleep 0.1; exit 1"], restart: "on-failure:2"}
`)
	s.Run("up", "-d")
	s.Until("the crasher has been restarted twice and given up", func() error {
		if in := s.inspect("life-crasher-1"); in.RestartCount != 2 || in.State.Status != "exited" {
			return fmt.Errorf("%+v", in)
		}
		return nil
	})
	s.Until("the counter is healthy", func() error {
		if c := s.PS()["life-counter-1"]; c.Health != "healthy" {
			return fmt.Errorf("health %s", c.Health)
		}
		return nil
	})
	before := s.inspect("life-counter-1")
	s.Step("the daemon is killed; meanwhile the counter counts and brief ends", func() {
		s.Kill()
		time.Sleep(4 * time.Second) // longer than brief lives: the exit must happen while no daemon looks
	})
	s.Step("the next daemon knows everything", func() {
		s.Start()
		after := s.inspect("life-counter-1")
		if after.State.Pid != before.State.Pid || after.State.Status != "running" {
			t.Errorf("counter: %+v, was %+v", after, before)
		}
		if after.State.Health == nil || after.State.Health.Status != "healthy" {
			t.Errorf("counter's health: %+v", after.State.Health)
		}
		if in := s.inspect("life-brief-1"); in.State.Status != "exited" || in.State.ExitCode != 7 {
			t.Errorf("brief: %+v", in)
		}
		if in := s.inspect("life-crasher-1"); in.RestartCount != 2 || in.State.ExitCode != 1 {
			t.Errorf("crasher: %+v", in)
		}
	})
	s.Step("no log line is missing", func() {
		lines := strings.Split(strings.TrimSpace(s.Run("logs", "--no-log-prefix", "counter")), "\n")
		for i, l := range lines {
			if l != "line "+strconv.Itoa(i+1) {
				t.Fatalf("line %d is %q", i+1, l)
			}
		}
		if len(lines) < 300 {
			t.Errorf("only %d lines", len(lines))
		}
	})
	s.Step("exec, stop and start work on adopted containers", func() {
		if out := s.Run("exec", "-T", "counter", "echo", "hi"); out != "hi\n" {
			t.Errorf("exec: %q", out)
		}
		s.Run("stop", "counter")
		s.Run("start", "counter")
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestKillAtAnyMomentConverges(t *testing.T) {
	s := Scenario(t, "kill -9 of the daemon at any moment of an up ends in the stack that was asked for, and nothing twice", "busybox:latest")
	s.Compose(`
name: churn
services:
  a: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, deploy: {replicas: 6}}
  b: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, volumes: ["vol:/v"], ports: ["9000:9000"]}
volumes: {vol: {}}
`)
	for i, delay := range []time.Duration{0, 20, 60, 120, 250, 500} {
		s.Step(fmt.Sprintf("killed %d ms into up", delay), func() {
			done := make(chan netlab.Result)
			go func() { done <- s.TryIn("up", "-d") }()
			time.Sleep(delay * time.Millisecond) // the point of the test: a moment nobody chose
			s.Kill()
			<-done
			s.Start()
			s.Run("up", "-d", "--wait")
			if ps := s.PS(); len(ps) != 7 {
				t.Errorf("%d containers: %v", len(ps), ps)
			}
			if i%2 == 0 {
				s.Run("down")
				s.Clean()
			}
		})
	}
	s.Run("down", "-v")
	s.Clean()
}
