package cluster

import (
	"errors"
	"testing"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// A node's ID may begin as another's name reads.
func TestNodesAreFoundByWhatPersonsCallThem(t *testing.T) {
	s := state.New()
	var changes []state.Change
	for id, name := range map[string]string{"a9w10": "h1", "h1hbs": "h2", "gksxf": "twin", "h3xyz": "twin"} {
		changes = append(changes, state.Change{Node: &stack.Node{ID: id, Hostname: name}})
	}
	if err := s.Apply(1, state.Command{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"h1": "a9w10", "h2": "h1hbs", "h1hbs": "h1hbs", "h1h": "h1hbs", "gk": "gksxf", "self": "h3xyz"} {
		if n, err := findNode(s.Snapshot(), ref, "h3xyz"); err != nil || n.ID != want {
			t.Errorf("%s: %v, %v, want %s", ref, n, err, want)
		}
	}
	for ref, want := range map[string]error{"twin": runtime.ErrInvalid, "h": runtime.ErrInvalid, "": runtime.ErrNotFound, "x": runtime.ErrNotFound} {
		if n, err := findNode(s.Snapshot(), ref, ""); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v, want %v", ref, n, err, want)
		}
	}
}
