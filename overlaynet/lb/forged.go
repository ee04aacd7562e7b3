package lb

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A container may write any address on its packets (it has CAP_NET_RAW by
// default), and that alone may make a connection known: one that somebody else
// seems to have begun, of which its own packets are the answers. So it is not
// enough that a packet belongs to a known connection, and not every beginning
// is taken for one.

const (
	known    = "known"    // forward, of a known connection
	stranger = "stranger" // prerouting, from a bridge, with an address that is not of its network
	posing   = "posing"   // prerouting, from the port of the tunnels
)

func (b *batch) forgedChains() []fixedChain {
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	return []fixedChain{
		// From one of our networks to another lead published ports only; out of, or
		// into, an internal one nothing.
		b.regular(known,
			unmarked(),
			rule(iifname(reg1), oifname(reg2), inSet(b.same(), false), accept),
			rule(ifIn(b.internal(), false), drop),
			rule(ifIn(b.internal(), true), drop),
			rule(ctNoDNAT(), ifIn(b.bridges(), false), ifIn(b.bridges(), true), drop),
			rule(accept),
		),
		// A container that routes for others (a VPN's clients, say) sends with their
		// addresses. None of them is in another network of ours, or a port that the
		// container itself publishes would answer into that. Within its own network
		// nobody is translated, and what is known there stays there.
		b.regular(stranger,
			rule(family(unix.NFPROTO_IPV6), linkLocal(saddr6(reg1)), verdict(expr.VerdictReturn)),
			rule(wayOn(expr.CmpOpNeq), accept),
			rule(&expr.Fib{Register: reg1, ResultOIFNAME: true, FlagSADDR: true}, inSet(b.bridges(), false), drop),
		),
		// A tunnel sends to its port, not from it, and is not tracked. An answer to
		// what seems to come from there would be taken for a frame.
		b.regular(posing,
			rule(family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.peers4(), false), drop),
			rule(family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.peers6(), false), drop),
			rule(family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.meshNodes4(), false), drop),
			rule(family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.meshNodes6(), false), drop),
		),
	}
}

// linkLocal matches an IPv6 address, loaded by the argument, in fe80::/10.
func linkLocal(load expr.Any) []expr.Any {
	first := *load.(*expr.Payload)
	first.Len = 2
	return rule(&first, &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: make([]byte, 2)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{0xfe, 0x80}})
}
