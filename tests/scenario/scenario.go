package scenario

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// S is one scenario: a sentence about what a user may rely on, and the steps that show it.
type S struct {
	*testing.T
	*netlab.Host
	Dir string // of the stack's files
}

// Scenario starts a host for the sentence. The images are made and loaded when they are missing.
func Scenario(t *testing.T, sentence string, images ...string) *S {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: scenarios are not short")
	}
	t.Log(sentence)
	s := &S{T: t, Dir: t.TempDir()}
	s.Host = netlab.New(t).Host()
	s.Host.Load(images...)
	return s
}

// Step runs one step; the scenario ends at the first that fails.
func (s *S) Step(what string, f func()) {
	s.Helper()
	start := time.Now()
	s.Log("step:", what)
	f()
	if s.Failed() {
		s.Fatalf("step failed: %s", what)
	}
	s.Logf("  done in %s", time.Since(start).Round(time.Millisecond))
}

// Write writes a file of the stack.
func (s *S) Write(name, content string) string {
	s.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.Fatal(err)
	}
	return path
}

// Compose writes compose.yaml.
func (s *S) Compose(content string) { s.Helper(); s.Write("compose.yaml", content) }

// Run runs dhow in the stack's directory; it must succeed.
func (s *S) Run(args ...string) string {
	s.Helper()
	r := s.TryIn(args...)
	if r.Code != 0 {
		s.Fatal(r.Err())
	}
	return r.Stdout
}

// TryIn runs dhow in the stack's directory.
func (s *S) TryIn(args ...string) netlab.Result {
	return s.TryWith(netlab.Input{Dir: s.Dir}, args...)
}

// Refused runs dhow, which must fail with all of these words in its message.
func (s *S) Refused(args []string, words ...string) {
	s.Helper()
	r := s.TryIn(args...)
	if r.Code == 0 {
		s.Errorf("dhow %s: succeeded, want an error with %q", strings.Join(args, " "), words)
		return
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			s.Errorf("dhow %s: the error lacks %q:\n%s", strings.Join(args, " "), w, r.Stderr)
		}
	}
}

// Container is a line of `dhow ps --format json`.
type Container struct {
	ID, Name, Service, State, Health, Status, Image string
	ExitCode                                        int
	Publishers                                      []struct {
		URL                       string
		TargetPort, PublishedPort int
		Protocol                  string
	}
}

// PS returns the stack's containers by name.
func (s *S) PS() map[string]Container {
	s.Helper()
	out := map[string]Container{}
	dec := json.NewDecoder(strings.NewReader(s.Run("ps", "--all", "--format", "json")))
	for dec.More() {
		var c Container
		if err := dec.Decode(&c); err != nil {
			s.Fatal(err)
		}
		out[c.Name] = c
	}
	return out
}

// IDs returns container IDs by name.
func (s *S) IDs() map[string]string {
	s.Helper()
	out := map[string]string{}
	for name, c := range s.PS() {
		out[name] = c.ID
	}
	return out
}

// Same checks that exactly these containers kept their identity between two readings.
func (s *S) Same(before, after map[string]string, want ...string) {
	s.Helper()
	kept := map[string]bool{}
	for _, w := range want {
		kept[w] = true
	}
	for name, id := range before {
		switch {
		case kept[name] && after[name] != id:
			s.Errorf("container %s was replaced: %s -> %s", name, id, after[name])
		case !kept[name] && after[name] == id:
			s.Errorf("container %s was not replaced", name)
		}
	}
}

// Until waits for a condition that no command can wait for.
func (s *S) Until(what string, f func() error) {
	s.Helper()
	netlab.Eventually(s.T, 30*time.Second, what, f)
}

// Clean checks that nothing is left on the machine.
func (s *S) Clean() {
	s.Helper()
	netlab.Eventually(s.T, 10*time.Second, "nothing is left behind", func() error {
		if left := s.Leftovers(); len(left) > 0 {
			return leftError(left)
		}
		return nil
	})
}

type leftError []string

func (l leftError) Error() string { return strings.Join(l, "; ") }
