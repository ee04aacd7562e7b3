package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/dhow-project/dhow/stack"
)

// tx is one Apply under way.
type tx struct {
	txn     *memdb.Txn
	index   uint64
	time    int64
	stacks  map[string]bool // of which something changed, by name; true: what is wanted of them
	touched []Touched
}

func (t *tx) apply(c Change) error {
	switch {
	case c.Cluster != nil:
		return t.put(Touched{Table: TableCluster}, c.Cluster)
	case c.Node != nil:
		return t.put(Touched{Table: TableNode, Key: c.Node.ID, Node: c.Node.ID}, c.Node)
	case c.Stack != nil:
		return t.put(Touched{Table: TableStack, Key: c.Stack.Name, Stack: c.Stack.Name}, c.Stack)
	case c.Service != nil:
		return t.putService(c.Service)
	case c.Left != nil:
		return t.left(c.Left)
	case c.Network != nil:
		return t.put(Touched{Table: TableNetwork, Key: c.Network.Name, Stack: c.Network.Network.Stack}, c.Network)
	case c.Volume != nil:
		return t.putVolume(c.Volume)
	case c.Secret != nil:
		return t.put(Touched{Table: TableSecret, Key: c.Secret.Name, Stack: c.Secret.Stack}, c.Secret)
	case c.Config != nil:
		return t.put(Touched{Table: TableConfig, Key: c.Config.Name, Stack: c.Config.Stack}, c.Config)
	case c.Create != nil:
		return t.create(c.Create)
	case c.Update != nil:
		return t.update(c.Update)
	case c.Status != nil:
		return t.status(c.Status)
	case c.Delete != nil:
		return t.delete(*c.Delete)
	}
	return errors.New("nothing in it")
}

func (t *tx) put(what Touched, record any) error {
	t.touch(what)
	return t.txn.Insert(string(what.Table), record)
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

func (t *tx) putTask(task *stack.Task, old *stack.Task) error {
	what := Touched{Table: TableTask, Key: task.ID, Stack: task.Stack, Node: task.Node}
	if old != nil && old.Node != "" && old.Node != task.Node {
		t.touch(Touched{Table: TableTask, Key: old.ID, Stack: old.Stack, Node: old.Node})
	}
	return t.put(what, task)
}

func (t *tx) putVolume(v *Volume) error {
	if old := first[Volume](t.txn, TableVolume, "id", v.Name); old != nil && old.Node != v.Node {
		t.touch(Touched{Table: TableVolume, Key: old.Name, Stack: old.Stack, Node: old.Node})
	}
	return t.put(Touched{Table: TableVolume, Key: v.Name, Stack: v.Stack, Node: v.Node}, v)
}

func (t *tx) putService(c *ServiceChange) error {
	s := c.Service
	old := first[Service](t.txn, TableService, "id", s.Stack, s.Name)
	s.Version, s.History, s.Left = 0, nil, nil
	if old != nil {
		s.Version, s.History, s.Left = old.Version, old.History, old.Left
	}
	if c.NewVersion || old == nil {
		s.Version = t.index
		s.History = append(slices.Clip(s.History), Version{Version: t.index, Hash: s.Hash, Spec: s.Spec, Created: t.time})
	} else {
		s.Hash = old.Hash
	}
	s.History = t.prune(&s)
	return t.put(Touched{Table: TableService, Key: ServiceKey(s.Stack, s.Name), Stack: s.Stack}, &s)
}

func (t *tx) left(c *LeftChange) error {
	old := first[Service](t.txn, TableService, "id", c.Stack, c.Name)
	if old == nil {
		return nil
	}
	s := *old
	s.Left = c.Left
	return t.put(Touched{Table: TableService, Key: ServiceKey(s.Stack, s.Name), Stack: s.Stack}, &s)
}

// prune returns the versions that are worth keeping.
func (t *tx) prune(s *Service) []Version {
	if len(s.History) <= KeepVersions {
		return s.History
	}
	used := map[uint64]bool{}
	for _, task := range list[stack.Task](t.txn, TableTask, "service_prefix", s.Stack, s.Name) {
		used[task.Version] = true
	}
	var keep []Version
	for i, v := range s.History {
		if i >= len(s.History)-KeepVersions || used[v.Version] {
			keep = append(keep, v)
		}
	}
	return keep
}

func (t *tx) create(task *stack.Task) error {
	if task.ID == "" {
		return errors.New("task without an ID")
	}
	if first[stack.Task](t.txn, TableTask, "id", task.ID) != nil {
		return fmt.Errorf("task %s exists", task.ID)
	}
	return t.putTask(task, nil)
}

func (t *tx) update(task *stack.Task) error {
	old := first[stack.Task](t.txn, TableTask, "id", task.ID)
	if old == nil {
		return nil
	}
	if old.Node != "" { // its agent has the word
		task.Status = old.Status
	}
	return t.putTask(task, old)
}

func (t *tx) status(s *Status) error {
	old := first[stack.Task](t.txn, TableTask, "id", s.Task)
	if old == nil || old.Node == "" || same(old.Status, s.Status) {
		return nil
	}
	task := *old
	task.Status = s.Status
	return t.putTask(&task, old)
}

// same reports whether two statuses differ at most in their time.
func same(a, b stack.TaskStatus) bool {
	return a.State == b.State && a.Message == b.Message && a.ContainerID == b.ContainerID && a.Health == b.Health &&
		a.ExitCode == b.ExitCode && a.Paused == b.Paused && a.RestartCount == b.RestartCount && a.Restarts == b.Restarts &&
		a.ImageID == b.ImageID && a.Followed == b.Followed && maps.Equal(a.Anonymous, b.Anonymous)
}

func (t *tx) delete(k Key) error {
	r, what := t.find(k)
	if r == nil {
		return nil
	}
	t.touch(what)
	return t.txn.Delete(string(k.Table), r)
}

// finish remembers the index, also in the stacks of which something changed.
func (t *tx) finish() error {
	for _, name := range slices.Sorted(maps.Keys(t.stacks)) {
		old := first[Stack](t.txn, TableStack, "id", name)
		if old == nil {
			continue
		}
		s := *old
		s.Index = t.index
		if t.stacks[name] {
			s.Defined = t.index
		}
		if err := t.txn.Insert(string(TableStack), &s); err != nil {
			return err
		}
	}
	return t.txn.Insert(tableMeta, &meta{Index: t.index})
}
