package scenario

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/tests/netlab"
)

const historyFile = `
name: past
services:
  app:
    image: app:1
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    secrets: [key]
    configs: [conf]
    deploy:
      update_config: {failure_action: rollback, monitor: 1s}
secrets:
  key: {file: ./key}
configs:
  conf: {file: ./conf}
`

// revision is a line of `dhow history --format json`.
type revision struct {
	Revision              uint64
	Current               bool
	Node, Result, Message string
	Back                  uint64
	Changes               []struct{ Kind, Name, Action, Cause string }
}

func (s *S) revisions() (out []revision) {
	s.Helper()
	dec := json.NewDecoder(strings.NewReader(s.Run("history", "--format", "json")))
	for dec.More() {
		var r revision
		if err := dec.Decode(&r); err != nil {
			s.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestHistoryAndRollback(t *testing.T) {
	netlab.NeedsDocker(t)
	s := Scenario(t, "a rollback brings back what ran: the same image bytes, secret and config, and the history tells of it", "busybox:latest", "alpine:latest")
	docker := func(args ...string) string {
		s.Helper()
		r := s.Docker(args...)
		if r.Code != 0 {
			t.Fatal(r.Err())
		}
		return strings.TrimSpace(r.Stdout)
	}
	image := func() string { s.Helper(); return docker("inspect", "--format", "{{.Image}}", "past-app-1") }
	sees := func(want string) {
		s.Helper()
		if out := s.Run("exec", "-T", "app", "cat", "/run/secrets/key", "/conf"); out != want {
			t.Errorf("the container has %q, want %q", out, want)
		}
	}
	move := func(to string) { // the tag; the bytes have no other name
		s.Helper()
		docker("tag", to, "app:1")
		docker("rmi", to)
	}
	s.Write("key", "key-one-4715;")
	s.Write("conf", "conf one")
	s.Compose(historyFile)
	var first, second string

	s.Step("two revisions of one tag", func() {
		move("busybox:latest")
		s.Run("up", "-d", "--wait")
		sees("key-one-4715;conf one")
		first = image()
		move("alpine:latest")
		s.Write("key", "key-two-4716;")
		s.Write("conf", "conf two")
		s.Run("up", "-d", "--wait")
		sees("key-two-4716;conf two")
		if second = image(); second == first {
			t.Errorf("the tag has not moved: %s", first)
		}
	})
	s.Step("the history tells them", func() {
		revs := s.revisions()
		if len(revs) != 2 || revs[0].Revision != 2 || !revs[0].Current || revs[1].Result != "completed" || revs[0].Node == "" {
			t.Errorf("history: %+v", revs)
		}
		text := s.Run("history")
		for _, want := range []string{"REVISION", "2 *", "app recreate", "secret key changed", "app create"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
	})
	s.Step("a dry run changes nothing", func() {
		out := s.Run("rollback", "--dry-run")
		for _, want := range []string{"past goes back to revision 1", "service app: recreate", "image app:1 is now", "secret key changed", "config conf changed"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in:\n%s", want, out)
			}
		}
		if image() != second || len(s.revisions()) != 2 {
			t.Error("it has")
		}
	})
	s.Step("back", func() {
		s.Run("rollback", "--wait")
		sees("key-one-4715;conf one")
		if image() != first {
			t.Errorf("image %s, want %s", image(), first)
		}
		if revs := s.revisions(); len(revs) != 3 || revs[0].Back != 1 {
			t.Errorf("history: %+v", revs)
		}
	})
	s.Step("a container that is made again has the old content still", func() {
		docker("rm", "-f", "past-app-1")
		s.Run("up", "--no-recreate", "-d", "--wait")
		sees("key-one-4715;conf one")
	})
	s.Step("an update that goes back by itself says so", func() {
		s.Compose(strings.Replace(historyFile, `[sleep, "1000"]`, `[sh, -c, "exit 7"]`, 1))
		s.Refused([]string{"up", "-d", "--wait"}, "exit code 7")
		s.Until("the update has turned back", func() error {
			if r := s.revisions()[0]; r.Result != "rolled back" || !strings.Contains(r.Message, "app: ") {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	})
	s.Step("to a revision by its number", func() {
		s.Run("rollback", "past", "--to", "2", "--wait")
		sees("key-two-4716;conf two")
		if image() != second {
			t.Errorf("image %s, want %s", image(), second)
		}
		s.Refused([]string{"rollback", "--to", "77"}, "revision 77", "dhow history")
	})
	s.Step("nothing of it is on disk in clear", func() {
		for _, hit := range grep(t, s.DataDir, "key-one-4715;", "key-two-4716;") {
			t.Errorf("a secret is in %s", hit)
		}
	})
	s.Run("down", "-v")
	s.Refused([]string{"history", "past"}, "stack past does not run")
	s.Clean()
}
