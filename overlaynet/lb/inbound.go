package lb

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// What comes to the port of the tunnels is a frame of one of our networks, and
// nothing in it says who sent it: only nodes may. The outer packets are not
// tracked, since they are many, and all of one connection.

func (b *batch) tunnels() *nftables.Set { return b.set("tunnels", nftables.TypeInetService) }
func (b *batch) peers4() *nftables.Set  { return b.set("peers4", nftables.TypeIPAddr) }
func (b *batch) peers6() *nftables.Set  { return b.set("peers6", nftables.TypeIP6Addr) }

// inbound edits the port of the tunnels and those who may send to it.
func (b *batch) inbound(old, next overlaynet.Inbound) {
	if old.Port != next.Port {
		if old.Port != 0 {
			b.edit(b.tunnels(), goes, nftables.SetElement{Key: []byte{byte(old.Port >> 8), byte(old.Port)}})
		}
		if next.Port != 0 {
			b.edit(b.tunnels(), come, nftables.SetElement{Key: []byte{byte(next.Port >> 8), byte(next.Port)}})
		}
	}
	peer := func(a netip.Addr, do edit) {
		b.edit(either(a, b.peers4, b.peers6), do, nftables.SetElement{Key: a.AsSlice()})
	}
	for a, is := range old.Peers {
		if is && !next.Peers[a] {
			peer(a, goes)
		}
	}
	for a, is := range next.Peers {
		if is && !old.Peers[a] {
			peer(a, come)
		}
	}
}

// toTunnel matches what goes to the port of the tunnels.
func (b *batch) toTunnel() []expr.Any {
	return rule(ofUDP(), dport(reg1), inSet(b.tunnels(), false))
}

// fromTunnel matches what comes from that port.
func (b *batch) fromTunnel() []expr.Any {
	return rule(ofUDP(), sport(reg1), inSet(b.tunnels(), false))
}

// tunnelChains: what comes to the tunnels from outside, and what they send.
func (b *batch) tunnelChains() []fixedChain {
	return []fixedChain{
		{&nftables.Chain{Table: b.t, Name: tunnel}, [][]expr.Any{
			rule(ifIn(b.bridges(), false), verdict(expr.VerdictReturn)), // input and forward have rules for those
			rule(family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.peers4(), false), &expr.Notrack{}, verdict(expr.VerdictAccept)),
			rule(family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.peers6(), false), &expr.Notrack{}, verdict(expr.VerdictAccept)),
			rule(fibType(expr.CmpOpEq, unix.RTN_LOCAL), verdict(expr.VerdictDrop)),
		}},
		// On its way out a container's packet gets this node's address, and other
		// nodes would take it for a frame of any network that it names.
		b.regular(smuggled,
			rule(family(unix.NFPROTO_IPV4), daddr4(reg1), inSet(b.peers4(), false), verdict(expr.VerdictDrop)),
			rule(family(unix.NFPROTO_IPV6), daddr6(reg1), inSet(b.peers6(), false), verdict(expr.VerdictDrop)),
			rule(family(unix.NFPROTO_IPV4), daddr4(reg1), inSet(b.meshNodes4(), false), verdict(expr.VerdictDrop)),
			rule(family(unix.NFPROTO_IPV6), daddr6(reg1), inSet(b.meshNodes6(), false), verdict(expr.VerdictDrop)),
		),
		b.base("rawout", nftables.ChainTypeFilter, nftables.ChainHookOutput, *nftables.ChainPriorityRaw,
			rule(b.toTunnel(), family(unix.NFPROTO_IPV4), daddr4(reg1), inSet(b.peers4(), false), &expr.Notrack{}, verdict(expr.VerdictAccept)),
			rule(b.toTunnel(), family(unix.NFPROTO_IPV6), daddr6(reg1), inSet(b.peers6(), false), &expr.Notrack{}),
		),
	}
}
