package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Lease of the agents' sessions: who has not been heard for so long stops what
// is exclusive by itself.
const Lease = 5 * time.Second

// noticed is how long the others take to find a node dead.
const noticed = 2 * time.Second

// Faults is a random schedule of what can happen to a cluster.
type Faults struct {
	*World
	Log    []string // what was done
	stacks []string
	failed bool // the last proposal of the loop failed
}

var errLost = errors.New("leadership lost")

// NewFaults builds a cluster with stacks on it.
func NewFaults(seed uint64, nodes, stacks int) (*Faults, error) {
	f := &Faults{World: NewWorld(seed)}
	f.Follower = state.New()
	if err := f.Propose(network(shared, "", 4000)); err != nil {
		return nil, err
	}
	for i := range nodes {
		n := stack.Node{
			ID: fmt.Sprintf("n%04d", i), Hostname: fmt.Sprint("host", i), OS: "linux", Architecture: "amd64", Addr: fmt.Sprint("10.0.0.", i),
			Memory: 8 << 30, NanoCPUs: 8e9, Labels: map[string]string{"zone": fmt.Sprint("z", i%3)},
		}
		if err := f.AddNode(n); err != nil {
			return nil, err
		}
	}
	for i := range stacks {
		name := fmt.Sprintf("s%02d", i)
		f.stacks = append(f.stacks, name)
		if err := f.deploy(name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// shared is a network of all stacks.
const shared = "shared"

// deploy applies a stack of a few kinds of services.
func (f *Faults) deploy(name string) error {
	spec := stack.Stack{Name: name, Networks: onNetworks(name+"_net", shared)}
	changes := []state.Change{{Stack: &state.Stack{Name: name, Spec: spec, Created: f.Now.UnixNano()}}, network(name+"_net", name, slices.Index(f.stacks, name))}
	for _, spec := range []stack.Service{
		f.spec(name, "web", 30+f.rng.IntN(200)),
		f.spec(name, "db", 1+f.rng.IntN(20)),
		f.spec(name, "agent", 0),
		f.spec(name, "fixed", 1),
	} {
		changes = append(changes, f.put(name, spec, true))
	}
	f.note("apply %s", name)
	return f.Propose(changes...)
}

func (f *Faults) spec(stackName, name string, replicas int) stack.Service {
	s := stack.Service{Name: name, Replicas: replicas, Container: stack.ContainerSpec{Image: fmt.Sprint(name, ":", f.rng.IntN(1000))}}
	s.Container.Resources.ReservedMemory = int64(16+f.rng.IntN(32)) << 20
	s.Container.Networks = []stack.Attachment{{Network: "net"}}
	switch name {
	case "fixed": // an address of its own, at which it is found wherever it runs
		s.Container.Networks[0].IPv4 = fixedAddress(slices.Index(f.stacks, stackName))
	case "agent":
		s.Deploy.EndpointMode = []string{"", "dnsrr"}[f.rng.IntN(2)]
		s.Mode = stack.Global
		s.Deploy.Constraints = []string{fmt.Sprint("node.labels.zone == z", f.rng.IntN(3))}
	case "db":
		s.Container.Networks = append(s.Container.Networks, stack.Attachment{Network: shared})
		s.DependsOn = []stack.Dependency{{Service: "web", Condition: stack.Started}}
		s.Deploy.Update = &stack.UpdateRule{Parallelism: 1, Order: "stop-first"}
	default:
		s.Deploy.Update = &stack.UpdateRule{Parallelism: 1 + f.rng.IntN(10), Order: []string{"stop-first", "start-first"}[f.rng.IntN(2)]}
		if f.rng.IntN(3) == 0 {
			s.Deploy.Preferences = []string{"node.labels.zone"}
		}
	}
	return s
}

func (f *Faults) put(stackName string, spec stack.Service, fresh bool) state.Change {
	return state.Change{Service: &state.ServiceChange{
		Service:    state.Service{Stack: stackName, Name: spec.Name, Spec: spec, Hash: spec.Container.Image, Desired: stack.DesiredRun},
		NewVersion: fresh,
	}}
}

func (f *Faults) note(format string, args ...any) {
	f.Log = append(f.Log, f.Now.Sub(Start).String()+" "+fmt.Sprintf(format, args...))
}

func pick[T any](f *Faults, of []T) T { return of[f.rng.IntN(len(of))] }

// Strike does one random thing.
func (f *Faults) Strike() error {
	switch n := f.rng.IntN(20); {
	case n < 3:
		return f.lose(true)
	case n < 6:
		return f.lose(false)
	case n < 9:
		return f.comeBack("")
	case n < 11:
		return f.scale()
	case n < 13:
		return f.update()
	case n < 16:
		return f.availability()
	case n == 16:
		return f.replaceStack()
	case n == 17:
		f.refuse()
		return nil
	}
	f.note("another leader")
	f.Elect()
	return nil
}

// lose kills a node, or cuts it off: then its containers run on.
func (f *Faults) lose(kill bool) error {
	a := f.Agents[pick(f, sortedKeys(f.Agents))]
	if a.dead || a.cut || f.away() > len(f.Agents)/4 {
		return nil
	}
	f.note("lose %s, killed: %v", a.node, kill)
	a.dead, a.cut, a.leaseEnd = kill, !kill, f.Now.Add(Lease)
	if kill {
		a.containers = map[string]*container{}
	}
	if f.rng.IntN(4) == 0 {
		return nil // back before anybody notices, perhaps
	}
	if err := f.World.Run(noticed); err != nil && !errors.Is(err, errLost) {
		return err
	}
	return f.setNode(a.node, func(n *stack.Node) { n.Down, n.Since = true, f.Now.UnixNano() })
}

func (f *Faults) away() (n int) {
	for _, a := range f.Agents {
		if a.dead || a.cut {
			n++
		}
	}
	return n
}

// comeBack brings a node back; "": any.
func (f *Faults) comeBack(id string) error {
	for _, name := range sortedKeys(f.Agents) {
		a := f.Agents[name]
		if !a.dead && !a.cut || id != "" && id != name || id == "" && f.rng.IntN(2) == 0 {
			continue
		}
		f.note("%s is back", name)
		a.dead, a.cut, a.leaseEnd = false, false, f.Now
		if err := f.setNode(name, func(n *stack.Node) { n.Down = false }); err != nil {
			return err
		}
		f.resync(name)
	}
	return nil
}

func (f *Faults) setNode(id string, change func(*stack.Node)) error {
	n := *f.Store.Snapshot().Node(id)
	change(&n)
	return f.Propose(state.Change{Node: &n})
}

func (f *Faults) service(name string) (string, *state.Service) {
	for range 20 {
		s := pick(f, f.stacks)
		if sv := f.Store.Snapshot().Service(s, name); sv != nil && !sv.Removing {
			return s, sv
		}
	}
	return "", nil
}

func (f *Faults) scale() error {
	s, sv := f.service("web")
	if sv == nil {
		return nil
	}
	spec := sv.Spec
	spec.Replicas = f.rng.IntN(250)
	f.note("scale %s/web to %d", s, spec.Replicas)
	return f.Propose(f.put(s, spec, false))
}

func (f *Faults) update() error {
	s, sv := f.service(pick(f, []string{"web", "db", "agent", "fixed"}))
	if sv == nil {
		return nil
	}
	spec := f.spec(s, sv.Name, sv.Spec.Replicas)
	f.note("update %s/%s to %s", s, spec.Name, spec.Container.Image)
	return f.Propose(f.put(s, spec, true))
}

func (f *Faults) availability() error {
	id := pick(f, sortedKeys(f.Agents))
	av := pick(f, []stack.Availability{stack.Active, stack.Active, stack.Paused, stack.Drain})
	f.note("%s is %q", id, av)
	return f.setNode(id, func(n *stack.Node) { n.Availability = av })
}

// replaceStack removes a stack, or brings one that is gone back.
func (f *Faults) replaceStack() error {
	name := pick(f, f.stacks)
	snap := f.Store.Snapshot()
	s := snap.Stack(name)
	if s == nil {
		return f.deploy(name)
	}
	f.note("remove %s", name)
	rec := *s
	rec.Removing = true
	changes := []state.Change{{Stack: &rec}}
	for _, sv := range snap.Services(name) {
		c := state.ServiceChange{Service: *sv}
		c.Removing = true
		changes = append(changes, state.Change{Service: &c})
	}
	return f.Propose(changes...)
}

// refuse lets one of the loop's next commands fail: not stored, or stored and not known to be.
func (f *Faults) refuse() {
	skip, stored, again := f.rng.IntN(4), f.rng.IntN(2) == 0, f.rng.IntN(2) == 0
	f.note("a command fails after %d; stored: %v, the leader stays: %v", skip, stored, again)
	f.Refuse = func() (before, after error) {
		if skip--; skip >= 0 {
			return nil, nil
		}
		f.Refuse = nil
		f.failed = !again
		if stored {
			return nil, errLost
		}
		return errLost, nil
	}
}

// Go lets time pass, with a new leader where the old one failed.
func (f *Faults) Go(d time.Duration, check func() error) error {
	until := f.Now.Add(d)
	for {
		more, err := f.Step(until)
		if errors.Is(err, errLost) {
			if f.failed {
				f.failed = false
				f.Elect()
			}
			more, err = true, nil
		}
		if err == nil {
			err = check()
		}
		if err != nil || !more {
			return err
		}
	}
}

// Heal ends all faults.
func (f *Faults) Heal() error {
	f.note("heal")
	f.Refuse = nil
	for _, id := range sortedKeys(f.Agents) {
		if err := f.comeBack(id); err != nil {
			return err
		}
		if err := f.setNode(id, func(n *stack.Node) { n.Availability, n.Down = stack.Active, false }); err != nil {
			return err
		}
	}
	return nil
}
