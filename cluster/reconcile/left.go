package reconcile

import (
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// keepLeft is how many volumes left behind on a node are remembered for one
// service. Somebody who scales out and in for months without a `down -v` has to
// prune the volumes anyhow; the record must not grow for ever.
const keepLeft = 4096

// leftovers remembers the anonymous volumes of tasks that ended and that nobody
// inherits, such as those of replicas that scaling in took away: like Compose it
// keeps them, as nobody asked to remove them. When the service goes with its
// volumes, they are given to tasks that have nothing to do but remove them; it
// reports whether there are such.
func (r *round) leftovers(s *service) bool {
	left := stack.Left{}
	for node, names := range s.Left {
		left[node] = slices.Clone(names)
	}
	if !s.Removing || s.RemoveVolumes {
		r.collect(s, left)
	}
	swept := false
	if s.leaving() && s.RemoveVolumes && len(s.tasks) == 0 && len(left) > 0 {
		swept = r.sweep(s, left)
		left = nil
	}
	if !maps.EqualFunc(left, s.Left, slices.Equal) {
		r.res.Left[s.name] = left
	}
	return swept
}

// collect adds what this round's ended tasks leave behind, and what tasks that
// were given another node than their volumes do not use.
func (r *round) collect(s *service, left stack.Left) {
	for k, tasks := range s.freed {
		heirs := slices.Collect(maps.Values(s.passed[k]))
		for _, t := range tasks {
			r.leaves(s, t, heirs, left)
		}
	}
	for _, sl := range s.slots {
		for _, t := range []*stack.Task{sl.main, sl.next} {
			if t == nil || t.Node == "" || t.AnonymousNode == "" || t.AnonymousNode == t.Node {
				continue
			}
			if r.node(t.AnonymousNode) != nil {
				left[t.AnonymousNode] = slices.AppendSeq(left[t.AnonymousNode], maps.Values(t.Anonymous))
			}
			r.change(t, func(t *stack.Task) { t.Anonymous, t.AnonymousNode = nil, "" })
		}
	}
	for node, names := range left {
		slices.Sort(names)
		names = slices.Compact(names)
		left[node] = names[max(0, len(names)-keepLeft):]
	}
}

// leaves adds the volumes of one task of which nothing else is left. A node
// that is down when the service goes keeps them: nobody can be asked to remove them.
func (r *round) leaves(s *service, t *stack.Task, heirs []string, left stack.Left) {
	add := func(node string, volumes map[string]string) {
		n := r.node(node)
		if node != "" && (n == nil || n.Down && s.leaving()) {
			return // nothing is there any more, or nothing can be done about it
		}
		for _, name := range volumes {
			if !slices.Contains(heirs, name) {
				left[node] = append(left[node], name)
			}
		}
	}
	if t.AnonymousNode != "" && t.AnonymousNode != t.Node {
		add(t.AnonymousNode, t.Anonymous)
	}
	if t.RemoveVolumes && t.Status.Followed == stack.DesiredRemove {
		return
	}
	add(t.Node, t.Inherited())
	add(t.Node, t.Status.Anonymous)
}

// inherit gives a new task the anonymous volumes of the one before it in its
// slot. They are of use only on the node where they are.
func (r *round) inherit(s *service, k slotKey, t *stack.Task) {
	for _, old := range slices.Backward(s.freed[k]) {
		if old.RemoveVolumes {
			continue
		}
		volumes, node := old.Status.Anonymous, old.Node
		if volumes == nil {
			volumes, node = old.Anonymous, old.Node
			if old.AnonymousNode != "" {
				node = old.AnonymousNode
			}
		}
		if len(volumes) == 0 || node != "" && r.node(node) == nil {
			continue
		}
		t.Anonymous, t.AnonymousNode = volumes, node
		s.passed[k] = volumes
		return
	}
}

// sweep makes a task on each node that removes what was left there. What was
// left nobody knows where is looked for on all nodes.
func (r *round) sweep(s *service, left stack.Left) bool {
	made := false
	for _, n := range r.in.Nodes {
		if n.Down {
			continue
		}
		t := stack.Task{
			Stack: r.in.Stack, Service: s.name, Pin: n.ID, Node: n.ID, Version: s.Version, Created: r.in.Now,
			Desired: stack.DesiredRemove, RemoveVolumes: true, Anonymous: map[string]string{},
			Status: stack.TaskStatus{State: stack.TaskAssigned},
		}
		for _, name := range slices.Concat(left[n.ID], left[""]) {
			t.Anonymous[name] = name // no container mounts them: any target will do
		}
		if len(t.Anonymous) > 0 {
			made = true
			r.res.Changes = append(r.res.Changes, Change{Task: t, New: true})
		}
	}
	return made
}
