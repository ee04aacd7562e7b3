package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/reconcile"
	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// loop is the leader's memory between rounds. It may be lost at any time: the
// first round of a new loop looks at every stack.
type loop struct {
	m     *Manager
	index uint64               // stacks that changed after it are looked at
	nodes []*stack.Node        // of the last round
	again map[string]time.Time // stacks that time alone may change
}

// reconcile decides and stores while this manager leads, until ctx ends. Each round looks at
// the stacks that changed, decides, and stores all changes as one command.
func (m *Manager) reconcile(ctx context.Context) error {
	l := &loop{m: m, again: map[string]time.Time{}}
	backoff := time.Duration(0)
	for {
		changed := m.store.Changed()
		next, err := l.round(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			backoff = min(max(2*backoff, 50*time.Millisecond), 5*time.Second)
			m.log.Error("reconcile", "error", err, "retry", backoff)
			next, changed = time.Now().Add(backoff), nil
		} else {
			backoff = 0
		}
		if !wait(ctx, changed, next) {
			return ctx.Err()
		}
	}
}

// wait blocks until something changed or the time has come (zero: never); false when ctx ended.
func wait(ctx context.Context, changed <-chan struct{}, at time.Time) bool {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer:
	}
	return true
}

// round returns when to look again without a change; zero: not needed.
func (l *loop) round(ctx context.Context) (time.Time, error) {
	if !l.m.raft.Leading() {
		*l = loop{m: l.m, again: map[string]time.Time{}}
		return time.Now().Add(time.Second), nil
	}
	l.m.write.Lock()
	defer l.m.write.Unlock()
	snap, now := l.m.store.Snapshot(), time.Now()
	r := newRound(snap, now)
	for _, s := range l.due(snap, now) {
		l.forget(s.Name)
		if at := r.stack(s); at != 0 {
			l.again[s.Name] = time.Unix(0, at)
		}
	}
	if _, err := l.m.propose(ctx, r.changes); err != nil {
		l.index = 0
		return time.Time{}, fmt.Errorf("store decisions: %w", err)
	}
	l.index, l.nodes = snap.Index(), r.nodes
	return l.next(), nil
}

func (l *loop) forget(stackName string) { delete(l.again, stackName) }

// due returns the stacks to look at: all when nodes changed.
func (l *loop) due(snap *state.Snapshot, now time.Time) []*state.Stack {
	if l.index == 0 || !slices.Equal(l.nodes, snap.Nodes()) {
		return snap.Stacks()
	}
	out := snap.StacksSince(l.index)
	for _, name := range sortedKeys(l.again) {
		s := snap.Stack(name)
		if s != nil && s.Index <= l.index && !l.again[name].After(now) {
			out = append(out, s)
		}
	}
	return out
}

func (l *loop) next() time.Time {
	var first time.Time
	for _, at := range l.again {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// round is one round's decisions. It reads the snapshot only.
type round struct {
	snap    *state.Snapshot
	now     time.Time
	nodes   []*stack.Node
	cluster *schedule.Cluster // nil until something is to be placed
	changes []state.Change
}

func newRound(snap *state.Snapshot, now time.Time) *round {
	return &round{snap: snap, now: now, nodes: snap.Nodes()}
}

func (r *round) add(c state.Change) { r.changes = append(r.changes, c) }

func (r *round) drop(table state.Table, name string) {
	r.add(state.Change{Delete: &state.Key{Table: table, Name: name}})
}

// stack decides about one stack and returns when to look at it again, 0 when time changes nothing.
func (r *round) stack(s *state.Stack) int64 {
	services := r.snap.Services(s.Name)
	if s.Removing && len(services) == 0 {
		r.dissolve(s)
		return 0
	}
	networks := r.snap.StackNetworks(s.Name)
	in := r.input(s, services, networks)
	res := reconcile.Stack(in)
	for _, id := range res.Delete {
		r.drop(state.TableTask, id)
	}
	for i := range res.Retire {
		r.add(state.Change{Retire: &res.Retire[i]})
	}
	for _, c := range res.Changes {
		r.task(s, c)
	}
	for _, u := range res.Rollout {
		r.add(state.Change{Rollout: &state.UpdateChange{Stack: s.Name, Name: u.Service, Version: u.Version, Update: u.Update, Back: u.Back}})
	}
	for _, name := range sortedKeys(res.Left) {
		r.add(state.Change{Left: &state.LeftChange{Stack: s.Name, Name: name, Left: res.Left[name]}})
	}
	for _, name := range res.Gone {
		r.drop(state.TableService, state.ServiceKey(s.Name, name))
	}
	r.swap(networks, res.Swap)
	r.dropUnused(s, in, networks)
	return res.Again
}

func (r *round) input(s *state.Stack, services []*state.Service, networks []*state.Network) reconcile.Input {
	in := reconcile.Input{
		Stack: s.Name, Tasks: r.snap.Tasks(s.Name), Nodes: r.nodes, Now: r.now.UnixNano(),
		Eligible: func(sv *stack.Service, n *stack.Node) bool { return schedule.Fits(sv, n) == "" },
		Past:     func(service string) []*stack.Task { return r.snap.Past(s.Name, service) },
	}
	for _, sv := range services {
		w := reconcile.Service{
			Spec: &sv.Spec, Version: sv.Version, Desired: sv.Desired,
			Removing: sv.Removing, RemoveVolumes: sv.RemoveVolumes, Left: sv.Left, Update: sv.Update, Grace: sv.Grace, Versions: map[uint64]*stack.Service{},
		}
		for i := range sv.History {
			w.Versions[sv.History[i].Version] = &sv.History[i].Spec
		}
		in.Services = append(in.Services, w)
	}
	for _, n := range networks {
		if n.Next != nil {
			in.Stale = append(in.Stale, n.Key)
		}
	}
	return in
}

// task stores one decision about a task; a task that may start is given a node, or told why there is none.
func (r *round) task(s *state.Stack, c reconcile.Change) {
	t := c.Task
	if c.New {
		t.ID = newID()
	}
	if c.Place {
		why := r.place(&t)
		if why != "" && !c.New && t.Status.State == stack.TaskPending && t.Status.Message == why {
			return
		}
		t.Status = stack.TaskStatus{State: stack.TaskAssigned}
		if why != "" {
			t.Status = stack.TaskStatus{State: stack.TaskPending, Message: why}
		}
	}
	if c.New {
		r.add(state.Change{Create: &t})
		return
	}
	r.add(state.Change{Update: &t})
}

// place sets the task's node, or returns why there is none.
func (r *round) place(t *stack.Task) string {
	if r.cluster == nil {
		r.cluster = schedule.NewCluster(r.nodes)
		for _, n := range r.nodes {
			for _, other := range r.snap.NodeTasks(n.ID) {
				r.cluster.Add(other, r.spec(other))
			}
		}
	}
	spec := r.spec(t)
	if spec == nil {
		return fmt.Sprintf("%s.%d: its service is gone", t.Service, t.Slot)
	}
	a := r.cluster.Place([]schedule.Request{{Task: t, Service: spec}})[0]
	t.Node = a.Node
	return a.Why
}

func (r *round) spec(t *stack.Task) *stack.Service {
	sv := r.snap.Service(t.Stack, t.Service)
	if sv == nil {
		return nil
	}
	spec, _ := sv.SpecOf(t.Version)
	return spec
}

// swap puts the successors of networks in their place.
func (r *round) swap(networks []*state.Network, keys []string) {
	for _, n := range networks {
		if n.Next == nil || !slices.Contains(keys, n.Key) {
			continue
		}
		r.add(state.Change{Network: &state.Network{Network: *n.Next, Asked: n.Asked}})
	}
}

// dropUnused removes networks that the stack has no more, once all its
// containers are of current versions and so cannot be in them.
func (r *round) dropUnused(s *state.Stack, in reconcile.Input, networks []*state.Network) {
	for _, n := range networks {
		if w, ok := s.Spec.Networks[n.Key]; ok && !w.External && w.Name == n.Name || r.oldTasks(in) {
			continue
		}
		r.drop(state.TableNetwork, n.Name)
	}
}

func (r *round) oldTasks(in reconcile.Input) bool {
	current := map[string]uint64{}
	for _, sv := range in.Services {
		if !sv.Removing {
			current[sv.Spec.Name] = sv.Version
		}
	}
	return slices.ContainsFunc(in.Tasks, func(t *stack.Task) bool {
		return t.Node != "" && (t.Version != current[t.Service] || t.Desired == stack.DesiredRemove)
	})
}

// dissolve removes what is left of a stack without services.
func (r *round) dissolve(s *state.Stack) {
	for _, n := range r.snap.StackNetworks(s.Name) {
		r.drop(state.TableNetwork, n.Name)
	}
	for _, k := range fileKeys(r.snap, s.Name) {
		r.drop(k.Table, k.Name)
	}
	r.drop(state.TableStack, s.Name)
}
