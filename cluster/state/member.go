package state

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// member says that a task has an address in a network. It changes with that
// only, and so costs nothing when the task starts, ends or is told something.
type member struct{ network, task string }

func newMembers() groups[string, string, member] {
	return groups[string, string, member]{
		tree:  tree[string, group[string, string, member]]{order: byString(func(g *group[string, string, member]) string { return g.key })},
		of:    func(m *member) (string, bool) { return m.network, true },
		inner: byString(func(m *member) string { return m.task }),
	}
}

// replaceMember keeps the members up; either task may be nil.
func (t *tables) replaceMember(e *edit, old, task *stack.Task) {
	var was, is []stack.TaskAddress
	if old != nil {
		was = old.Addresses
	}
	if task != nil {
		is = task.Addresses
	}
	if old != nil && task != nil && sameNetworks(was, is) {
		return
	}
	for _, a := range was {
		if !within(is, a.Network) {
			t.members.replace(e, &member{a.Network, old.ID}, nil)
		}
	}
	for _, a := range is {
		if !within(was, a.Network) {
			t.members.replace(e, nil, &member{a.Network, task.ID})
		}
	}
}

func within(list []stack.TaskAddress, network string) bool {
	return slices.ContainsFunc(list, func(a stack.TaskAddress) bool { return a.Network == network })
}

func sameNetworks(a, b []stack.TaskAddress) bool {
	return slices.EqualFunc(a, b, func(x, y stack.TaskAddress) bool { return x.Network == y.Network })
}

func networksOf(list []stack.TaskAddress) []string {
	if len(list) == 0 {
		return nil
	}
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.Network
	}
	return out
}

// serviceNetworks are the networks of versions of a service: those of its
// addresses and those that its tasks are to be in. Any of them may be nil.
func (t *tables) serviceNetworks(versions ...*Service) (out []string) {
	for _, s := range versions {
		if s == nil {
			continue
		}
		out = append(out, networksOf(s.Addresses)...)
		out = append(out, t.attached(s.Stack, &s.Spec)...)
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}

// attached are the real names of the networks of a service.
func (t *tables) attached(stackName string, spec *stack.Service) []string {
	st := t.stacks.get(stackName)
	out := make([]string, 0, len(spec.Container.Networks))
	for _, a := range spec.Container.Networks {
		name := a.Network
		if st != nil && st.Spec.Networks[name].Name != "" {
			name = st.Spec.Networks[name].Name
		}
		out = append(out, name)
	}
	return out
}

// NetworkTasks returns the tasks that have addresses in a network, by ID.
func (s *Snapshot) NetworkTasks(network string) []*stack.Task {
	g := s.tables.members.get(network)
	if g == nil {
		return nil
	}
	out := make([]*stack.Task, 0, g.tree.size)
	g.tree.all(func(m *member) bool {
		out = append(out, s.tables.tasks.get(m.task))
		return true
	})
	return out
}

// Guests are those in a network of a stack that are none of its tasks: tasks of
// other stacks, and containers without a task. With stack "" they are all.
func (s *Snapshot) Guests(network, stackName string) (tasks []*stack.Task, containers []*Endpoint) {
	for _, t := range s.NetworkTasks(network) {
		if t.Stack != stackName {
			tasks = append(tasks, t)
		}
	}
	return tasks, s.Endpoints(network)
}

// GuestNames are what Guests are called, for persons.
func (s *Snapshot) GuestNames(network, stackName string) (names []string) {
	tasks, containers := s.Guests(network, stackName)
	for _, t := range tasks {
		names = append(names, fmt.Sprintf("%s/%s.%d", t.Stack, t.Service, t.Slot))
	}
	for _, e := range containers {
		names = append(names, "container "+cmp.Or(e.Name, e.ID))
	}
	slices.Sort(names)
	return names
}

// Attached are the real names of the networks that tasks of a service are to be
// in, in the order of its attachments.
func (s *Snapshot) Attached(stackName string, spec *stack.Service) []string {
	return s.tables.attached(stackName, spec)
}
