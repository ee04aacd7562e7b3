package state

import (
	"cmp"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// past are the tasks that have ended and are remembered, by service.
type past = groups[pair, pastKey, stack.Task]

// pastKey sorts the ended tasks of a service.
type pastKey struct {
	slot int
	pin  string
	id   string
}

func pastOf(t *stack.Task) pastKey { return pastKey{t.Slot, t.Pin, t.ID} }

func (k pastKey) compare(o pastKey) int {
	return cmp.Or(cmp.Compare(k.slot, o.slot), strings.Compare(k.pin, o.pin), strings.Compare(k.id, o.id))
}

func newPast() past {
	return past{
		tree: tree[pair, group[pair, pastKey, stack.Task]]{order: byPair(func(g *group[pair, pastKey, stack.Task]) pair { return g.key })},
		of:   func(t *stack.Task) (pair, bool) { return pair{t.Stack, t.Service}, true },
		inner: &order[pastKey, stack.Task]{
			key:     pastOf,
			prefix:  func(k pastKey) uint64 { return uint64(k.slot) ^ 1<<63 },
			compare: func(k pastKey, t *stack.Task) int { return k.compare(pastOf(t)) },
		},
	}
}

// retire moves a task that has ended from the tasks to the history of its slot,
// of which the last ones are kept.
func (t *tx) retire(task *stack.Task) {
	if t.tasks.get(task.ID) == nil {
		return
	}
	t.delete(Key{TableTask, task.ID})
	keep := DefaultTaskHistory
	if t.cluster != nil && t.cluster.Settings.TaskHistory != 0 {
		keep = max(0, t.cluster.Settings.TaskHistory)
	}
	ended := *task
	ended.Addresses = nil // others have them
	t.past.replace(t.edit, nil, &ended)
	old := t.pastOfSlot(task)
	for _, o := range old[:max(0, len(old)-keep)] {
		t.past.replace(t.edit, o, nil)
	}
}

// pastOfSlot returns the ended tasks of a task's slot, the first to end first.
func (t *tx) pastOfSlot(task *stack.Task) (out []*stack.Task) {
	g := t.past.get(pair{task.Stack, task.Service})
	g.tree.from(pastKey{task.Slot, task.Pin, ""}, func(o *stack.Task) bool {
		if o.Slot != task.Slot || o.Pin != task.Pin {
			return false
		}
		out = append(out, o)
		return true
	})
	slices.SortFunc(out, byEnd)
	return out
}

// forgetPast drops the history of a service.
func (t *tx) forgetPast(service pair) { t.past.remove(t.edit, service) }

// Past returns the tasks of a service that have ended and are remembered, by
// slot, the first to end first. Of all services of the stack when service is "".
func (s *Snapshot) Past(stackName, service string) (out []*stack.Task) {
	if service != "" {
		out = s.tables.past.list(pair{stackName, service})
	} else {
		s.tables.past.from(pair{stackName, ""}, func(g *group[pair, pastKey, stack.Task]) bool {
			if g.key.a != stackName {
				return false
			}
			out = append(out, g.tree.list()...)
			return true
		})
	}
	slices.SortStableFunc(out, func(a, b *stack.Task) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), cmp.Compare(a.Slot, b.Slot), strings.Compare(a.Pin, b.Pin), byEnd(a, b))
	})
	return out
}

// byEnd orders ended tasks, the first to be told to go first.
func byEnd(a, b *stack.Task) int {
	ended := func(t *stack.Task) int64 {
		if t.End == nil {
			return t.Created
		}
		return t.End.Time
	}
	return cmp.Or(cmp.Compare(ended(a), ended(b)), cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
}
