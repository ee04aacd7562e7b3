package loop

import (
	"time"

	"github.com/dhow-project/dhow/cluster/reconcile"
	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// placer finds nodes for the tasks of one stack.
type placer struct {
	view  *view
	stack *state.Stack
	now   time.Time
	newID func() string

	decision *decision                 // under way: its tasks are not stored yet
	failures map[string]map[string]int // by service, then node; nil: not counted yet
	given    map[string]error          // services that cannot have their virtual addresses
	yielded  []state.Change            // of tasks whose address another one has now, to be stored with it
	groups   map[string][]string       // services that share, by each of them; nil: not looked for yet
	members  map[string][]*stack.Task  // of a group, by its first service
	placed   int
	refused  int
}

// task returns the task as it is to be stored, with the volumes that are bound
// to its node from now on. A task that may start is given a node, or told why
// there is none. Changed is false when the state has it so already.
func (p *placer) task(c *reconcile.Change) (t *stack.Task, binds []*state.Volume, changed bool) {
	t = &c.Task
	if c.New {
		t.ID = p.newID()
	}
	if !c.Place {
		return t, nil, true
	}
	a := p.place(t)
	if a.Node != "" {
		if err := p.addresses(t); err != nil {
			p.unplace(t, &a)
			a.Why = refusal(t, err)
		}
	}
	if a.Node == "" {
		p.refused++
		if !c.New && t.Status.State == stack.TaskPending && t.Status.Message == a.Why {
			return nil, nil, false
		}
		t.Status = stack.TaskStatus{State: stack.TaskPending, Message: a.Why}
		return t, nil, true
	}
	p.placed++
	t.Node, t.Status = a.Node, stack.TaskStatus{State: stack.TaskAssigned}
	for _, name := range a.Binds {
		if v := p.bind(name, a.Node); v != nil {
			binds = append(binds, v)
		}
	}
	return t, binds, true
}

// unplace takes back what place has done.
func (p *placer) unplace(t *stack.Task, a *schedule.Assignment) {
	p.view.cluster.Remove(t.ID)
	for _, name := range a.Binds {
		p.view.cluster.BindVolume(name, "")
	}
	a.Node, a.Binds = "", nil
}

func (p *placer) place(t *stack.Task) schedule.Assignment {
	spec := p.view.spec(t)
	if spec == nil {
		return schedule.Assignment{Why: t.Service + ": its service is gone"}
	}
	r := schedule.Request{
		Task: t, Service: spec, Failures: p.failed(t.Service),
		Volumes: p.volumes(spec), Home: p.home(t, spec), Mates: p.mates(t),
	}
	if t.Replaces != "" {
		if old := p.view.snap.Task(t.Replaces); old != nil {
			r.Replaces = old.Node
		}
	}
	return p.view.cluster.Place([]schedule.Request{r})[0]
}

// home is the only node for a task: where the stack's files are that it mounts,
// or where the anonymous volumes of the task before it are. Those are data: a
// new version of a database must not come up empty because another node had
// more room. When their node takes no tasks any more, they stay behind.
func (p *placer) home(t *stack.Task, spec *stack.Service) string {
	if home := p.stack.Spec.HomeOf(spec); home != "" || t.AnonymousNode == "" {
		return home
	}
	if n := p.view.byID[t.AnonymousNode]; n != nil && !n.Down && n.Availability != stack.Drain && schedule.Fits(spec, n) == "" {
		return n.ID
	}
	return ""
}

// volumes are those that pin a task, with the node that each is on.
func (p *placer) volumes(spec *stack.Service) []schedule.Volume {
	if len(spec.Container.Mounts) == 0 {
		return nil
	}
	var out []schedule.Volume
	for _, v := range p.stack.Spec.LocalVolumes(spec) {
		want := schedule.Volume{Name: v.Name, External: v.External}
		if rec := p.view.snap.Volume(v.Name); rec != nil {
			want.Node = rec.Node
		} else {
			want.Nodes = sortedKeys(p.view.have[v.Name])
		}
		out = append(out, want)
	}
	return out
}

// bind is the record of a volume that this stack declares.
func (p *placer) bind(name, node string) *state.Volume {
	for _, key := range sortedKeys(p.stack.Spec.Volumes) {
		v := p.stack.Spec.Volumes[key]
		if v.Name != name {
			continue
		}
		out := &state.Volume{Name: name, Key: key, Node: node, Driver: v.Driver, Labels: v.Labels, Created: p.now.UnixNano()}
		if !v.External {
			out.Stack = p.stack.Name
		}
		return out
	}
	return nil
}

// failed counts by node how often tasks of a service failed lately.
func (p *placer) failed(service string) map[string]int {
	counts, ok := p.failures[service]
	if !ok {
		name, snap := p.stack.Name, p.view.snap
		counts = reconcile.Failures(snap.ServiceTasks(name, service), snap.Past(name, service), p.now.UnixNano())
		p.failures[service] = counts
	}
	return counts
}
