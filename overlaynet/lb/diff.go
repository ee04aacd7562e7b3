package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// change adds what turns m into m with the change. It looks at nothing that
// the change does not name.
func (b *batch) change(m model, c overlaynet.Change) {
	for id, next := range c.Segments {
		old, there := m.segments[id]
		if there && next != nil && sameSegment(old, *next) {
			continue
		}
		if there {
			b.segment(old, goes)
		}
		if next != nil {
			b.segment(*next, come)
		}
	}
	for v := range m.touched(c) {
		b.virtual(v.Addr, m.place(v), m.placeAfter(v, c))
	}
	for f, to := range c.Frontends {
		next := overlaynet.Pool{Backends: to, Sticky: c.Sticky[f]}
		b.frontend(f, m.frontends[f], next)
	}
	for a, p := range c.Resolvers {
		if old := m.resolvers[a]; old != p {
			b.resolver(a, old, p)
		}
	}
	for a, here := range c.Locals {
		if m.locals[a] != here {
			b.local(a, edit(here))
		}
	}
	for f, on := range c.Inlets {
		if m.inlets[f] != on {
			b.inlet(f, edit(on))
		}
	}
	if c.Inbound != nil {
		b.inbound(m.inbound, *c.Inbound)
		b.meshInbound(m.inbound, *c.Inbound, m.bridged)
	}
}

// touched are the virtual addresses that the change names, and those of
// networks whose bridge comes, goes or gets another name.
func (m model) touched(c overlaynet.Change) map[overlaynet.Virtual]bool {
	out := make(map[overlaynet.Virtual]bool, len(c.Virtuals))
	for v := range c.Virtuals {
		out[v] = true
	}
	for id, s := range c.Segments {
		if s != nil && m.segments[id].Bridge == s.Bridge {
			continue
		}
		for a := range m.virtuals[id] {
			out[overlaynet.Virtual{Network: id, Addr: a}] = true
		}
	}
	return out
}

func sameSegment(a, b overlaynet.Segment) bool {
	return a.Bridge == b.Bridge && a.Internal == b.Internal && a.Masquerade == b.Masquerade &&
		a.Separate == b.Separate && slices.Equal(a.Gateways, b.Gateways) && slices.Equal(a.Virtual, b.Virtual)
}

func (b *batch) segment(s overlaynet.Segment, do edit) {
	name := ifname(s.Bridge)
	b.edit(b.bridges(), do, nftables.SetElement{Key: name})
	if s.Internal {
		b.edit(b.internal(), do, nftables.SetElement{Key: name})
	}
	b.edit(b.same(), do, nftables.SetElement{Key: append(slices.Clone(name), name...)})
	for _, v := range s.Virtual {
		b.edit(either(v.Addr(), b.virtual4, b.virtual6), do, rangeOf(v.Masked())...)
	}
	for _, g := range s.Gateways {
		b.edit(either(g.Addr(), b.own4, b.own6), do, nftables.SetElement{
			Key: append(slices.Clone(name), g.Masked().Addr().AsSlice()...), KeyEnd: append(slices.Clone(name), lastOf(g).AsSlice()...)})
		if s.Masquerade && !s.Internal {
			b.edit(either(g.Addr(), b.masq4, b.masq6), do, rangeOf(g.Masked())...)
		}
	}
}

// either is the set for a's family.
func either(a netip.Addr, four, six func() *nftables.Set) *nftables.Set {
	if a.Is6() {
		return six()
	}
	return four()
}

// rangeOf is a prefix as the two elements of an interval set.
func rangeOf(p netip.Prefix) []nftables.SetElement {
	return []nftables.SetElement{{Key: p.Addr().AsSlice()}, {Key: lastOf(p).Next().AsSlice(), IntervalEnd: true}}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// virtual moves a service's address from one place to another.
func (b *batch) virtual(a netip.Addr, old, next place) {
	if old.bridge != "" && old.bridge != next.bridge {
		b.poolChain(b.chainOfVirtual(old.bridge, a), a, old.pool, overlaynet.Pool{})
		b.virtualElement(a, old, goes)
		old = place{}
	}
	if next.bridge == "" {
		return
	}
	b.poolChain(b.chainOfVirtual(next.bridge, a), a, old.pool, next.pool)
	if old.bridge != "" && (len(old.pool.Backends) == 0) == (len(next.pool.Backends) == 0) {
		return // where it leads is as before
	}
	if old.bridge != "" {
		b.virtualElement(a, old, goes)
	}
	b.virtualElement(a, next, come)
}

func (b *batch) virtualElement(a netip.Addr, p place, do edit) {
	chain := refuse
	if len(p.pool.Backends) > 0 {
		chain = b.chainOfVirtual(p.bridge, a).Name
	}
	b.edit(either(a, b.vip4, b.vip6), do, nftables.SetElement{
		Key: append(ifname(p.bridge), a.AsSlice()...), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}})
}

func (b *batch) chainOfVirtual(bridge string, a netip.Addr) *nftables.Chain {
	return &nftables.Chain{Table: b.t, Name: "vip_" + bridge + "_" + dotted(a)}
}

// dotted is an address as a part of a chain's name.
func dotted(a netip.Addr) string { return strings.ReplaceAll(a.String(), ":", ".") }

// frontend makes a published port lead to its pool. An empty one is not published.
func (b *batch) frontend(f overlaynet.Frontend, old, next overlaynet.Pool) {
	b.poolChain(b.chainOf(f), f.Addr, old, next)
	if had, has := len(old.Backends) > 0, len(next.Backends) > 0; had != has {
		b.element(f, &expr.Verdict{Kind: expr.VerdictGoto, Chain: b.chainOf(f).Name}, edit(has))
	}
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func key(a netip.Addr, proto string, port uint16) []byte {
	var k []byte
	if !a.IsUnspecified() {
		k = a.AsSlice()
	}
	return append(k, protocols[proto], 0, 0, 0, byte(port>>8), byte(port), 0, 0)
}

func (b *batch) mapFor(a netip.Addr) *nftables.Set {
	if a.IsUnspecified() {
		return either(a, b.any4, b.any6)
	}
	return either(a, b.host4, b.host6)
}

func (b *batch) element(f overlaynet.Frontend, v *expr.Verdict, do edit) {
	b.edit(b.mapFor(f.Addr), do, nftables.SetElement{Key: key(f.Addr, f.Protocol, f.Port), VerdictData: v})
}

func (b *batch) chainOf(f overlaynet.Frontend) *nftables.Chain {
	return &nftables.Chain{Table: b.t, Name: fmt.Sprintf("%s_%s_%d", f.Protocol, dotted(f.Addr), f.Port)}
}

// resolver keeps port 53 of a gateway for the resolver, also when a container
// publishes port 53 on every address; redirected when it listens elsewhere.
func (b *batch) resolver(a netip.Addr, old, next uint16) {
	redirect := func(port uint16) (p overlaynet.Pool) {
		if port != 0 && port != 53 {
			p.Backends = []overlaynet.Backend{{Addr: a, Port: port}}
		}
		return p
	}
	for _, proto := range []string{"udp", "tcp"} {
		f := overlaynet.Frontend{Protocol: proto, Addr: a, Port: 53}
		b.poolChain(b.chainOf(f), a, redirect(old), redirect(next))
		verdict := func(port uint16) *expr.Verdict {
			if port == 53 {
				return &expr.Verdict{Kind: expr.VerdictAccept}
			}
			return &expr.Verdict{Kind: expr.VerdictGoto, Chain: b.chainOf(f).Name}
		}
		if old != 0 {
			b.element(f, verdict(old), goes)
		}
		if next != 0 {
			b.element(f, verdict(next), come)
		}
	}
}

// local lets a container reach itself through a virtual address or a published
// port: what comes back to its sender has the node's address.
func (b *batch) local(a netip.Addr, do edit) {
	b.edit(either(a, b.self4, b.self6), do, nftables.SetElement{Key: append(a.AsSlice(), a.AsSlice()...)})
}
