package loop

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/reconcile"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// decision is what is to be done about one stack. Placing is left to who stores it.
type decision struct {
	first []state.Change // must not come after tasks: what would be forgotten with them
	tasks []taskChange
	last  []state.Change // must not come before tasks: what waits until none is left

	services []*state.Service

	visited int   // tasks looked at
	again   int64 // when time alone changes it, Unix nanoseconds; 0: never
	global  bool  // some service has a task on each node
}

// taskChange is a task to forget, with drop or retire, or else to make or change.
type taskChange struct {
	slot   slotKey
	drop   string
	retire *stack.Task
	change *reconcile.Change
}

// slotKey is what one command must change as a whole: in a slot, one task takes
// over from another.
type slotKey struct {
	service string
	slot    int
	pin     string
}

func slotOf(t *stack.Task) slotKey { return slotKey{t.Service, t.Slot, t.Pin} }

func drop(table state.Table, name string) state.Change {
	return state.Change{Delete: &state.Key{Table: table, Name: name}}
}

// decide says what is to be done about one stack.
func decide(v *view, s *state.Stack, now time.Time, cfg *Config) *decision {
	services := v.snap.Services(s.Name)
	if s.Removing && len(services) == 0 {
		return dissolve(v.snap, s)
	}
	networks := v.snap.StackNetworks(s.Name)
	in := input(v, s, services, networks, now)
	in.LeaseEnded, in.DrainGrace = cfg.LeaseEnded, cfg.DrainGrace
	res := reconcile.Stack(in)
	d := &decision{services: services, visited: len(in.Tasks), again: res.Again, global: hasGlobal(services)}
	for _, name := range sortedKeys(res.Left) {
		c := state.Change{Left: &state.LeftChange{Stack: s.Name, Name: name, Left: res.Left[name]}}
		if len(res.Left[name]) == 0 { // tasks remove them now
			d.last = append(d.last, c)
		} else {
			d.first = append(d.first, c)
		}
	}
	for _, u := range res.Rollout {
		d.first = append(d.first, state.Change{Rollout: &state.UpdateChange{Stack: s.Name, Name: u.Service, Version: u.Version, Update: u.Update, Back: u.Back}})
	}
	d.addTasks(v.snap, &res)
	for _, name := range res.Gone {
		d.last = append(d.last, drop(state.TableService, state.ServiceKey(s.Name, name)))
	}
	d.last = append(d.last, swap(networks, res.Swap)...)
	d.last = append(d.last, dropUnused(v.snap, s, in, networks)...)
	return d
}

func (d *decision) addTasks(snap *state.Snapshot, res *reconcile.Result) {
	d.tasks = make([]taskChange, 0, len(res.Delete)+len(res.Retire)+len(res.Changes))
	for _, id := range res.Delete {
		if t := snap.Task(id); t != nil {
			d.tasks = append(d.tasks, taskChange{slot: slotOf(t), drop: id})
		}
	}
	for i := range res.Retire {
		d.tasks = append(d.tasks, taskChange{slot: slotOf(&res.Retire[i]), retire: &res.Retire[i]})
	}
	for i := range res.Changes {
		d.tasks = append(d.tasks, taskChange{slot: slotOf(&res.Changes[i].Task), change: &res.Changes[i]})
	}
}

// bySlot splits the tasks' changes into what must stay together, in the order of
// each slot's first.
func (d *decision) bySlot() [][]taskChange {
	at := map[slotKey]int{}
	var out [][]taskChange
	for _, c := range d.tasks {
		i, ok := at[c.slot]
		if !ok {
			i = len(out)
			at[c.slot] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], c)
	}
	return out
}

func hasGlobal(services []*state.Service) bool {
	return slices.ContainsFunc(services, func(sv *state.Service) bool {
		return sv.Spec.Mode == stack.Global || sv.Spec.Mode == stack.GlobalJob
	})
}

func input(v *view, s *state.Stack, services []*state.Service, networks []*state.Network, now time.Time) reconcile.Input {
	in := reconcile.Input{
		Stack: s.Name, Tasks: v.snap.Tasks(s.Name), Now: now.UnixNano(),
		Nodes: v.nodes, Node: func(id string) *stack.Node { return v.byID[id] }, Eligible: v.filters.fits,
		Bound: func(svc *stack.Service) bool { return s.Spec.HomeOf(svc) != "" || len(s.Spec.LocalVolumes(svc)) > 0 },
		Past:  func(service string) []*stack.Task { return v.snap.Past(s.Name, service) },
	}
	for _, sv := range services {
		w := reconcile.Service{
			Spec: &sv.Spec, Version: sv.Version, Desired: sv.Desired, Removing: sv.Removing, RemoveVolumes: sv.RemoveVolumes,
			Left: sv.Left, Update: sv.Update, Grace: sv.Grace, Versions: make(map[uint64]*stack.Service, len(sv.History)),
		}
		for i := range sv.History {
			w.Versions[sv.History[i].Version] = &sv.History[i].Spec
		}
		in.Services = append(in.Services, w)
	}
	for _, n := range networks {
		if n.Next != nil {
			in.Stale = append(in.Stale, n.Key)
			if who := guests(v.snap, n.Name, s.Name); who != "" {
				if in.Held == nil {
					in.Held = map[string]string{}
				}
				in.Held[n.Key] = who
			}
		}
	}
	return in
}

// swap puts the successors of networks in their place.
func swap(networks []*state.Network, keys []string) (out []state.Change) {
	for _, n := range networks {
		if n.Next != nil && slices.Contains(keys, n.Key) {
			out = append(out, state.Change{Network: &state.Network{Network: *n.Next, Asked: n.Asked}})
		}
	}
	return out
}

// guests says who is in a network of a stack beside its own tasks; "": nobody.
func guests(snap *state.Snapshot, network, stackName string) string {
	names := snap.GuestNames(network, stackName)
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0] + " is still in it"
	}
	return fmt.Sprintf("%s and %d more are still in it", names[0], len(names)-1)
}

// dropUnused removes networks that the stack has no more, once all its
// containers are of current versions and so cannot be in them, and nobody else is.
func dropUnused(snap *state.Snapshot, s *state.Stack, in reconcile.Input, networks []*state.Network) (out []state.Change) {
	for _, n := range networks {
		if w, ok := s.Spec.Networks[n.Key]; ok && !w.External && w.Name == n.Name || oldTasks(in) || guests(snap, n.Name, s.Name) != "" {
			continue
		}
		out = append(out, drop(state.TableNetwork, n.Name))
	}
	return out
}

func oldTasks(in reconcile.Input) bool {
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

// dissolve removes what is left of a stack without services. Where its volumes
// are stays known: they outlive it. So do networks with containers of nobody's in
// them, as a person may remove them later; tasks of other stacks are on their way
// out, and waited for.
func dissolve(snap *state.Snapshot, s *state.Stack) *decision {
	d := &decision{}
	occupied := map[string]bool{}
	for _, n := range snap.StackNetworks(s.Name) {
		tasks, containers := snap.Guests(n.Name, s.Name)
		if len(tasks) > 0 {
			return d
		}
		occupied[n.Name] = slices.ContainsFunc(containers, func(e *state.Endpoint) bool { return e.Owner() != s.Name })
	}
	for _, t := range snap.Tasks(s.Name) { // of services that are gone: of these nothing is left either
		d.tasks = append(d.tasks, taskChange{slot: slotOf(t), drop: t.ID})
	}
	for _, n := range snap.StackNetworks(s.Name) {
		if !occupied[n.Name] {
			d.last = append(d.last, drop(state.TableNetwork, n.Name))
		}
	}
	for _, k := range fileKeys(snap, s.Name) {
		d.last = append(d.last, drop(k.Table, k.Name))
	}
	d.last = append(d.last, drop(state.TableStack, s.Name))
	return d
}

// fileKeys are the secrets and configs that a stack made.
func fileKeys(snap *state.Snapshot, stackName string) []state.Key {
	var keys []state.Key
	for _, v := range snap.StackSecrets(stackName) {
		keys = append(keys, state.Key{Table: state.TableSecret, Name: v.Name})
	}
	for _, v := range snap.StackConfigs(stackName) {
		keys = append(keys, state.Key{Table: state.TableConfig, Name: v.Name})
	}
	return keys
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
