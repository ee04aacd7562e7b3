package schedule

import (
	"fmt"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func benchNodes(n int) []*stack.Node {
	nodes := make([]*stack.Node, n)
	for i := range nodes {
		nodes[i] = node(fmt.Sprintf("n%05d", i), func(n *stack.Node) {
			n.Labels = map[string]string{"zone": fmt.Sprint("z", i%3), "rack": fmt.Sprint("r", i%40)}
			n.Memory, n.NanoCPUs = 1<<50, 128e9
		})
	}
	return nodes
}

// BenchmarkPlace is one placement, the Cluster being kept, with a 40th of the
// placements taken away again: by kinds of service, by number of nodes.
func BenchmarkPlace(b *testing.B) {
	plain := func(*stack.Service) {}
	for _, kind := range []struct {
		name     string
		services int // placements go round them; 1: one service with all tasks
		spec     func(*stack.Service)
	}{
		{"one-service", 1, plain},
		{"100-services", 100, plain},
		{"one-task-each", 1 << 30, plain},
		{"zone", 100, func(s *stack.Service) { s.Deploy.Constraints = []string{"node.labels.zone == z1"} }},
		{"memory", 100, func(s *stack.Service) { s.Container.Resources.ReservedMemory = 64 << 20 }},
		{"spread", 100, func(s *stack.Service) {
			s.Deploy.Preferences = []string{"node.labels.zone", "node.labels.rack"}
		}},
	} {
		for _, nodes := range []int{10, 100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/nodes=%d", kind.name, nodes), func(b *testing.B) {
				place(b, NewCluster(benchNodes(nodes)), kind.services, kind.spec)
			})
		}
	}
}

func place(b *testing.B, c *Cluster, services int, f func(*stack.Service)) {
	specs := make([]*stack.Service, min(services, 1000))
	for i := range specs {
		specs[i] = spec(f)
	}
	b.ReportAllocs()
	i := 0
	var old []string
	for b.Loop() {
		n := i % services
		s := specs[n%len(specs)]
		t := &stack.Task{ID: fmt.Sprint(i), Stack: "shop", Service: fmt.Sprint("s", n), Slot: i/services + 1}
		a := c.Place([]Request{{Task: t, Service: s}})[0]
		if a.Node == "" {
			b.Fatal(a.Why)
		}
		if i++; i%40 == 0 {
			old = append(old, t.ID)
		}
		if len(old) > 100 {
			c.Remove(old[0])
			old = old[1:]
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "placements/s")
}

// BenchmarkLostNode is what follows the loss of one of 10,000 nodes with 100
// tasks on each, of 1,000 services: its 100 tasks find other nodes.
func BenchmarkLostNode(b *testing.B) {
	c := NewCluster(benchNodes(10000))
	s := spec(nil)
	var tasks []*stack.Task
	for i := range 1000000 {
		t := &stack.Task{ID: fmt.Sprint(i), Stack: "shop", Service: fmt.Sprint("s", i/1000), Slot: i%1000 + 1}
		t.Node = c.Place([]Request{{Task: t, Service: s}})[0].Node
		tasks = append(tasks, t)
	}
	lost := 0
	for b.Loop() {
		id := fmt.Sprintf("n%05d", lost)
		lost++
		down := *c.byID[id].node
		down.Down = true
		c.SetNode(&down)
		for i, t := range tasks {
			if t.Node != id {
				continue
			}
			gone := *t
			gone.Desired = stack.DesiredRemove
			c.Add(&gone, s)
			t = &stack.Task{ID: t.ID + "r", Stack: t.Stack, Service: t.Service, Slot: t.Slot}
			t.Node = c.Place([]Request{{Task: t, Service: s}})[0].Node
			tasks[i] = t
		}
	}
}
