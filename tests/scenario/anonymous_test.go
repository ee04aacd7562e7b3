package scenario

import (
	"fmt"
	"testing"
)

const anonymousStack = `
name: anon
services:
  a:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["/anon", "named:/named"]
    scale: 12
volumes:
  named: {external: true, name: outside}
`

func TestDownWithVolumesLeavesNoAnonymousOne(t *testing.T) {
	s := Scenario(t, "down -v removes all anonymous volumes of a stack, whatever it was doing, and no other volume", "busybox:latest")
	s.Run("volume", "create", "outside")
	s.Compose(anonymousStack)
	before := len(s.volumeNames())

	s.Step("replicas that are taken away keep theirs until then, as with Compose", func() {
		s.Run("up", "-d", "--scale", "a=4")
		s.Run("up", "-d", "--scale", "a=1")
		s.Until("the others are gone", func() error {
			if n := len(s.PS()); n != 1 {
				return fmt.Errorf("%d containers", n)
			}
			return nil
		})
		if got := s.volumeNames(); len(got) != before+4 {
			t.Errorf("%d volumes, want %d and those of four replicas: %v", len(got), before, got)
		}
		s.Kill() // who knows of them survives
		s.Start()
		s.Run("down", "-v")
		if got := s.volumeNames(); len(got) != before {
			t.Errorf("%d volumes, want %d: %v", len(got), before, got)
		}
	})
	for _, at := range []string{"0.05", "0.2", "0.4", "0.8"} {
		s.Step("in the middle of a replacement, "+at+" s after it began", func() {
			s.Run("up", "-d")
			up := s.Background("--file", s.Dir+"/compose.yaml", "up", "-d", "--force-recreate")
			s.Exec("sleep", at) // which moment it meets is to differ
			s.Run("down", "-v")
			if err := up.Wait(); err != nil {
				t.Logf("the replacement was cut short: %v", err)
			}
			s.Run("down", "-v") // the replacement may have come last
			if got := s.volumeNames(); len(got) != before {
				t.Errorf("%d volumes, want %d: %v", len(got), before, got)
			}
		})
	}
	s.Step("one that joins another's network keeps its volume when it is made again for that", func() {
		s.Write("joined.yaml", `
name: joined
services:
  db: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL}
  side: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, network_mode: "service:db", volumes: ["/anon"]}
`)
		file := []string{"--file", "joined.yaml"}
		s.Run(append(file, "up", "-d", "--wait")...)
		s.Run(append(file, "exec", "-T", "side", "sh", "-c", "echo kept > /anon/f")...)
		was := s.Run(append(file, "ps", "-q", "side")...)
		s.Run(append(file, "up", "-d", "--wait", "--force-recreate", "--no-deps", "db")...)
		s.Until("it is another container", func() error {
			if id := s.Run(append(file, "ps", "-q", "side")...); id == was || id == "" {
				return fmt.Errorf("container %q, was %q", id, was)
			}
			return nil
		})
		s.Run(append(file, "up", "-d", "--wait")...)
		if got := s.Run(append(file, "exec", "-T", "side", "cat", "/anon/f")...); got != "kept\n" {
			t.Errorf("got %q", got)
		}
		s.Run(append(file, "down", "-v")...)
		if got := s.volumeNames(); len(got) != before {
			t.Errorf("%d volumes, want %d: %v", len(got), before, got)
		}
	})
	s.Step("down keeps them all", func() {
		s.Run("up", "-d", "--scale", "a=2")
		s.Run("down")
		if got := s.volumeNames(); len(got) != before+2 {
			t.Errorf("%d volumes, want %d and those of two replicas: %v", len(got), before, got)
		}
	})
}
