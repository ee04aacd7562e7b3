package address

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// Spans reports whether a network has addresses to be taken.
func (b *Books) Spans(network string) bool { return b.networks[network] != nil }

// Of returns what a task or container has, as far as the books know.
func (b *Books) Of(owner string) []stack.TaskAddress { return b.held[owner] }

// Take gives a task or container an address of each family in each network of
// want that spans nodes: those that want names, or any. It is all or nothing.
// Service is the state.ServiceKey of a task's, "" of a container. An address that
// somebody else has, or that is kept for another service, is a *Taken.
func (b *Books) Take(owner, service string, want []stack.TaskAddress) ([]stack.TaskAddress, error) {
	return b.take(hosts, b.held, owner, service, want)
}

// Give takes addresses back from who has not come into the state after all.
func (b *Books) Give(owner string) { b.shrink(hosts, b.held, owner, nil) }

// Move gives an address that from has to another owner, who takes it next.
func (b *Books) Move(from string, t *Taken) []stack.TaskAddress {
	var keep []stack.TaskAddress
	for _, a := range b.held[from] {
		if a.Network == t.Network && (a.IPv4 == t.Addr.String() || a.IPv6 == t.Addr.String()) {
			continue // its other family goes with it: half a place is none
		}
		keep = append(keep, a)
	}
	b.shrink(hosts, b.held, from, keep)
	return keep
}

// TakeVirtual makes what a service has one address of each family in each of
// these networks. What it has in the ranges of their networks it keeps, and that
// alone, also when an error says that there are no others: what it returns is to
// be stored in any case.
func (b *Books) TakeVirtual(service string, networks []string) ([]stack.TaskAddress, error) {
	var keep []stack.TaskAddress
	for _, a := range b.services[service] {
		if n := b.networks[a.Network]; n != nil && slices.Contains(networks, a.Network) && n.holds(a) {
			keep = append(keep, a)
		}
	}
	b.shrink(virtual, b.services, service, keep)
	var want []stack.TaskAddress
	for _, name := range networks {
		if n := b.networks[name]; n != nil && !slices.ContainsFunc(keep, func(a stack.TaskAddress) bool { return a.Network == name }) {
			want = append(want, stack.TaskAddress{Network: name})
		}
	}
	if len(want) == 0 {
		return keep, nil
	}
	got, err := b.take(virtual, b.services, service, "", want)
	if err != nil {
		return keep, err
	}
	return got, nil
}

func (b *Books) take(s space, to map[string][]stack.TaskAddress, owner, service string, want []stack.TaskAddress) ([]stack.TaskAddress, error) {
	had := to[owner]
	got := slices.Clip(slices.Clone(had))
	for _, w := range want {
		n := b.networks[w.Network]
		if n == nil || slices.ContainsFunc(got, func(a stack.TaskAddress) bool { return a.Network == w.Network }) {
			continue
		}
		a, err := n.take(s, owner, service, w)
		if err != nil {
			to[owner] = got
			b.shrink(s, to, owner, had)
			return nil, err
		}
		got = append(got, a)
	}
	if len(got) > 0 {
		to[owner] = got
	}
	return got, nil
}

// Leave gives back what an owner has in one network.
func (b *Books) Leave(owner, network string) {
	var keep []stack.TaskAddress
	for _, a := range b.held[owner] {
		if a.Network != network {
			keep = append(keep, a)
		}
	}
	b.shrink(hosts, b.held, owner, keep)
}
