package schedule

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// placed is what Place alone has put on a node.
type placed struct {
	memory, cpu, gpus int64
	by                map[string]int
	ports             []string
}

// What Place alone puts on nodes never takes more of anything than they have,
// never breaks a constraint or a limit, and shares no port.
func TestNothingIsOverCommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{nodes: map[string]*stack.Node{}}
		for i := range rapid.IntRange(1, 5).Draw(t, "services") {
			w.services = append(w.services, drawService(t, i))
		}
		c := NewCluster(nil)
		on := map[string]*placed{}
		for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
			n := drawNode(t, fmt.Sprintf("n%d", i))
			w.nodes[n.ID], on[n.ID] = n, &placed{by: map[string]int{}}
			c.SetNode(n)
		}
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			r := w.drawRequest(t)
			r.Mates = nil
			a := c.Place([]Request{r})[0]
			if a.Node == "" {
				continue
			}
			on[a.Node].take(r.Service)
			if why := on[a.Node].broken(w.nodes[a.Node], r.Service); why != "" {
				t.Fatalf("%s on %s: %s", r.Service.Name, a.Node, why)
			}
		}
	})
}

func (p *placed) take(s *stack.Service) {
	p.memory += s.Container.Resources.ReservedMemory
	p.cpu += s.Container.Resources.ReservedNanoCPUs
	p.gpus += s.Container.Resources.Generic["gpu"]
	p.by[s.Name]++
	for _, port := range s.Container.Ports {
		p.ports = append(p.ports, port.HostIP)
	}
}

// broken says what is wrong with a node on which a task of s was the last to come.
func (p *placed) broken(n *stack.Node, s *stack.Service) string {
	all := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	for i, a := range p.ports {
		for _, b := range p.ports[:i] {
			if a == b || all(a) || all(b) || slices.Contains([]string{a, b}, "::") && slices.Contains([]string{a, b}, "::1") {
				return fmt.Sprintf("ports of %q", p.ports)
			}
		}
	}
	limit := s.Deploy.MaxReplicasPerNode
	switch {
	case n.Down || n.Availability != stack.Active:
		return "takes no tasks"
	case n.Memory > 0 && p.memory > n.Memory, n.NanoCPUs > 0 && p.cpu > n.NanoCPUs, p.gpus > n.Generic["gpu"]:
		return fmt.Sprintf("%+v is more than %+v", p, n)
	case limit > 0 && p.by[s.Name] > limit:
		return fmt.Sprintf("%d tasks, limit %d", p.by[s.Name], limit)
	}
	for _, expr := range s.Deploy.Constraints {
		con, err := stack.ParseConstraint(expr)
		if err != nil || !con.Matches(n) {
			return expr
		}
		beside := slices.ContainsFunc(con.Values, func(name string) bool {
			return p.by[name] > 1 || p.by[name] == 1 && name != s.Name
		})
		alone := con.Values != nil && slices.Contains(con.Values, s.Name)
		if con.OfService() && (con.Op == stack.NotEqual && beside || con.Op != stack.NotEqual && !beside && !alone) {
			return expr
		}
	}
	return ""
}

// Nodes that are alike get as many tasks, give or take one.
func TestTheSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, zones := rapid.IntRange(1, 20).Draw(t, "nodes"), rapid.IntRange(1, 4).Draw(t, "zones")
		c := NewCluster(nil)
		for i := range nodes {
			c.SetNode(labelled(fmt.Sprintf("n%02d", i), "zone", fmt.Sprint(i%zones)))
		}
		s := spec(nil)
		spread := rapid.Bool().Draw(t, "over zones")
		if spread {
			s.Deploy.Preferences = []string{"node.labels.zone"}
		}
		other := spec(nil)
		byNode, byZone := map[string]int{}, map[string]int{}
		for i := range nodes {
			byNode[fmt.Sprintf("n%02d", i)], byZone[fmt.Sprint(i%zones)] = 0, 0
		}
		for i := range rapid.IntRange(0, 100).Draw(t, "tasks") {
			if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
				c.Place([]Request{{Task: &stack.Task{ID: fmt.Sprint("o", i), Stack: "shop", Service: "other", Slot: i}, Service: other}})
			}
			a := c.Place([]Request{{Task: &stack.Task{ID: fmt.Sprint(i), Stack: "shop", Service: "web", Slot: i}, Service: s}})[0]
			byNode[a.Node]++
			byZone[c.byID[a.Node].node.Labels["zone"]]++
		}
		even := byNode
		if spread {
			even = byZone
		}
		counts := slices.Collect(maps.Values(even))
		if len(counts) > 0 && slices.Max(counts)-slices.Min(counts) > 1 {
			t.Fatalf("%v", even)
		}
	})
}

// Whoever of a group comes first finds a node for all.
func TestAGroupSharesANode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := NewCluster(nil)
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			c.SetNode(drawNode(t, fmt.Sprintf("n%d", i)))
		}
		var group []*stack.Service
		var tasks []*stack.Task
		for i := range rapid.IntRange(2, 4).Draw(t, "members") {
			s := named(fmt.Sprint("g", i), nil)
			s.Container.Resources.ReservedMemory = rapid.Int64Range(0, 2<<30).Draw(t, "memory")
			s.Container.Resources.ReservedNanoCPUs = rapid.Int64Range(0, 2e9).Draw(t, "cpus")
			if i > 0 {
				s.Container.PIDMode = fmt.Sprint("service:g", rapid.IntRange(0, i-1).Draw(t, "shares with"))
			}
			group, tasks = append(group, s), append(tasks, &stack.Task{ID: s.Name, Stack: "shop", Service: s.Name, Slot: 1})
		}
		at := func(o *stack.Task) *stack.Service { return group[int(o.Service[1]-'0')] }
		order := rapid.Permutation(tasks).Draw(t, "order")
		for i, o := range order {
			a := c.Place([]Request{{Task: o, Service: at(o), Mates: Mates(o, tasks, at)}})[0]
			if i > 0 && a.Node != order[0].Node {
				t.Fatalf("%s goes to %q (%s), %s is on %q", o.Service, a.Node, a.Why, order[0].Service, order[0].Node)
			}
			o.Node = a.Node
		}
	})
}
