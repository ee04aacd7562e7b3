package dns

import (
	"net/netip"
	"slices"
	"strings"
)

// asker is one container with a question.
type asker struct {
	me    *host // in the network where it asks
	stack string
	all   []*host // itself in each of its networks
}

// who finds the asker by its address and the address that was asked.
func (r *records) who(from, at netip.Addr) (asker, bool) {
	list := r.of.get(from)
	for _, h := range list {
		if len(list) > 1 && at.IsValid() && !slices.Contains(h.zone.now.Load().Gateways, at) {
			continue
		}
		return asker{me: h, stack: stackOf(h.Service), all: h.box.list()}, true
	}
	return asker{}, false
}

// found is one group of addresses that an asker may have.
type found struct {
	*group
	me    *host
	tasks bool
}

// list returns the addresses: a service of one task at most calls itself by
// its own, as programs do that listen on the address of their name.
func (f found) list() addrs {
	switch {
	case f.tasks:
		return f.group.tasks
	case f.single && f.me.Service == f.service:
		return families(f.me.Addrs)
	}
	return f.addrs
}

// lookup returns what a name means in the asker's networks; nil: nothing. Of
// services that are called alike those of the asker's own stack win, and of
// what remains that which is ready.
func (a asker) lookup(name string, out []found) []found {
	for _, h := range a.all {
		out = h.find(name, out)
	}
	if a.stack != "" && slices.ContainsFunc(out, func(f found) bool { return f.stack == a.stack }) {
		out = slices.DeleteFunc(out, func(f found) bool { return f.stack != "" && f.stack != a.stack })
	}
	if slices.ContainsFunc(out, func(f found) bool { return f.ready }) {
		out = slices.DeleteFunc(out, func(f found) bool { return !f.ready && (!f.single || f.me.Service != f.service) })
	}
	return out
}

// find looks in one network: for the name, and for NAME.NETWORK; each also as
// tasks.NAME, but after a service that is really called so.
func (h *host) find(name string, out []found) []found {
	if e := h.zone.names.get(name); e != nil {
		return h.of(e, false, out)
	}
	short, qualified := strings.CutSuffix(name, "."+h.zone.suffix())
	if qualified {
		if e := h.zone.names.get(short); e != nil {
			return h.of(e, false, out)
		}
	}
	tasks, ok := strings.CutPrefix(name, "tasks.")
	if !ok {
		return out
	}
	e := h.zone.names.get(tasks)
	if e == nil && qualified && len(short) > len("tasks.") {
		e = h.zone.names.get(short[len("tasks."):])
	}
	if e == nil {
		return out
	}
	return h.of(e, true, out)
}

func (z *zone) suffix() string { return fold(z.now.Load().Name) }

func (h *host) of(e *entry, tasks bool, out []found) []found {
	groups := e.meaning()
	for i := range groups {
		if !tasks || groups[i].many {
			out = append(out, found{&groups[i], h, tasks})
		}
	}
	return out
}

// reverse returns the name of an address in the asker's networks.
func (a asker) reverse(addr netip.Addr) (string, bool) {
	for _, h := range a.all {
		if x := h.zone.addrs.get(addr); x != nil && len(x.Names) > 0 {
			return fold(x.Names[0]) + "." + h.zone.suffix(), true
		}
		if s := h.zone.virtual.get(addr); s != nil {
			return fold(bare(s.Service.Service)) + "." + h.zone.suffix(), true
		}
	}
	return "", false
}

// outside tells whether the asker may ask the world.
func (a asker) outside() bool {
	return slices.ContainsFunc(a.all, func(h *host) bool { return !h.zone.now.Load().Internal })
}

// servers are the asker's own resolvers; none: the node's. One on a loopback
// address runs in the container itself, whose loopback is not ours: it is
// asked at the container's address.
func (h *host) servers() []string {
	out := slices.Clone(h.DNS)
	for i, s := range out {
		if a, err := netip.ParseAddr(s); err == nil && a.IsLoopback() && len(h.Addrs) > 0 {
			out[i] = h.Addrs[0].String()
		}
	}
	return out
}
