package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// tx is one Apply under way.
type tx struct {
	tables
	edit    *edit
	index   uint64
	time    int64
	stacks  map[string]bool // of which something changed, by name; true: what is wanted of them
	touched []Touched
}

func (t *tx) apply(c Change) error {
	switch {
	case c.Cluster != nil:
		t.touch(Touched{Table: TableCluster})
		t.putCluster(*c.Cluster)
	case c.Node != nil:
		t.node(c.Node)
	case c.Stack != nil:
		t.touch(Touched{Table: TableStack, Key: c.Stack.Name, Stack: c.Stack.Name})
		t.tables.stacks.put(t.edit, c.Stack)
	case c.Service != nil:
		t.service(c.Service)
	case c.Left != nil:
		t.left(c.Left)
	case c.Given != nil:
		t.given(c.Given)
	case c.Create != nil:
		return t.create(c.Create)
	case c.Update != nil:
		t.update(c.Update)
	case c.Status != nil:
		t.status(c.Status)
	case c.Retire != nil:
		t.retire(c.Retire)
	case c.Rollout != nil:
		t.rollout(c.Rollout)
	case c.Delete != nil:
		t.delete(*c.Delete)
	default:
		return t.applyMore(c)
	}
	return nil
}

// applyMore is apply for what stacks are made of beside services and tasks.
func (t *tx) applyMore(c Change) error {
	switch {
	case c.Network != nil:
		t.touch(Touched{Table: TableNetwork, Key: c.Network.Name, Stack: c.Network.Network.Stack})
		old := t.networks.byName.get(c.Network.Name)
		if old != nil && old.ID != c.Network.ID {
			t.forgetEndpoints(t.networkEnds.list(old.Name)) // of the one before
		}
		t.spendVNI(c.Network, old)
		t.putNetwork(t.edit, c.Network)
	case c.Enter != nil:
		return t.enter(c.Enter)
	case c.Volume != nil:
		t.volume(c.Volume)
	case c.Secret != nil:
		t.touch(Touched{Table: TableSecret, Key: c.Secret.Name, Stack: c.Secret.Stack})
		t.secrets.put(t.edit, c.Secret)
	case c.Config != nil:
		t.touch(Touched{Table: TableConfig, Key: c.Config.Name, Stack: c.Config.Stack})
		t.configs.put(t.edit, c.Config)
	case c.Revision != nil:
		t.revision(c.Revision)
	case c.Outcome != nil:
		t.outcome(c.Outcome)
	default:
		return errors.New("nothing in it")
	}
	return nil
}

func (t *tx) touch(what Touched) {
	t.touched = append(t.touched, what)
	if what.Stack == "" {
		return
	}
	if t.stacks == nil {
		t.stacks = map[string]bool{}
	}
	t.stacks[what.Stack] = t.stacks[what.Stack] || what.Table == TableStack || what.Table == TableService
}

func (t *tx) node(n *stack.Node) {
	t.spend(n.Number, 0)
	old := t.nodes.put(t.edit, n)
	t.fleet = t.index
	t.touch(Touched{Table: TableNode, Key: n.ID, Node: n.ID, Life: old == nil || old.Down != n.Down})
}

// task stores a task; old is the one of the same ID.
func (t *tx) task(task, old *stack.Task) {
	in := networksOf(task.Addresses)
	if old != nil && old.Node != "" && old.Node != task.Node {
		t.touch(Touched{Table: TableTask, Key: old.ID, Stack: old.Stack, Node: old.Node, Networks: networksOf(old.Addresses)})
	} else if old != nil && !sameNetworks(old.Addresses, task.Addresses) {
		in = append(in, networksOf(old.Addresses)...)
	}
	t.touch(Touched{Table: TableTask, Key: task.ID, Stack: task.Stack, Node: task.Node, Networks: in})
	t.putTask(t.edit, task)
}

func (t *tx) volume(v *Volume) {
	if old := t.volumes.put(t.edit, v); old != nil && old.Node != v.Node {
		t.touch(Touched{Table: TableVolume, Key: old.Name, Stack: old.Stack, Node: old.Node})
	}
	t.touch(Touched{Table: TableVolume, Key: v.Name, Stack: v.Stack, Node: v.Node})
}

func (t *tx) service(c *ServiceChange) {
	s := c.Service
	old := t.services.get(pair{s.Stack, s.Name})
	s.Version, s.History, s.Left, s.Update, s.Addresses, s.Ports = 0, nil, nil, nil, nil, nil
	if old != nil {
		s.Version, s.History, s.Left, s.Update = old.Version, old.History, old.Left, old.Update
		s.Addresses, s.Ports = old.Addresses, old.Ports
	}
	if c.NewVersion || old == nil {
		s.Version, s.Update = t.index, t.begin(old)
		s.History = append(s.remembered(old), Version{Version: t.index, Hash: s.Hash, Spec: s.Spec, Created: t.time})
		s.History = t.prune(&s)
	} else {
		s.Hash = old.Hash
	}
	t.putService(&s)
}

func (t *tx) putService(s *Service) {
	old := t.services.put(t.edit, s)
	t.touch(Touched{Table: TableService, Key: ServiceKey(s.Stack, s.Name), Stack: s.Stack, Networks: t.serviceNetworks(old, s), Outward: outward(old) != outward(s) || old == nil})
}

// outward reports whether a service publishes ports on all nodes.
func outward(s *Service) bool {
	return s != nil && len(s.Spec.Container.Ports) > 0 && len(s.Spec.IngressPorts()) > 0
}

func (t *tx) left(c *LeftChange) {
	old := t.services.get(pair{c.Stack, c.Name})
	if old == nil {
		return
	}
	s := *old
	s.Left = c.Left
	t.putService(&s)
}

func (t *tx) given(c *GivenChange) {
	old := t.services.get(pair{c.Stack, c.Name})
	if old == nil {
		return
	}
	s := *old
	s.Addresses, s.Ports = c.Addresses, c.Ports
	t.putService(&s)
}

// prune returns the versions that are worth keeping.
func (t *tx) prune(s *Service) []Version {
	if len(s.History) <= KeepVersions {
		return s.History
	}
	used := map[uint64]bool{}
	if tasks := t.byService.get(pair{s.Stack, s.Name}); tasks != nil {
		tasks.tree.all(func(task *stack.Task) bool { used[task.Version] = true; return true })
	}
	var keep []Version
	for i, v := range s.History {
		if i >= len(s.History)-KeepVersions || used[v.Version] || s.Update != nil && s.Update.From == v.Version {
			keep = append(keep, v)
		}
	}
	return keep
}

func (t *tx) create(task *stack.Task) error {
	if task.ID == "" {
		return errors.New("task without an ID")
	}
	if t.tasks.get(task.ID) != nil {
		return fmt.Errorf("task %s exists", task.ID)
	}
	t.shareNetworks(task)
	t.task(task, nil)
	return nil
}

func (t *tx) update(task *stack.Task) {
	old := t.tasks.get(task.ID)
	if old == nil {
		return
	}
	if old.Node != "" { // its agent has the word
		task.Status = old.Status
	}
	t.shareNetworks(task)
	t.task(task, old)
}

func (t *tx) status(s *Status) {
	old := t.tasks.get(s.Task)
	if old == nil || old.Node == "" || same(old.Status, s.Status) {
		return
	}
	task := *old
	task.Status = s.Status
	t.task(&task, old)
}

// same reports whether two statuses differ at most in their time.
func same(a, b stack.TaskStatus) bool {
	return a.State == b.State && a.Message == b.Message && a.ContainerID == b.ContainerID && a.Health == b.Health &&
		a.ExitCode == b.ExitCode && a.Paused == b.Paused && a.RestartCount == b.RestartCount && a.Restarts == b.Restarts &&
		a.ImageID == b.ImageID && a.Followed == b.Followed && maps.Equal(a.Anonymous, b.Anonymous)
}

func (t *tx) delete(k Key) {
	what, ok := t.find(k)
	if !ok {
		return
	}
	t.touch(what)
	switch k.Table {
	case TableNode:
		t.fleet = t.index
		t.nodes.remove(t.edit, k.Name)
		t.forgetEndpoints(t.nodeEnds.list(k.Name))
	case TableStack:
		t.tables.stacks.remove(t.edit, k.Name)
		t.forgetRevisions(k.Name)
	case TableService:
		t.services.remove(t.edit, serviceKey(k.Name))
		t.forgetPast(serviceKey(k.Name))
	case TableTask:
		t.removeTask(t.edit, k.Name)
	case TableNetwork:
		t.forgetEndpoints(t.networkEnds.list(k.Name))
		t.removeNetwork(t.edit, k.Name)
	case TableVolume:
		t.volumes.remove(t.edit, k.Name)
	case TableSecret:
		t.secrets.remove(t.edit, k.Name)
	case TableConfig:
		t.configs.remove(t.edit, k.Name)
	case TableEndpoint:
		t.removeEndpoint(t.edit, endpointKey(k.Name))
	}
}

// finish remembers the index, also in the stacks of which something changed.
func (t *tx) finish() {
	for _, name := range slices.Sorted(maps.Keys(t.stacks)) {
		old := t.tables.stacks.get(name)
		if old == nil {
			continue
		}
		s := *old
		s.Index = t.index
		if t.stacks[name] {
			s.Defined = t.index
		}
		t.tables.stacks.put(t.edit, &s)
	}
	t.tables.index = t.index
}
