package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func labelled(id string, labels ...string) *stack.Node {
	return node(id, func(n *stack.Node) {
		n.Labels = map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			n.Labels[labels[i]] = labels[i+1]
		}
	})
}

func on(node, service string, slot int) *stack.Task {
	return &stack.Task{ID: fmt.Sprintf("%s-%d-%s", service, slot, node), Stack: "shop", Service: service, Slot: slot, Node: node, Desired: stack.DesiredRun}
}

func named(name string, f func(*stack.Service)) *stack.Service {
	s := spec(f)
	s.Name = name
	return s
}

// one places one task of web and says where, or why not.
func (c *Cluster) one(r Request) string {
	if r.Task == nil {
		r.Task = task(1)
	}
	if r.Service == nil {
		r.Service = spec(nil)
	}
	a := c.Place([]Request{r})[0]
	return a.Node + strings.TrimPrefix(a.Why, "web.1: no node fits: ")
}

func publishing(ip string, port uint16, f ...func(*stack.Port)) *stack.Service {
	return spec(func(s *stack.Service) {
		p := stack.Port{HostIP: ip, HostPort: port, ContainerPort: 80}
		for _, f := range f {
			f(&p)
		}
		s.Container.Ports = []stack.Port{p}
	})
}

func TestRules(t *testing.T) {
	three := []*stack.Node{node("a", nil), node("b", nil), node("c", nil)}
	with := func(f func(*stack.Service)) Request { return Request{Service: spec(f)} }
	constrained := func(expr string) Request {
		return with(func(s *stack.Service) { s.Deploy.Constraints = []string{expr} })
	}
	db := named("db", nil)
	shy := named("db", func(s *stack.Service) { s.Deploy.Constraints = []string{"service != web"} })
	cases := []struct {
		name  string
		setup func(*Cluster)
		ask   Request
		want  string
	}{
		{"with a service", func(c *Cluster) { c.Add(on("b", "db", 1), db) }, constrained("service == db"), "b"},
		{"with a service of another stack", func(c *Cluster) { c.Add(on("b", "db", 1), db) }, constrained("service == other/db"), `3 not matching "service == other/db"`},
		{"with a service by its full name", func(c *Cluster) { c.Add(on("c", "db", 1), db) }, constrained("service in (shop/db, x)"), "c"},
		{"with a service that leaves", func(c *Cluster) { t := on("b", "db", 1); t.Desired = stack.DesiredRemove; c.Add(t, db) }, constrained("service == db"), `3 not matching "service == db"`},
		{"away from a service", func(c *Cluster) { c.Add(on("a", "db", 1), db); c.Add(on("c", "db", 2), db) }, constrained("service != db"), "b"},
		{"away from a service that is everywhere", func(c *Cluster) {
			for i, n := range three {
				c.Add(on(n.ID, "db", i+1), db)
			}
		}, constrained("service not in (db)"), `3 not matching "service not in (db)"`},
		{"a service that keeps away", func(c *Cluster) { c.Add(on("a", "db", 1), shy) }, Request{}, "b"},
		{"a service that keeps away everywhere", func(c *Cluster) {
			for i, n := range three {
				c.Add(on(n.ID, "db", i+1), shy)
			}
		}, Request{}, "3 run a service that keeps away from this one"},
		{"with itself, first", nil, constrained("service == web"), "a"},
		{"with itself", func(c *Cluster) { c.Add(on("c", "web", 2), spec(nil)) }, constrained("service == web"), "c"},
		{"pinned", nil, Request{Task: &stack.Task{Stack: "shop", Service: "web", Slot: 1, Pin: "c"}}, "c"},
		{"pinned to a node that is gone", nil, Request{Task: &stack.Task{Stack: "shop", Service: "web", Slot: 1, Pin: "z"}}, "its node z is not in the cluster"},
		{"home", nil, Request{Home: "b"}, "b"},
		{"home is down", func(c *Cluster) { c.SetNode(node("b", func(n *stack.Node) { n.Down = true })) }, Request{Home: "b"}, "2 without the files of its bind mounts (they are on host-b), 1 down"},
		{"a bound volume", nil, Request{Volumes: []Volume{{Name: "shop_data", Node: "b"}}}, "b"},
		{"a bound volume on a drained node", func(c *Cluster) { c.SetNode(node("b", func(n *stack.Node) { n.Availability = stack.Drain })) },
			Request{Volumes: []Volume{{Name: "shop_data", Node: "b"}}}, "2 have not volume shop_data (it is on host-b), 1 drained"},
		{"a volume on a node that is gone", nil, Request{Volumes: []Volume{{Name: "shop_data", Node: "z"}}}, "3 have not volume shop_data (it is on node z, which is not in the cluster)"},
		{"two volumes apart", nil, Request{Volumes: []Volume{{Name: "v1", Node: "a"}, {Name: "v2", Node: "b"}}}, "2 have not volume v1 (it is on host-a), 1 has not volume v2 (it is on host-b)"},
		{"an external volume", nil, Request{Volumes: []Volume{{Name: "nas", External: true, Nodes: []string{"c", "b"}}}}, "b"},
		{"an external volume nowhere", nil, Request{Volumes: []Volume{{Name: "nas", External: true}}}, "3 have not volume nas (no node has: make it with volume create)"},
		{"a free volume that a node has", nil, Request{Volumes: []Volume{{Name: "shop_data", Nodes: []string{"c"}}}}, "c"},
		{"with its mate", nil, Request{Mates: []Mate{{Task: on("c", "db", 1), Service: db}}}, "c"},
		{"its mate's node is full", func(c *Cluster) {
			c.Add(on("c", "x", 1), spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 1 << 30 }))
		},
			Request{Service: spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 1 }), Mates: []Mate{{Task: on("c", "db", 1), Service: db}}},
			"2 not the node of db.1, with which it shares (host-c), 1 lacks memory (want 1B)"},
		{"its mate has to leave", func(c *Cluster) { c.SetNode(node("c", func(n *stack.Node) { n.Availability = stack.Drain })) },
			Request{Mates: []Mate{{Task: on("c", "db", 1), Service: db}}}, "a"},
		{"room for all mates", func(c *Cluster) {
			c.Add(on("a", "x", 1), spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 600 << 20 }))
		},
			Request{Service: spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 300 << 20 }), Mates: []Mate{{Task: &stack.Task{Stack: "shop", Service: "log"}, Service: named("log", func(s *stack.Service) { s.Container.Resources.ReservedMemory = 200 << 20 })}}}, "b"},
		{"no room for all mates", nil,
			Request{Service: spec(func(s *stack.Service) { s.Container.Resources.ReservedMemory = 768 << 20 }), Mates: []Mate{{Task: &stack.Task{Stack: "shop", Service: "log"}, Service: named("log", func(s *stack.Service) { s.Container.Resources.ReservedMemory = 512 << 20 })}}},
			"3 lack memory (want 1280MiB together with log)"},
		{"a mate fits nowhere", nil, Request{Mates: []Mate{{Task: &stack.Task{Stack: "shop", Service: "log"}, Service: named("log", func(s *stack.Service) { s.Deploy.Constraints = []string{"node.id == z"} })}}},
			"3 not fit for log, with which it shares"},
		{"the image's platform", func(c *Cluster) { c.SetNode(node("c", func(n *stack.Node) { n.Architecture = "arm64" })) }, Request{Platforms: []string{"linux/arm64/v8"}}, "c"},
		{"no node of the image's platform", nil, Request{Platforms: []string{"linux/arm64", "linux/s390x"}}, "3 of another platform (the image is for linux/arm64, linux/s390x)"},
		{"a node that has the image", func(c *Cluster) { c.SetInventory("b", Inventory{Images: []string{"web:1"}}) }, with(func(s *stack.Service) { s.Container.Image = "web:1" }), "b"},
		{"the image is no reason for an uneven spread", func(c *Cluster) {
			c.SetInventory("b", Inventory{Images: []string{"web:1"}})
			c.Add(on("b", "web", 2), spec(nil))
		}, with(func(s *stack.Service) { s.Container.Image = "web:1" }), "a"},
		{"a node that fails it", nil, Request{Failures: map[string]int{"a": AvoidAfter, "b": AvoidAfter - 1}}, "b"},
		{"all nodes fail it", nil, Request{Failures: map[string]int{"a": 9, "b": 9, "c": 9}}, "a"},
		{"in place of a running task", func(c *Cluster) {
			for i, n := range three {
				c.Add(on(n.ID, "web", i+2), spec(nil))
			}
		}, Request{Replaces: "b"}, "b"},
		{"a port that is taken", func(c *Cluster) { c.Add(on("a", "x", 1), publishing("", 80)) }, Request{Service: publishing("127.0.0.1", 80)}, "b"},
		{"a port that is taken everywhere", func(c *Cluster) {
			for i, n := range three {
				c.Add(on(n.ID, "x", i+1), publishing("0.0.0.0", 80))
			}
		}, Request{Service: publishing("127.0.0.1", 80)}, "3 have port 127.0.0.1:80/tcp taken (by x)"},
		{"a constraint that cannot be read", nil, constrained("node.id = a"), `constraint "node.id = a": = is not a comparison; use ==`},
		{"by host name", nil, constrained("node.hostname == HOST-C"), "c"},
		{"by ID", nil, constrained("node.id == c"), "c"},
		{"one of many tests", func(c *Cluster) {
			c.SetNode(node("b", func(n *stack.Node) { n.Availability = stack.Paused }))
			c.SetNode(node("d", func(n *stack.Node) { n.Down, n.Availability = true, stack.Drain }))
		}, with(func(s *stack.Service) { s.Container.Resources.ReservedNanoCPUs = 3e9 }), "2 lack CPU (want 3), 1 down, 1 paused"},
	}
	for _, tc := range cases {
		for _, scan := range []bool{false, true} {
			c := NewCluster(three)
			c.scan = scan
			if tc.setup != nil {
				tc.setup(c)
			}
			if got := c.one(tc.ask); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
			}
		}
	}
}

func TestHostPorts(t *testing.T) {
	udp := func(p *stack.Port) { p.Protocol = "udp" }
	choice := func(p *stack.Port) { p.HostPortEnd = p.HostPort + 9 }
	for _, c := range []struct {
		a, b     *stack.Service
		together bool
	}{
		{publishing("", 80), publishing("", 80), false},
		{publishing("", 80), publishing("", 81), true},
		{publishing("", 80), publishing("", 80, udp), true},
		{publishing("10.0.0.1", 80), publishing("10.0.0.2", 80), true},
		{publishing("10.0.0.1", 80), publishing("10.0.0.1", 80), false},
		{publishing("10.0.0.1", 80), publishing("0.0.0.0", 80), false},
		{publishing("::1", 80), publishing("::", 80), false},
		{publishing("10.0.0.1", 80), publishing("::", 80), true},
		{publishing("::1", 80), publishing("", 80), false},
		{publishing("", 80, choice), publishing("", 80, choice), true},
		{publishing("", 0), publishing("", 0), true},
		{publishing("", 80), spec(func(s *stack.Service) {
			s.Container.NetworkMode = "host"
			s.Container.Ports = []stack.Port{{HostPort: 80, ContainerPort: 80}}
		}), true},
	} {
		for _, order := range [][2]*stack.Service{{c.a, c.b}, {c.b, c.a}} {
			cl := NewCluster([]*stack.Node{node("n", nil)})
			cl.Add(on("n", "x", 1), order[0])
			if got := cl.one(Request{Service: order[1]}); (got == "n") != c.together {
				t.Errorf("%+v beside %+v: %s", order[1].Container.Ports, order[0].Container.Ports, got)
			}
		}
	}
}

// What is published takes turns among the tasks of its service, and is one
// service's; a port of mode host is one container's.
func TestTasksOfAServiceShareWhatItPublishes(t *testing.T) {
	host := func(p *stack.Port) { p.Mode = "host" }
	for _, c := range []struct {
		service string
		s       *stack.Service
		fits    bool
	}{{"web", publishing("", 80), true}, {"other", publishing("", 80), false}, {"web", publishing("", 80, host), false}} {
		cl := NewCluster([]*stack.Node{node("n", nil)})
		cl.Add(on("n", "web", 1), publishing("", 80))
		a := cl.Place([]Request{{Task: &stack.Task{ID: "t", Stack: "shop", Service: c.service, Slot: 2}, Service: c.s}})[0]
		if (a.Node == "n") != c.fits {
			t.Errorf("%s beside web: %+v", c.service, a)
		}
	}
}

// Swarm's example: evenly over the branches first, whatever number of nodes
// they have, then within.
func TestSpreadOverSeveralLevels(t *testing.T) {
	c := NewCluster([]*stack.Node{
		labelled("e1", "zone", "east", "rack", "1"), labelled("e2", "zone", "east", "rack", "2"), labelled("e3", "zone", "east", "rack", "2"),
		labelled("w1", "zone", "west", "rack", "1"), labelled("x1"),
	})
	s := spec(func(s *stack.Service) { s.Deploy.Preferences = []string{"node.labels.zone", "node.labels.rack"} })
	count := map[string]int{}
	for i := range 12 {
		a := c.Place([]Request{{Task: &stack.Task{ID: fmt.Sprint(i), Stack: "shop", Service: "web", Slot: i + 1}, Service: s}})[0]
		count[a.Node]++
	}
	if got, want := fmt.Sprint(count), "map[e1:2 e2:1 e3:1 w1:4 x1:4]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTasksThatShareAFreeVolume(t *testing.T) {
	c := NewCluster([]*stack.Node{node("a", nil), node("b", nil)})
	c.Add(on("a", "x", 1), spec(nil))
	var requests []Request
	for i, name := range []string{"web", "db", "web"} {
		requests = append(requests, Request{
			Task: &stack.Task{ID: fmt.Sprint(i), Stack: "shop", Service: name, Slot: i}, Service: named(name, nil), Volumes: []Volume{{Name: "shop_data"}},
		})
	}
	got := c.Place(requests)
	for i, a := range got {
		if a.Node != "b" || (len(a.Binds) > 0) != (i == 0) {
			t.Errorf("request %d: %+v", i, a)
		}
	}
	if !slices.Equal(got[0].Binds, []string{"shop_data"}) {
		t.Errorf("binds %v", got[0].Binds)
	}
	c.BindVolume("shop_data", "")
	if a := c.Place(requests[:1])[0]; len(a.Binds) != 1 {
		t.Errorf("a volume that is gone: %+v", a)
	}
}

// In an update that starts first, each new task takes the place of its
// predecessor: the spread stays as it is.
func TestAnUpdateKeepsTheSpread(t *testing.T) {
	c := NewCluster([]*stack.Node{node("a", nil), node("b", nil)})
	old := []*stack.Task{on("a", "web", 1), on("b", "web", 2)}
	for _, o := range old {
		c.Add(o, spec(nil))
	}
	for i, o := range old {
		n := &stack.Task{ID: fmt.Sprint("new", i), Stack: "shop", Service: "web", Slot: i + 1, Version: 2}
		if a := c.Place([]Request{{Task: n, Service: spec(nil), Replaces: o.Node}})[0]; a.Node != o.Node {
			t.Errorf("%s.%d goes to %s", o.Service, o.Slot, a.Node)
		}
		gone := *o
		gone.Desired = stack.DesiredRemove
		c.Add(&gone, spec(nil))
	}
}

func TestMates(t *testing.T) {
	specs := map[string]*stack.Service{
		"web": named("web", nil), "db": named("db", nil),
		"log":  named("log", func(s *stack.Service) { s.Container.NetworkMode = "service:web" }),
		"dump": named("dump", func(s *stack.Service) { s.Container.VolumesFrom = []string{"service:log:ro"} }),
	}
	var services []*stack.Service
	for _, name := range []string{"db", "dump", "log", "web"} {
		services = append(services, specs[name])
	}
	if got := fmt.Sprint(Groups(services)); got != "map[dump:[dump log web] log:[dump log web] web:[dump log web]]" {
		t.Errorf("groups: %s", got)
	}
	leaving, failed := on("a", "web", 1), on("b", "web", 2)
	leaving.Desired, failed.Status.State = stack.DesiredRemove, stack.TaskFailed
	tasks := []*stack.Task{on("c", "web", 1), leaving, on("d", "web", 2), failed, on("", "log", 1), on("", "log", 2), on("", "log", 3), on("", "dump", 1), on("e", "db", 1)}
	text := func(i int) (out string) {
		for _, m := range Mates(tasks[i], tasks, func(t *stack.Task) *stack.Service { return specs[t.Service] }) {
			out += fmt.Sprintf("%s.%d@%s ", m.Task.Service, m.Task.Slot, m.Task.Node)
		}
		return out
	}
	for i, want := range map[int]string{0: "dump.1@ log.1@ log.3@ ", 2: "log.2@ ", 4: "dump.1@ log.3@ web.1@c ", 7: "log.1@ log.3@ web.1@c ", 8: ""} {
		if got := text(i); got != want {
			t.Errorf("mates of %s.%d: %q, want %q", tasks[i].Service, tasks[i].Slot, got, want)
		}
	}
}
