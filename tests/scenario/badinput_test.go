package scenario

import (
	"strings"
	"testing"
)

func TestBadInputChangesNothing(t *testing.T) {
	s := Scenario(t, "bad input gets an error with file and line, and changes nothing", "busybox:latest")
	const good = "name: good\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}\n"
	s.Compose(good)
	s.Run("up", "-d", "--wait")
	before := s.IDs()

	for _, tc := range []struct {
		name, file string
		words      []string
	}{
		{"not YAML", "services:\n  a: [\n", []string{"compose.yaml:"}},
		{"unknown key", "name: good\nservices:\n  a:\n    image: busybox\n    imagee: x\n", []string{"compose.yaml:5", "imagee"}},
		{"cycle", "name: good\nservices:\n  a: {image: busybox, depends_on: [b]}\n  b: {image: busybox, depends_on: [a]}\n", []string{"a", "b", "cycle"}},
		{"undefined network", "name: good\nservices:\n  a:\n    image: busybox\n    networks: [nope]\n", []string{"compose.yaml:5", "nope"}},
		{"port out of range", "name: good\nservices:\n  a:\n    image: busybox\n    ports: ['70000:80']\n", []string{"compose.yaml:5", "70000"}},
		{"two mistakes at once", "name: good\nservices:\n  a:\n    image: busybox\n    imagee: x\n    networks: [nope]\n", []string{"imagee", "nope"}},
		{"build is not honoured yet", "name: good\nservices:\n  a:\n    build: .\n", []string{"compose.yaml:4", "build"}},
		{"missing image", "name: good\nservices:\n  a:\n    image: 127.0.0.1:1/nope:1\n", []string{"127.0.0.1:1"}},
		{"missing bind source", "name: other\nservices:\n  a:\n    image: busybox\n    volumes: [{type: bind, source: ./nope, target: /x, bind: {create_host_path: false}}]\n", []string{"nope"}},
		{"required variable", "name: good\nservices:\n  a:\n    image: ${IMAGE:?say which}\n", []string{"IMAGE", "say which"}},
	} {
		s.Step(tc.name, func() {
			s.Compose(tc.file)
			s.Refused([]string{"up", "-d", "--wait"}, tc.words...)
		})
	}
	s.Compose(good)
	s.Step("nothing has changed", func() {
		s.Same(before, s.IDs(), "good-a-1")
		if out := strings.TrimSpace(s.Run("plan")); out != "no changes" {
			t.Errorf("plan: %s", out)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}
