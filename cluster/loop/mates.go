package loop

import (
	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/stack"
)

// mates finds the tasks that must be on the node of t.
func (p *placer) mates(t *stack.Task) []schedule.Mate {
	if p.groups == nil {
		var specs []*stack.Service
		for _, sv := range p.view.snap.Services(p.stack.Name) {
			specs = append(specs, &sv.Spec)
		}
		p.groups, p.members = schedule.Groups(specs), map[string][]*stack.Task{}
	}
	group := p.groups[t.Service]
	if group == nil {
		return nil
	}
	mates := schedule.Mates(t, p.tasksOf(group), p.view.spec)
	for i := range mates {
		if m := &mates[i]; m.Task.Node == "" && m.Service != nil {
			m.Volumes = p.volumes(m.Service)
		}
	}
	return mates
}

// tasksOf returns the tasks of some services as they are decided to be. The new
// ones are those of the decision itself: when one is given a node, the next sees it.
func (p *placer) tasksOf(group []string) []*stack.Task {
	if tasks, ok := p.members[group[0]]; ok {
		return tasks
	}
	in := map[string]bool{}
	for _, name := range group {
		in[name] = true
	}
	var out []*stack.Task
	decided := map[string]bool{}
	for i := range p.decision.tasks {
		switch c := &p.decision.tasks[i]; {
		case c.change == nil && c.retire != nil:
			decided[c.retire.ID] = true
		case c.change == nil:
			decided[c.drop] = true
		case in[c.change.Task.Service]:
			decided[c.change.Task.ID] = true
			out = append(out, &c.change.Task)
		}
	}
	for _, name := range group {
		for _, t := range p.view.snap.ServiceTasks(p.stack.Name, name) {
			if !decided[t.ID] {
				out = append(out, t)
			}
		}
	}
	p.members[group[0]] = out
	return out
}
