package state

import (
	"cmp"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// tables is the whole state at one index. Copying the struct copies the state.
type tables struct {
	index    uint64 // of the last command
	fleet    uint64 // of the last command that changed a node; not persisted: after a restore, index
	cluster  *Cluster
	nodes    tree[string, stack.Node]
	stacks   tree[string, Stack]
	services tree[pair, Service]
	tasks    tree[string, stack.Task]
	networks owned[Network]
	volumes  owned[Volume]
	secrets  owned[Secret]
	configs  owned[Config]

	revisions tree[revisionKey, Revision]
	open      tree[revisionKey, Revision] // those without outcome

	byService groups[pair, slotKey, stack.Task]
	byNode    groups[string, string, stack.Task]
	past      groups[pair, pastKey, stack.Task] // by service: tasks that have ended
	networkID tree[pair, Network]               // by ID, then name
	members   groups[string, string, member]    // tasks by the networks that they have addresses in

	endpoints   tree[pair, Endpoint] // by container, then network
	networkEnds groups[string, pair, Endpoint]
	nodeEnds    groups[string, pair, Endpoint]
}

// slotKey sorts the tasks of a service.
type slotKey struct {
	slot int
	id   string
}

func newTables() tables {
	taskID := func(t *stack.Task) string { return t.ID }
	return tables{
		nodes:     tree[string, stack.Node]{order: byString(func(n *stack.Node) string { return n.ID })},
		stacks:    tree[string, Stack]{order: byString(func(s *Stack) string { return s.Name })},
		services:  tree[pair, Service]{order: byPair(func(s *Service) pair { return pair{s.Stack, s.Name} })},
		tasks:     tree[string, stack.Task]{order: byString(taskID)},
		networks:  newOwned(func(n *Network) string { return n.Name }, func(n *Network) string { return n.Network.Stack }),
		volumes:   newOwned(func(v *Volume) string { return v.Name }, func(v *Volume) string { return v.Stack }),
		secrets:   newOwned(func(s *Secret) string { return s.Name }, func(s *Secret) string { return s.Stack }),
		configs:   newOwned(func(c *Config) string { return c.Name }, func(c *Config) string { return c.Stack }),
		revisions: newRevisions(),
		open:      newRevisions(),

		byService: groups[pair, slotKey, stack.Task]{
			tree:  tree[pair, group[pair, slotKey, stack.Task]]{order: byPair(func(g *group[pair, slotKey, stack.Task]) pair { return g.key })},
			of:    func(t *stack.Task) (pair, bool) { return pair{t.Stack, t.Service}, true },
			inner: bySlot(),
		},
		byNode: groups[string, string, stack.Task]{
			tree:  tree[string, group[string, string, stack.Task]]{order: byString(func(g *group[string, string, stack.Task]) string { return g.key })},
			of:    func(t *stack.Task) (string, bool) { return t.Node, t.Node != "" },
			inner: byString(taskID),
		},
		past:      newPast(),
		networkID: tree[pair, Network]{order: byPair(func(n *Network) pair { return pair{n.ID, n.Name} })},
		members:   newMembers(),

		endpoints:   tree[pair, Endpoint]{order: byPair(endpointOf)},
		networkEnds: newEndpoints(func(e *Endpoint) (string, bool) { return e.Network, true }),
		nodeEnds:    newEndpoints(func(e *Endpoint) (string, bool) { return e.Node, true }),
	}
}

func bySlot() *order[slotKey, stack.Task] {
	return &order[slotKey, stack.Task]{
		key:    func(t *stack.Task) slotKey { return slotKey{t.Slot, t.ID} },
		prefix: func(k slotKey) uint64 { return uint64(k.slot) ^ 1<<63 }, // negative ones first
		compare: func(k slotKey, t *stack.Task) int {
			if c := cmp.Compare(k.slot, t.Slot); c != 0 {
				return c
			}
			return strings.Compare(k.id, t.ID)
		},
	}
}

// owned are records with a name that may belong to a stack.
type owned[T any] struct {
	byName  tree[string, T]
	byStack tree[pair, T] // by stack, then name; those that belong to one
	stack   func(*T) string
}

func newOwned[T any](name, stackOf func(*T) string) owned[T] {
	return owned[T]{
		byName:  tree[string, T]{order: byString(name)},
		byStack: tree[pair, T]{order: byPair(func(r *T) pair { return pair{stackOf(r), name(r)} })},
		stack:   stackOf,
	}
}

func (o *owned[T]) put(e *edit, r *T) (old *T) {
	old = o.byName.put(e, r)
	o.forget(e, old)
	if o.stack(r) != "" {
		o.byStack.put(e, r)
	}
	return old
}

func (o *owned[T]) remove(e *edit, name string) { o.forget(e, o.byName.remove(e, name)) }

func (o *owned[T]) forget(e *edit, old *T) {
	if old != nil && o.stack(old) != "" {
		o.byStack.remove(e, o.byStack.key(old))
	}
}

// of returns the records of a stack, by name.
func (o *owned[T]) of(stackName string) (out []*T) {
	if stackName == "" {
		return nil
	}
	o.byStack.from(pair{stackName, ""}, func(r *T) bool {
		if o.stack(r) != stackName {
			return false
		}
		out = append(out, r)
		return true
	})
	return out
}

// putTask stores a task in all its indexes and returns the one that it takes the place of.
func (t *tables) putTask(e *edit, task *stack.Task) *stack.Task {
	t.share(task)
	old := t.tasks.put(e, task)
	t.byService.replace(e, old, task)
	t.byNode.replace(e, old, task)
	t.replaceMember(e, old, task)
	return old
}

// share lets a new record use the strings of those beside it: each decoded one
// has its own, which is a third of the memory of a task.
func (t *tables) share(task *stack.Task) {
	if g := t.byService.get(pair{task.Stack, task.Service}); g != nil {
		task.Stack, task.Service = g.key.a, g.key.b
	}
	if g := t.byNode.get(task.Node); g != nil {
		task.Node = g.key
	}
	task.Desired, task.Status.Followed = known(task.Desired), known(task.Status.Followed)
}

// shareNetworks is share for the names of networks in a task that was just decoded.
func (t *tables) shareNetworks(task *stack.Task) {
	for i := range task.Addresses {
		if g := t.members.get(task.Addresses[i].Network); g != nil {
			task.Addresses[i].Network = g.key
		}
	}
}

// known returns the constant of a wish.
func known(d stack.Desired) stack.Desired {
	switch d {
	case stack.DesiredRun:
		return stack.DesiredRun
	case stack.DesiredRemove:
		return stack.DesiredRemove
	}
	return d
}

func (t *tables) removeTask(e *edit, id string) {
	if old := t.tasks.remove(e, id); old != nil {
		t.byService.replace(e, old, nil)
		t.byNode.replace(e, old, nil)
		t.replaceMember(e, old, nil)
	}
}

func (t *tables) putNetwork(e *edit, n *Network) {
	t.forgetID(e, t.networks.put(e, n))
	if n.ID != "" {
		t.networkID.put(e, n)
	}
}

func (t *tables) removeNetwork(e *edit, name string) {
	old := t.networks.byName.get(name)
	t.networks.remove(e, name)
	t.forgetID(e, old)
}

func (t *tables) forgetID(e *edit, old *Network) {
	if old != nil && old.ID != "" {
		t.networkID.remove(e, pair{old.ID, old.Name})
	}
}
