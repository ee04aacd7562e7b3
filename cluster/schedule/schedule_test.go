package schedule

import (
	"fmt"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func node(id string, f func(*stack.Node)) *stack.Node {
	n := &stack.Node{ID: id, Hostname: "host-" + id, OS: "linux", Architecture: "amd64", Role: stack.RoleWorker, Memory: 1 << 30, NanoCPUs: 2e9}
	if f != nil {
		f(n)
	}
	return n
}

func spec(f func(*stack.Service)) *stack.Service {
	s := &stack.Service{Name: "web"}
	if f != nil {
		f(s)
	}
	return s
}

func task(slot int) *stack.Task { return &stack.Task{Stack: "shop", Service: "web", Slot: slot} }

func TestRefusalsExplain(t *testing.T) {
	small := func(n *stack.Node) { n.Memory = 256 << 20 }
	cases := []struct {
		nodes []*stack.Node
		want  func(*stack.Service)
		why   string
	}{
		{nil, nil, "web.2: no node fits: there is none"},
		{[]*stack.Node{node("a", small)}, func(s *stack.Service) { s.Container.Resources.ReservedMemory = 512 << 20 }, "web.2: no node fits: 1 lacks memory (want 512MiB)"},
		{[]*stack.Node{node("a", func(n *stack.Node) { n.Availability = stack.Drain }), node("b", small), node("c", small), node("d", small)},
			func(s *stack.Service) { s.Container.Resources.ReservedMemory = 512 << 20 }, "web.2: no node fits: 3 lack memory (want 512MiB), 1 drained"},
		{[]*stack.Node{node("a", nil)}, func(s *stack.Service) { s.Container.Resources.ReservedNanoCPUs = 2.5e9 }, "web.2: no node fits: 1 lacks CPU (want 2.5)"},
		{[]*stack.Node{node("a", nil)}, func(s *stack.Service) { s.Container.Platform = "linux/arm64" }, "web.2: no node fits: 1 of another platform (want linux/arm64)"},
		{[]*stack.Node{node("a", nil)}, func(s *stack.Service) { s.Deploy.Constraints = []string{"node.labels.zone == east"} }, `web.2: no node fits: 1 not matching "node.labels.zone == east"`},
		{[]*stack.Node{node("a", func(n *stack.Node) { n.Down = true })}, nil, "web.2: no node fits: 1 down"},
		{[]*stack.Node{node("a", nil)}, func(s *stack.Service) { s.Container.Resources.Generic = map[string]int64{"gpu": 1} }, "web.2: no node fits: 1 lacks gpu (want 1)"},
	}
	for _, c := range cases {
		got := NewCluster(c.nodes).Place([]Request{{Task: task(2), Service: spec(c.want)}})[0]
		if got.Node != "" || got.Why != c.why {
			t.Errorf("got %+v, want %q", got, c.why)
		}
	}
}

func TestPlacesSpreadAndResourcesAreCounted(t *testing.T) {
	c := NewCluster([]*stack.Node{node("b", nil), node("a", nil)})
	s := spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 400 << 20 })
	c.Add(&stack.Task{Stack: "shop", Service: "db", Node: "a"}, spec(nil))
	c.Add(&stack.Task{Stack: "shop", Service: "db", Node: "a", Status: stack.TaskStatus{State: stack.TaskFailed}}, s)
	var requests []Request
	for i := range 5 {
		requests = append(requests, Request{Task: task(i + 1), Service: s})
	}
	got := ""
	for _, a := range c.Place(requests) {
		got += fmt.Sprintf("%s;", a.Node+a.Why)
	}
	if want := "b;a;b;a;web.5: no node fits: 2 lack memory (want 400MiB);"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	limited := spec(func(s *stack.Service) { s.Deploy.MaxReplicasPerNode = 2 })
	if a := c.Place([]Request{{Task: task(6), Service: limited}})[0]; a.Why != "web.6: no node fits: 2 at max_replicas_per_node (2)" {
		t.Errorf("got %+v", a)
	}
	if a := c.Place([]Request{{Task: &stack.Task{Service: "x", Slot: 1, Pin: "b"}, Service: spec(nil)}})[0]; a.Node != "b" {
		t.Errorf("a pinned task went to %q", a.Node)
	}
}
