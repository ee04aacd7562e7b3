package schedule

import (
	"cmp"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// Groups finds the services of a stack that share namespaces or volumes with
// others ("service:NAME" modes, volumes_from), directly or not: by name, all
// the services of its group, itself among them, sorted. Who shares with nobody
// has no entry.
func Groups(services []*stack.Service) map[string][]string {
	near := map[string][]string{}
	for _, s := range services {
		for _, other := range s.Shares() {
			near[s.Name] = append(near[s.Name], other)
			near[other] = append(near[other], s.Name)
		}
	}
	out := map[string][]string{}
	for name := range near {
		if out[name] != nil {
			continue
		}
		seen := map[string]bool{name: true}
		for todo := []string{name}; len(todo) > 0; todo = todo[1:] {
			for _, other := range near[todo[0]] {
				if !seen[other] {
					seen[other] = true
					todo = append(todo, other)
				}
			}
		}
		group := slices.Sorted(maps.Keys(seen))
		for _, member := range group {
			out[member] = group
		}
	}
	return out
}

// Mates finds the tasks that must be on the node of t, among the tasks of the
// services of its group: give them as they are decided to be, also those that
// are not stored yet. Spec is nil for what is gone. The volumes are left to the caller.
//
// A task shares with one task of each service that it names: that of its own
// slot, else, there being fewer, the slots in turn; on a node of its own (a
// global service) with the one there. A task that is to be removed or has
// failed is nobody's mate, and of two in one slot it is the newer one.
func Mates(t *stack.Task, tasks []*stack.Task, spec func(*stack.Task) *stack.Service) []Mate {
	g := gather(t, tasks)
	near := map[*stack.Task][]*stack.Task{}
	for _, list := range g {
		for _, a := range list {
			s := spec(a)
			if s == nil {
				continue
			}
			for _, name := range s.Shares() {
				if b := partner(a, g[name]); b != nil {
					near[a] = append(near[a], b)
					near[b] = append(near[b], a)
				}
			}
		}
	}
	seen := map[*stack.Task]bool{t: true}
	var out []Mate
	for todo := []*stack.Task{t}; len(todo) > 0; todo = todo[1:] {
		for _, other := range near[todo[0]] {
			if !seen[other] {
				seen[other] = true
				todo = append(todo, other)
				out = append(out, Mate{Task: other, Service: spec(other)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Mate) int { return bySlot(a.Task, b.Task) })
	return out
}

// gather lists the tasks that count by service, each slot once.
func gather(t *stack.Task, tasks []*stack.Task) map[string][]*stack.Task {
	g := map[string][]*stack.Task{t.Service: {t}}
	for _, o := range tasks {
		if o.Stack == t.Stack && o.ID != t.ID && o.Desired != stack.DesiredRemove && o.Status.State <= stack.TaskCompleted && (o.Service != t.Service || !sameSlot(o, t)) {
			g[o.Service] = append(g[o.Service], o)
		}
	}
	for name, list := range g {
		slices.SortFunc(list, bySlot)
		g[name] = slices.CompactFunc(list, sameSlot)
	}
	return g
}

func sameSlot(a, b *stack.Task) bool { return a.Slot == b.Slot && a.Pin == b.Pin }

// bySlot puts the newer of one slot first.
func bySlot(a, b *stack.Task) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Pin, b.Pin), cmp.Compare(a.Slot, b.Slot),
		cmp.Compare(b.Version, a.Version), cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
}

// partner is the task of a list that a shares with.
func partner(a *stack.Task, list []*stack.Task) *stack.Task {
	if len(list) == 0 {
		return nil
	}
	if list[0].Pin != "" {
		at := cmp.Or(a.Pin, a.Node)
		if i := slices.IndexFunc(list, func(b *stack.Task) bool { return b.Pin == at }); i >= 0 {
			return list[i]
		}
		return nil // on whatever node it will be
	}
	if i := slices.IndexFunc(list, func(b *stack.Task) bool { return b.Slot == a.Slot }); i >= 0 {
		return list[i]
	}
	return list[max(a.Slot-1, 0)%len(list)]
}
