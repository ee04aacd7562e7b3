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

// collect adds what this round's ended tasks leave behind.
func (r *round) collect(s *service, left stack.Left) {
	for k, t := range s.freed {
		if t.Node != "" && r.nodes[t.Node] == nil || t.RemoveVolumes && t.Status.Followed == stack.DesiredRemove {
			continue // nothing is there any more
		}
		heirs := slices.Collect(maps.Values(s.passed[k]))
		names := slices.DeleteFunc(t.AnonymousVolumes(), func(name string) bool { return slices.Contains(heirs, name) })
		if len(names) > 0 {
			left[t.Node] = append(left[t.Node], names...)
		}
	}
	for node, names := range left {
		slices.Sort(names)
		names = slices.Compact(names)
		left[node] = names[max(0, len(names)-keepLeft):]
	}
}

// sweep makes a task on each node that removes what was left there. What was
// left nobody knows where is looked for on all nodes.
func (r *round) sweep(s *service, left stack.Left) bool {
	made := false
	for _, n := range r.in.Nodes {
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
