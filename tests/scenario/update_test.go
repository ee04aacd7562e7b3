package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

const rollingStack = `
name: roll
services:
  web:
    image: busybox
    command: ["sh", "-c", "%s"]
    stop_signal: SIGKILL
    deploy:
      replicas: 2
      update_config: {parallelism: 1, failure_action: rollback}
`

func TestUpdatesStartBeforeTheyStopAndTurnBack(t *testing.T) {
	s := Scenario(t, "an update starts the new container before the old one stops, under the name of its slot in the end, and goes back by itself", "busybox:latest")
	names := func() string {
		return strings.Join(slices.Sorted(maps.Keys(s.PS())), " ")
	}
	s.Compose(fmt.Sprintf(rollingStack, "sleep 1000"))
	s.Run("up", "-d")
	first := s.inspect("roll-web-1")

	s.Step("an update", func() {
		s.Compose(fmt.Sprintf(rollingStack, "sleep 2000"))
		s.Run("up", "-d")
		s.Until("both are new and have their names", func() error {
			in := s.inspect("roll-web-1")
			if in.ID == first.ID || names() != "roll-web-1 roll-web-2" {
				return fmt.Errorf("there are %s", names())
			}
			return nil
		})
		if in := s.inspect("roll-web-1"); in.State.StartedAt.After(s.inspect("roll-web-2").State.StartedAt) {
			t.Error("the second was replaced before the first")
		}
	})
	s.Step("a version that does not run", func() {
		before := s.inspect("roll-web-1").ID
		s.Compose(fmt.Sprintf(rollingStack, "exit 3"))
		if res := s.TryIn("up", "-d"); res.Code == 0 {
			t.Logf("up says nothing of it: %s", res.Stdout)
		}
		s.Until("it has gone back", func() error {
			ls := s.Run("ps", "-a")
			if names() != "roll-web-1 roll-web-2" || strings.Contains(ls, "xited") {
				return fmt.Errorf("%s", ls)
			}
			return nil
		})
		if in := s.inspect("roll-web-1"); in.ID != before || in.State.Status != "running" {
			t.Errorf("the container of before: %+v", in)
		}
	})
}
