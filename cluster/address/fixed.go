package address

import (
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// Addresses that a service names are kept for its tasks: nobody who names none
// gets one of them, whoever starts first.

// keptFor is who an address is kept for, in place of a task.
func keptFor(service string) string { return "service " + service }

// keep makes these the addresses that are kept for a service.
func (b *Books) keep(service string, want []stack.TaskAddress) {
	had := b.fixed[service]
	if slices.Equal(had, want) {
		return
	}
	delete(b.fixed, service)
	for _, a := range had {
		if n := b.networks[a.Network]; n != nil {
			n.unkeep(service, a)
		}
	}
	if len(want) == 0 {
		return
	}
	b.fixed[service] = want
	for _, a := range want {
		if n := b.networks[a.Network]; n != nil {
			n.keep(service, a)
		}
	}
}

func (b *book) keep(service string, a stack.TaskAddress) {
	for _, ip := range parsed(a) {
		if b.kept[ip] == "" {
			b.kept[ip] = service
		}
	}
	b.rekeep(a)
}

func (b *book) unkeep(service string, a stack.TaskAddress) {
	for _, ip := range parsed(a) {
		if b.kept[ip] == service {
			delete(b.kept, ip)
			if b.err == nil {
				b.hosts.Free(ip, keptFor(service))
				b.full = [4]error{}
			}
		}
	}
}

// rekeep keeps addresses that are free for the services that name them.
func (b *book) rekeep(a stack.TaskAddress) {
	if len(b.kept) == 0 || b.err != nil {
		return
	}
	for _, ip := range parsed(a) {
		if service := b.kept[ip]; service != "" {
			if _, taken := b.hosts.Holder(ip); !taken {
				_, _ = b.hosts.TakeStatic(ip, keptFor(service)) // outside of the subnets: its task is told so
			}
		}
	}
}

func parsed(a stack.TaskAddress) (out []netip.Addr) {
	for _, text := range []string{a.IPv4, a.IPv6} {
		if ip, err := netip.ParseAddr(text); err == nil {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

// named are the addresses that a service names, by the real names of its networks.
func (b *Books) named(stackName string, spec *stack.Service) (out []stack.TaskAddress) {
	fixed := func(a stack.Attachment) bool { return a.IPv4 != "" || a.IPv6 != "" }
	if !spec.Container.OwnNetworks() || !slices.ContainsFunc(spec.Container.Networks, fixed) {
		return nil
	}
	for i, name := range b.snap.Attached(stackName, spec) {
		if a := spec.Container.Networks[i]; fixed(a) {
			out = append(out, stack.TaskAddress{Network: name, IPv4: a.IPv4, IPv6: a.IPv6})
		}
	}
	return out
}
