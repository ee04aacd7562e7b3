package schedule

import (
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Request is one task to place.
type Request struct {
	Task    *stack.Task
	Service *stack.Service
}

// Assignment is the answer to the request at Index.
type Assignment struct {
	Index int
	Node  string // "": refused
	Why   string // of a refusal
}

// Used is what the tasks of a node have been promised.
type Used struct {
	NanoCPUs, Memory int64
	Generic          map[string]int64
	Tasks            int
	ByService        map[string]int // key: stack/service
}

// Cluster is the nodes and what is in use on them. Place counts what it places,
// so that one Cluster serves several calls of a round.
type Cluster struct {
	nodes []*stack.Node // by ID
	used  map[string]*Used
}

// NewCluster takes the nodes in any order.
func NewCluster(nodes []*stack.Node) *Cluster {
	c := &Cluster{nodes: slices.Clone(nodes), used: make(map[string]*Used, len(nodes))}
	slices.SortFunc(c.nodes, func(a, b *stack.Node) int { return strings.Compare(a.ID, b.ID) })
	for _, n := range nodes {
		c.used[n.ID] = &Used{Generic: map[string]int64{}, ByService: map[string]int{}}
	}
	return c
}

// Add counts a task that has a node. Tasks that have ended use nothing.
func (c *Cluster) Add(t *stack.Task, s *stack.Service) {
	u := c.used[t.Node]
	if u == nil || t.Status.State >= stack.TaskCompleted {
		return
	}
	u.Tasks++
	u.ByService[serviceKey(t)]++
	if s == nil {
		return
	}
	u.NanoCPUs += s.Container.Resources.ReservedNanoCPUs
	u.Memory += s.Container.Resources.ReservedMemory
	for kind, n := range s.Container.Resources.Generic {
		u.Generic[kind] += n
	}
}

func serviceKey(t *stack.Task) string { return t.Stack + "/" + t.Service }

// Place answers each request, in order.
func (c *Cluster) Place(requests []Request) []Assignment {
	out := make([]Assignment, len(requests))
	for i, r := range requests {
		out[i] = Assignment{Index: i}
		node, why := c.choose(r)
		if node == nil {
			out[i].Why = why
			continue
		}
		out[i].Node = node.ID
		t := *r.Task
		t.Node, t.Status = node.ID, stack.TaskStatus{}
		c.Add(&t, r.Service)
	}
	return out
}

func (c *Cluster) choose(r Request) (*stack.Node, string) {
	var best *stack.Node
	var misses refusal
	for _, n := range c.nodes {
		if miss := c.test(r, n); miss != "" {
			misses.add(miss)
			continue
		}
		if best == nil || c.less(r, n, best) {
			best = n
		}
	}
	if best != nil {
		return best, ""
	}
	return nil, misses.explain(r.Task)
}

func (c *Cluster) less(r Request, a, b *stack.Node) bool {
	ua, ub := c.used[a.ID], c.used[b.ID]
	if x, y := ua.ByService[serviceKey(r.Task)], ub.ByService[serviceKey(r.Task)]; x != y {
		return x < y
	}
	return ua.Tasks < ub.Tasks
}
