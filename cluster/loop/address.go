package loop

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// addresses gives a task that has a node its addresses, or says why it cannot have them.
func (p *placer) addresses(t *stack.Task) error {
	spec := p.view.spec(t)
	if err := p.given[t.Service]; err != nil {
		return err
	}
	want := p.wanted(spec)
	if len(want) == 0 {
		return nil
	}
	books := p.view.books
	got, err := books.Take(t.ID, t.Key(), want)
	for taken := (*address.Taken)(nil); errors.As(err, &taken); got, err = books.Take(t.ID, t.Key(), want) {
		if !p.yields(taken, t) {
			return fmt.Errorf("network %s: address %s is taken by %s", taken.Network, taken.Addr, p.holder(taken.Holder))
		}
	}
	t.Addresses = got
	return err
}

// wanted are the networks that span nodes in which tasks of a service have
// addresses, with those that it names.
func (p *placer) wanted(spec *stack.Service) []stack.TaskAddress {
	if spec == nil || !spec.Container.OwnNetworks() || len(spec.Container.Networks) == 0 {
		return nil
	}
	names := p.view.snap.Attached(p.stack.Name, spec)
	want := make([]stack.TaskAddress, 0, len(names))
	for i, a := range spec.Container.Networks {
		if p.view.books.Spans(names[i]) {
			want = append(want, stack.TaskAddress{Network: names[i], IPv4: a.IPv4, IPv6: a.IPv6})
		}
	}
	return want
}

// yields takes an address from a task of the same service whose node is down:
// it was there, and who comes in its place is called by the same address.
func (p *placer) yields(taken *address.Taken, t *stack.Task) bool {
	old := p.latest(taken.Holder)
	if old == nil || old.Stack != t.Stack || old.Service != t.Service || old.ID != t.Replaces && old.Desired != stack.DesiredRemove {
		return false
	}
	if n := p.view.byID[old.Node]; n != nil && !n.Down {
		return false
	}
	keep := p.view.books.Move(old.ID, taken)
	c := *old
	c.Addresses = keep
	if d := p.decided(old.ID); d != nil { // stored before or after this one
		d.Addresses = keep
	}
	p.yielded = append(p.yielded, state.Change{Update: &c})
	return true
}

// latest is a task as it is decided to be, else as it is stored; nil: there is none.
func (p *placer) latest(id string) *stack.Task {
	if t := p.decided(id); t != nil {
		return t
	}
	return p.view.snap.Task(id)
}

func (p *placer) decided(id string) *stack.Task {
	for i := range p.decision.tasks {
		if c := p.decision.tasks[i].change; c != nil && c.Task.ID == id {
			return &c.Task
		}
	}
	return nil
}

// holder is what a person calls who has an address.
func (p *placer) holder(id string) string {
	if t := p.latest(id); t != nil {
		on := ""
		if n := p.view.byID[t.Node]; n != nil {
			on = " on node " + nameOf(n)
		}
		return fmt.Sprintf("%s/%s.%d%s", t.Stack, t.Service, t.Slot, on)
	}
	if list := p.view.snap.ContainerEndpoints(id); len(list) > 0 && list[0].Name != "" {
		return "container " + list[0].Name
	}
	return id
}

func nameOf(n *stack.Node) string {
	if n.Hostname != "" {
		return n.Hostname
	}
	return n.ID
}

// give chooses the virtual addresses of the stack's services. Tasks of one that
// cannot have its addresses are not placed: names would be answered wrongly.
func (p *placer) give(services []*state.Service) (changes []state.Change) {
	for _, sv := range services {
		if sv.Removing {
			continue
		}
		key := state.ServiceKey(sv.Stack, sv.Name)
		got, err := p.view.books.TakeVirtual(key, p.virtualNetworks(sv))
		if err != nil {
			p.given[sv.Name] = fmt.Errorf("service %s: %w", sv.Name, err)
		}
		ports, err := p.ports(key, sv)
		if err != nil {
			p.given[sv.Name] = fmt.Errorf("service %s: %w", sv.Name, err)
			ports = sv.Ports
		}
		if !slices.Equal(got, sv.Addresses) || !slices.Equal(ports, sv.Ports) {
			changes = append(changes, state.Change{Given: &state.GivenChange{Stack: sv.Stack, Name: sv.Name, Addresses: got, Ports: ports}})
		}
	}
	return changes
}

// ports are the host ports that are chosen for a service in an open cluster. A
// machine alone chooses one for each container.
func (p *placer) ports(key string, sv *state.Service) ([]uint16, error) {
	if c := p.view.snap.Cluster(); c == nil || !c.Open || len(sv.Spec.Container.Ports) == 0 && len(sv.Ports) == 0 {
		return sv.Ports, nil
	}
	return p.view.books.TakePorts(key, &sv.Spec, sv.Ports)
}

// virtualNetworks are those in which a service has virtual addresses: of its
// spec, and those that tasks of older versions are still in.
func (p *placer) virtualNetworks(sv *state.Service) []string {
	if !sv.Spec.Virtual() {
		return nil
	}
	names := p.view.snap.Attached(sv.Stack, &sv.Spec)
	for _, a := range sv.Addresses {
		if slices.Contains(names, a.Network) {
			continue
		}
		used := slices.ContainsFunc(p.view.snap.ServiceTasks(sv.Stack, sv.Name), func(t *stack.Task) bool {
			return slices.ContainsFunc(t.Addresses, func(b stack.TaskAddress) bool { return a.Network == b.Network })
		})
		if used {
			names = append(names, a.Network)
		}
	}
	return names
}

// refusal is how a person reads that a task has no address.
func refusal(t *stack.Task, err error) string {
	return fmt.Sprintf("%s.%d: no address: %s", t.Service, t.Slot, strings.TrimPrefix(err.Error(), "service "+t.Service+": "))
}
