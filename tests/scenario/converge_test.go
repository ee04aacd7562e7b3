package scenario

import (
	"fmt"
	"strings"
	"testing"
)

const convergeFile = `
name: conv
services:
  a: {image: busybox, command: &idle [sleep, "1000"], stop_signal: SIGKILL}
  b: {image: busybox, command: *idle, stop_signal: SIGKILL, environment: {COLOUR: red}, depends_on: [a]}
  c: {image: busybox, command: *idle, stop_signal: SIGKILL, deploy: {replicas: 2}}
  job: {image: busybox, command: ["true"]}
  debug: {image: busybox, command: *idle, stop_signal: SIGKILL, profiles: [debug]}
  tools: {image: busybox, command: *idle, stop_signal: SIGKILL, profiles: [tools, debug], depends_on: [a]}
`

func TestUpConverges(t *testing.T) {
	s := Scenario(t, "up does what its flags and the file ask for, and leaves everything else as it runs", "busybox:latest")
	s.Compose(convergeFile)
	s.Run("up", "-d", "--wait")
	running := []string{"conv-a-1", "conv-b-1", "conv-c-1", "conv-c-2"}
	all := append([]string{"conv-job-1"}, running...)
	// does runs up and checks which containers were left alone, with what they have run since.
	does := func(what, kept string, wanted int, args ...string) {
		s.Step(what, func() {
			s.Helper()
			before, started := s.IDs(), s.startTimes()
			s.Run(append([]string{"up", "-d"}, args...)...)
			after := s.IDs()
			s.Same(before, after, strings.Fields(kept)...)
			if len(after) != wanted {
				t.Errorf("containers: %v, want %d", after, wanted)
			}
			for name, at := range s.startTimes() {
				if id := before[name]; id != "" && id == after[name] && at != started[name] {
					t.Errorf("%s was restarted: %s, was %s", name, at, started[name])
				}
			}
		})
	}
	everything := strings.Join(all, " ")
	does("nothing has changed", everything, 5)
	colour := func(with string) { s.Compose(strings.Replace(convergeFile, "environment: {COLOUR: red}", with, 1)) }
	colour("environment: ['COLOUR=red']")
	s.Write("compose.yaml", "# a comment\n"+read(t, s.Dir+"/compose.yaml"))
	does("a comment, another way to write the same", everything, 5)
	colour("environment: {COLOUR: blue}")
	does("one service is edited", "conv-a-1 conv-c-1 conv-c-2 conv-job-1", 5)
	colour("environment: {COLOUR: green}")
	does("--no-recreate after an edit", everything, 5, "--no-recreate")
	colour("environment: {COLOUR: blue}")
	does("--scale up", everything, 7, "--scale", "c=4")
	does("--scale down keeps the oldest", "conv-a-1 conv-b-1 conv-job-1 conv-c-1", 4, "--scale", "c=1")
	does("the file's own number again", "conv-a-1 conv-b-1 conv-job-1 conv-c-1", 5)
	does("--force-recreate of one service", "conv-a-1 conv-c-1 conv-c-2 conv-job-1", 5, "--force-recreate", "--no-deps", "b")
	does("--force-recreate", "", 5, "--force-recreate")
	does("a service by name starts what it needs, and no other profile's service", everything, 6, "tools")

	s.Step("--profile", func() {
		s.Run("--profile", "debug", "up", "-d", "--wait")
		if ps := s.PS(); ps["conv-debug-1"].State != "running" || ps["conv-tools-1"].State != "running" {
			t.Errorf("containers: %v", ps)
		}
	})
	s.Step("services that left the file stay, with a note, until --remove-orphans", func() {
		s.Compose("name: conv\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}\n")
		before := s.IDs()
		if r := s.TryIn("up", "-d", "--wait"); r.Code != 0 || !strings.Contains(r.Stderr, "--remove-orphans") || !strings.Contains(r.Stderr, "tools") {
			t.Errorf("up: %d %s", r.Code, r.Stderr)
		}
		kept := make([]string, 0, len(before))
		for name := range before {
			kept = append(kept, name)
		}
		s.Same(before, s.IDs(), kept...)
		s.Run("up", "-d", "--wait", "--remove-orphans")
		after := s.IDs()
		s.Same(before, after, "conv-a-1")
		if len(after) != 1 {
			t.Errorf("containers: %v", after)
		}
	})
	s.Run("down")
	s.Clean()
}

// startTimes is when each container of the stack was started last.
func (s *S) startTimes() map[string]string {
	s.Helper()
	out := map[string]string{}
	for name, id := range s.IDs() {
		out[name] = s.inspect(id).State.StartedAt.String()
	}
	return out
}

func TestUpWaitTellsWhatFailed(t *testing.T) {
	s := Scenario(t, "up --wait ends with a service that fails: its name, its last lines, and an exit code that is not 0", "busybox:latest")
	for _, tc := range []struct {
		name, service string
		words         []string
	}{
		{"ends at once", `command: [sh, -c, "for i in 1 2 3; do echo line $$i; done; echo fatal: no disk >&2; exit 4"]`, []string{"service bad", "exit code 4", "line 3", "fatal: no disk"}},
		{"cannot be executed", `command: [/no/such/program]`, []string{"service bad", "/no/such/program"}},
		{"crashes again and again", `command: [sh, -c, "echo again; exit 5"], restart: always`, []string{"service bad", "5", "again"}},
		{"gives up", `command: [sh, -c, "echo again; exit 5"], restart: "on-failure:1"`, []string{"service bad", "exit code 5", "again"}},
		{"is unhealthy", `command: [sh, -c, "echo listening; sleep 1000"], healthcheck: {test: "echo not ready; exit 1", interval: 100ms, retries: 2}`, []string{"service bad", "unhealthy", "not ready", "listening"}},
		{"is killed for memory", `command: [sh, -c, "sleep 0.2; tail -c 100m /dev/zero"], mem_limit: 16m, memswap_limit: 16m`, []string{"service bad", "exit code 137", "memory"}},
	} {
		s.Step(tc.name, func() {
			s.Compose("name: bad\nservices:\n  good: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}\n  bad: {image: busybox, stop_signal: SIGKILL, " + tc.service + "}\n")
			s.Refused([]string{"up", "-d", "--wait", "--wait-timeout", "20"}, tc.words...)
			s.Until("the other service runs", func() error { // up ends as soon as one has failed
				if c := s.PS()["bad-good-1"]; c.State != "running" {
					return fmt.Errorf("%+v", c)
				}
				return nil
			})
			s.Run("down")
		})
	}
	s.Clean()
}
