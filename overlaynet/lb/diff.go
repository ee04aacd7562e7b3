package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// diff adds what turns old into next: first what goes, then what comes, so
// that a key may move in one transaction.
func (b *batch) diff(old, next model) {
	for id, s := range old.segments {
		if n, ok := next.segments[id]; !ok || !sameSegment(s, n) {
			b.segment(s, goes)
		}
	}
	for f, to := range old.frontends {
		if n := next.frontends[f]; len(n) == 0 {
			b.element(f, nil, goes)
			b.dropChain(b.chainOf(f))
		} else if !slices.Equal(to, n) {
			b.flushChain(b.chainOf(f))
			b.balance(f, n)
		}
	}
	for a, p := range old.resolvers {
		if next.resolvers[a] != p {
			b.resolver(a, p, goes)
		}
	}
	for id, s := range next.segments {
		if o, ok := old.segments[id]; !ok || !sameSegment(o, s) {
			b.segment(s, come)
		}
	}
	for f, to := range next.frontends {
		if len(old.frontends[f]) == 0 {
			b.addChain(b.chainOf(f))
			b.balance(f, to)
			b.element(f, &expr.Verdict{Kind: expr.VerdictGoto, Chain: b.chainOf(f).Name}, come)
		}
	}
	for a, p := range next.resolvers {
		if old.resolvers[a] != p {
			b.resolver(a, p, come)
		}
	}
}

func sameSegment(a, b overlaynet.Segment) bool {
	return a.Bridge == b.Bridge && a.Internal == b.Internal && a.Masquerade == b.Masquerade &&
		a.Separate == b.Separate && slices.Equal(a.Gateways, b.Gateways)
}

func (b *batch) segment(s overlaynet.Segment, do edit) {
	name := ifname(s.Bridge)
	b.edit(b.bridges(), do, nftables.SetElement{Key: name})
	if s.Internal {
		b.edit(b.internal(), do, nftables.SetElement{Key: name})
	}
	b.edit(b.same(), do, nftables.SetElement{Key: append(slices.Clone(name), name...)})
	for _, g := range s.Gateways {
		own, lo := b.own4(), g.Masked().Addr().AsSlice()
		if g.Addr().Is6() {
			own = b.own6()
		}
		b.edit(own, do, nftables.SetElement{Key: append(slices.Clone(name), lo...), KeyEnd: append(slices.Clone(name), lastOf(g).AsSlice()...)})
		if !s.Masquerade || s.Internal {
			continue
		}
		set := b.masq4()
		if g.Addr().Is6() {
			set = b.masq6()
		}
		b.edit(set, do, rangeOf(g.Masked())...)
	}
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

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func key(a netip.Addr, proto string, port uint16) []byte {
	var k []byte
	if !a.IsUnspecified() {
		k = a.AsSlice()
	}
	return append(k, protocols[proto], 0, 0, 0, byte(port>>8), byte(port), 0, 0)
}

func (b *batch) mapFor(a netip.Addr) *nftables.Set {
	switch {
	case a == netip.IPv4Unspecified():
		return b.any4()
	case a == netip.IPv6Unspecified():
		return b.any6()
	case a.Is4():
		return b.host4()
	}
	return b.host6()
}

func (b *batch) element(f overlaynet.Frontend, v *expr.Verdict, do edit) {
	b.edit(b.mapFor(f.Addr), do, nftables.SetElement{Key: key(f.Addr, f.Protocol, f.Port), VerdictData: v})
}

func (b *batch) chainOf(f overlaynet.Frontend) *nftables.Chain {
	name := fmt.Sprintf("%s_%s_%d", f.Protocol, strings.ReplaceAll(f.Addr.String(), ":", "."), f.Port)
	return &nftables.Chain{Table: b.t, Name: name}
}

// balance makes the one rule of a port's chain: round robin over its backends.
func (b *batch) balance(f overlaynet.Frontend, to []overlaynet.Backend) {
	width, proto := uint32(1), uint32(unix.NFPROTO_IPV4)
	addrType := nftables.TypeIPAddr
	if f.Addr.Is6() {
		width, proto, addrType = 4, unix.NFPROTO_IPV6, nftables.TypeIP6Addr
	}
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: proto, RegAddrMin: reg1, RegProtoMin: reg32s + width}
	var exprs []expr.Any
	if len(to) == 1 {
		exprs = []expr.Any{
			&expr.Immediate{Register: reg1, Data: to[0].Addr.AsSlice()},
			&expr.Immediate{Register: reg32s + width, Data: binaryutil.BigEndian.PutUint16(to[0].Port)},
			nat,
		}
	} else {
		m := &nftables.Set{Table: b.t, Anonymous: true, Constant: true, IsMap: true,
			KeyType: nftables.TypeInteger, DataType: nftables.MustConcatSetType(addrType, nftables.TypeInetService)}
		var elems []nftables.SetElement
		for i, x := range to {
			val := append(x.Addr.AsSlice(), byte(x.Port>>8), byte(x.Port), 0, 0)
			elems = append(elems, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: val})
		}
		b.addSet(m, elems)
		exprs = []expr.Any{
			&expr.Numgen{Register: reg1, Modulus: uint32(len(to)), Type: unix.NFT_NG_INCREMENTAL},
			&expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
			nat,
		}
	}
	b.addRule(b.chainOf(f), tagOf(to), exprs)
}

// resolver keeps port 53 of a gateway for the resolver, also when a container
// publishes port 53 on every address; redirected when it listens elsewhere.
func (b *batch) resolver(a netip.Addr, port uint16, do edit) {
	for _, proto := range []string{"udp", "tcp"} {
		f := overlaynet.Frontend{Protocol: proto, Addr: a, Port: 53}
		v := &expr.Verdict{Kind: expr.VerdictAccept}
		if port != 53 {
			f2 := b.chainOf(f)
			if do == come {
				b.addChain(f2)
				b.balance(f, []overlaynet.Backend{{Addr: a, Port: port}})
			}
			v = &expr.Verdict{Kind: expr.VerdictGoto, Chain: f2.Name}
		}
		b.element(f, v, do)
		if port != 53 && do == goes {
			b.dropChain(b.chainOf(f))
		}
	}
}
