package schedule

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// world is what a leader knows: the input of a Cluster made in one go.
type world struct {
	nodes       map[string]*stack.Node
	tasks       map[string]*stack.Task
	inventories map[string]Inventory
	bound       map[string]string
	services    []*stack.Service
	next        int
}

// cluster is made anew, in an order that seed decides, and looks at every node for every request.
func (w *world) cluster(seed int) *Cluster {
	c := NewCluster(nil)
	c.scan = true
	turn := func(ids []string) []string {
		if len(ids) == 0 {
			return ids
		}
		k := seed % len(ids)
		return append(slices.Clone(ids[k:]), ids[:k]...)
	}
	nodes, tasks := turn(slices.Sorted(maps.Keys(w.nodes))), turn(slices.Sorted(maps.Keys(w.tasks)))
	if seed%2 == 0 {
		slices.Reverse(tasks)
		for _, id := range tasks {
			c.Add(w.tasks[id], w.spec(w.tasks[id]))
		}
		tasks = nil
	}
	for _, id := range nodes {
		c.SetNode(w.nodes[id])
		c.SetInventory(id, w.inventories[id])
	}
	for _, id := range tasks {
		c.Add(w.tasks[id], w.spec(w.tasks[id]))
	}
	for name, node := range w.bound {
		c.BindVolume(name, node)
	}
	return c
}

func (w *world) spec(t *stack.Task) *stack.Service {
	for _, s := range w.services {
		if s.Name == t.Service {
			return s
		}
	}
	return nil
}

func drawNode(t *rapid.T, id string) *stack.Node {
	n := &stack.Node{ID: id, Hostname: "host-" + id, Role: stack.RoleWorker, OS: "linux", Labels: map[string]string{}}
	n.Architecture = rapid.SampledFrom([]string{"amd64", "amd64", "arm64"}).Draw(t, "arch")
	n.Memory = rapid.SampledFrom([]int64{0, 1 << 30, 4 << 30}).Draw(t, "memory")
	n.NanoCPUs = rapid.SampledFrom([]int64{0, 2e9, 8e9}).Draw(t, "cpus")
	n.Generic = map[string]int64{"gpu": rapid.Int64Range(0, 2).Draw(t, "gpus")}
	n.Labels["zone"] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")
	if rack := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "rack"); rack != "" {
		n.Labels["rack"] = rack
	}
	n.Availability = rapid.SampledFrom([]stack.Availability{stack.Active, stack.Active, stack.Active, stack.Active, stack.Paused, stack.Drain}).Draw(t, "availability")
	n.Down = rapid.IntRange(0, 9).Draw(t, "down") == 0
	return n
}

func drawService(t *rapid.T, i int) *stack.Service {
	s := &stack.Service{Name: fmt.Sprintf("s%d", i)}
	s.Container.Image = rapid.SampledFrom([]string{"web", "db"}).Draw(t, "image")
	s.Container.Resources.ReservedMemory = rapid.SampledFrom([]int64{0, 0, 300 << 20}).Draw(t, "memory")
	s.Container.Resources.ReservedNanoCPUs = rapid.SampledFrom([]int64{0, 0, 5e8}).Draw(t, "cpus")
	if rapid.IntRange(0, 5).Draw(t, "wants gpu") == 0 {
		s.Container.Resources.Generic = map[string]int64{"gpu": 1}
	}
	if rapid.IntRange(0, 5).Draw(t, "wants port") == 0 {
		ip := rapid.SampledFrom([]string{"", "127.0.0.1", "0.0.0.0", "::", "::1"}).Draw(t, "ip")
		s.Container.Ports = []stack.Port{{HostIP: ip, HostPort: 80, ContainerPort: 80, Mode: "host"}}
	}
	if rapid.IntRange(0, 3).Draw(t, "constrained") == 0 {
		s.Deploy.Constraints = []string{rapid.SampledFrom([]string{
			"node.labels.zone == a", "node.labels.rack exists", "node.labels.zone in (a, b)", "node.labels.rack != 1", "node.hostname == HOST-n3",
			"service != s0", "service == s1", "service != s2", "service in (s0, s1)", "service == s3", "service != s3", "node.id == n2",
		}).Draw(t, "constraint")}
	}
	if rapid.IntRange(0, 2).Draw(t, "spreads") == 0 {
		s.Deploy.Preferences = rapid.SampledFrom([][]string{{"node.labels.zone"}, {"node.labels.zone", "node.labels.rack"}, {"node.labels.none"}}).Draw(t, "spread")
	}
	if rapid.IntRange(0, 4).Draw(t, "limited") == 0 {
		s.Deploy.MaxReplicasPerNode = rapid.IntRange(1, 2).Draw(t, "limit")
	}
	return s
}

func (w *world) drawRequest(t *rapid.T) Request {
	s := w.services[rapid.IntRange(0, len(w.services)-1).Draw(t, "service")]
	w.next++
	r := Request{Service: s, Task: &stack.Task{ID: fmt.Sprintf("t%04d", w.next), Stack: "shop", Service: s.Name, Slot: w.next, Desired: stack.DesiredRun}}
	ids := slices.Sorted(maps.Keys(w.nodes))
	if len(ids) == 0 {
		return r
	}
	some := func(label string) string { return rapid.SampledFrom(ids).Draw(t, label) }
	switch rapid.IntRange(0, 12).Draw(t, "special") {
	case 0:
		r.Platforms = []string{rapid.SampledFrom([]string{"linux/amd64", "linux/arm64"}).Draw(t, "platform")}
	case 1:
		r.Failures = map[string]int{some("failing"): AvoidAfter, some("failing less"): AvoidAfter - 1}
	case 2:
		r.Replaces = some("replaces")
	case 3:
		r.Volumes = []Volume{{Name: rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "volume")}}
	case 4:
		r.Volumes = []Volume{{Name: "v3", Nodes: []string{some("has"), some("has too")}, External: true}}
	case 5:
		r.Task.Pin = some("pin")
	case 6:
		r.Mates = []Mate{{Task: &stack.Task{ID: "m", Stack: "shop", Service: s.Name, Slot: 99}, Service: s}}
	case 7:
		r.Failures, r.Replaces = map[string]int{some("failing"): 7}, some("replaces")
	}
	return r
}

// A Cluster that followed every change answers as one that was made of the
// outcome, in any order, and looks at all nodes.
func TestAFollowedClusterAnswersAsAFreshOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{nodes: map[string]*stack.Node{}, tasks: map[string]*stack.Task{}, inventories: map[string]Inventory{}, bound: map[string]string{}}
		for i := range rapid.IntRange(1, 5).Draw(t, "services") {
			w.services = append(w.services, drawService(t, i))
		}
		c := NewCluster(nil)
		for i := range rapid.IntRange(0, 12).Draw(t, "nodes") {
			n := drawNode(t, fmt.Sprintf("n%d", i))
			w.nodes[n.ID] = n
			c.SetNode(n)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w.step(t, c)
		}
	})
}

func (w *world) step(t *rapid.T, c *Cluster) {
	id := fmt.Sprintf("n%d", rapid.IntRange(0, 12).Draw(t, "node"))
	var task *stack.Task
	if ids := slices.Sorted(maps.Keys(w.tasks)); len(ids) > 0 {
		task = w.tasks[rapid.SampledFrom(ids).Draw(t, "task")]
	}
	switch rapid.IntRange(0, 9).Draw(t, "step") {
	case 0:
		w.nodes[id] = drawNode(t, id)
		c.SetNode(w.nodes[id])
	case 1:
		delete(w.nodes, id)
		delete(w.inventories, id)
		c.RemoveNode(id)
	case 2:
		if w.nodes[id] != nil {
			w.inventories[id] = Inventory{Images: []string{rapid.SampledFrom([]string{"web", "db", "other"}).Draw(t, "image")}}
			c.SetInventory(id, w.inventories[id])
		}
	case 3:
		if task != nil {
			delete(w.tasks, task.ID)
			c.Remove(task.ID)
		}
	case 4:
		if task != nil {
			changed := *task
			changed.Desired = rapid.SampledFrom([]stack.Desired{stack.DesiredRun, stack.DesiredRemove}).Draw(t, "desired")
			changed.Status.State = rapid.SampledFrom([]stack.TaskState{stack.TaskRunning, stack.TaskFailed}).Draw(t, "state")
			w.tasks[task.ID] = &changed
			c.Add(&changed, w.spec(&changed))
		}
	default:
		w.place(t, c)
	}
}

func (w *world) place(t *rapid.T, c *Cluster) {
	var requests []Request
	for range rapid.IntRange(1, 6).Draw(t, "requests") {
		requests = append(requests, w.drawRequest(t))
	}
	want := w.cluster(rapid.IntRange(0, 20).Draw(t, "order")).Place(requests)
	got := c.Place(requests)
	for i, a := range got {
		if a.Node != want[i].Node || a.Why != want[i].Why || !slices.Equal(a.Binds, want[i].Binds) {
			t.Fatalf("request %d for %s: followed: %+v, fresh: %+v", i, requests[i].Task.Service, a, want[i])
		}
		if a.Node != "" {
			placed := *requests[i].Task
			placed.Node, placed.Status.State = a.Node, stack.TaskAssigned
			w.tasks[placed.ID] = &placed
		}
		for _, v := range a.Binds {
			w.bound[v] = a.Node
		}
	}
}
