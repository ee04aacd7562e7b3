package lb

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var (
	ifPair   = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	ifAddr4  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	ifAddr6  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr)
	pair4    = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)
	pair6    = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIP6Addr)
	portKey  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	hostKey4 = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	hostKey6 = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)
)

// The sets and maps of the table, by what they hold.
func (b *batch) set(name string, key nftables.SetDatatype, opt ...func(*nftables.Set)) *nftables.Set {
	s := &nftables.Set{Table: b.t, Name: name, KeyType: key}
	for _, o := range opt {
		o(s)
	}
	return s
}

func concat(s *nftables.Set)   { s.Concatenation = true }
func native(s *nftables.Set)   { s.KeyByteOrder = binaryutil.NativeEndian } // how nft prints names
func interval(s *nftables.Set) { s.Interval = true }
func verdicts(s *nftables.Set) { s.IsMap, s.DataType = true, nftables.TypeVerdict }

func (b *batch) bridges() *nftables.Set  { return b.set("bridges", nftables.TypeIFName, native) }
func (b *batch) internal() *nftables.Set { return b.set("internal", nftables.TypeIFName, native) }
func (b *batch) same() *nftables.Set     { return b.set("same", ifPair, concat) }
func (b *batch) masq4() *nftables.Set    { return b.set("masq4", nftables.TypeIPAddr, interval) }
func (b *batch) masq6() *nftables.Set    { return b.set("masq6", nftables.TypeIP6Addr, interval) }
func (b *batch) own4() *nftables.Set     { return b.set("own4", ifAddr4, concat, interval) }
func (b *batch) own6() *nftables.Set     { return b.set("own6", ifAddr6, concat, interval) }
func (b *batch) self4() *nftables.Set    { return b.set("self4", pair4, concat) }
func (b *batch) self6() *nftables.Set    { return b.set("self6", pair6, concat) }
func (b *batch) any4() *nftables.Set     { return b.set("any4", portKey, concat, verdicts) }
func (b *batch) any6() *nftables.Set     { return b.set("any6", portKey, concat, verdicts) }
func (b *batch) host4() *nftables.Set    { return b.set("host4", hostKey4, concat, verdicts) }
func (b *batch) host6() *nftables.Set    { return b.set("host6", hostKey6, concat, verdicts) }
func (b *batch) vip4() *nftables.Set     { return b.set("vip4", ifAddr4, concat, verdicts) }
func (b *batch) vip6() *nftables.Set     { return b.set("vip6", ifAddr6, concat, verdicts) }
func (b *batch) virtual4() *nftables.Set { return b.set("virtual4", nftables.TypeIPAddr, interval) }
func (b *batch) virtual6() *nftables.Set { return b.set("virtual6", nftables.TypeIP6Addr, interval) }

func (b *batch) sets() []*nftables.Set {
	return append([]*nftables.Set{
		b.bridges(), b.internal(), b.same(), b.masq4(), b.masq6(), b.own4(), b.own6(), b.self4(), b.self6(),
		b.any4(), b.any6(), b.host4(), b.host6(), b.vip4(), b.vip6(), b.virtual4(), b.virtual6(),
		b.tunnels(), b.peers4(), b.peers6(),
	}, b.meshSets()...)
}

// rebuild replaces the table by one with the content of m.
func (b *batch) rebuild(m model) {
	b.any = true
	b.c.AddTable(b.t)
	b.c.DelTable(b.t)
	b.c.AddTable(b.t)
	b.content(m)
}

// content adds everything that a fresh table holds.
func (b *batch) content(m model) {
	for _, s := range b.sets() {
		b.addSet(s)
	}
	if m.lasting {
		b.addLasting()
	}
	for _, ch := range b.skeleton(m) {
		b.addChain(ch.chain)
		for _, r := range ch.rules {
			b.addRule(ch.chain, tagOf(r), r)
		}
	}
	nothing := newModel()
	nothing.bridged = m.bridged
	b.change(nothing, m.whole())
}

type fixedChain struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

func (b *batch) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority, rules ...[]expr.Any) fixedChain {
	accept := nftables.ChainPolicyAccept
	return fixedChain{&nftables.Chain{Table: b.t, Name: name, Type: kind, Hooknum: hook, Priority: &prio, Policy: &accept}, rules}
}

func (b *batch) regular(name string, rules ...[]expr.Any) fixedChain {
	return fixedChain{&nftables.Chain{Table: b.t, Name: name}, rules}
}

// The chains that others lead to.
const (
	published = "published" // ports of the node's own addresses
	refuse    = "refuse"    // a service with nobody behind it
	martian   = "martian"   // raw, with a source in 127.0.0.0/8
	tunnel    = "tunnel"    // raw, to the port of the tunnels
	smuggled  = "smuggled"  // forward, from a bridge to the port of the tunnels
	invalid   = "invalid"   // forward, of no connection
)

// skeleton is the fixed part of the table, in the order in which it must be
// made. A packet between two containers passes raw and forward with each hop,
// and all of a connection but its first leaves forward after two rules; the
// chains of addresses see the first only.
func (b *batch) skeleton(m model) []fixedChain {
	out := append(b.meshHooks(), b.leads()...)
	out = append(append(out, b.tunnelChains()...), b.forgedChains()...)
	return append(out, b.raw(), b.prerouting(), b.output(), b.input(), b.forward(m.lasting), b.postrouting(m.bridged))
}

func (b *batch) leads() []fixedChain {
	return []fixedChain{
		b.regular(published,
			rule(fibType(expr.CmpOpNeq, unix.RTN_LOCAL), verdict(expr.VerdictReturn)),
			rule(family(unix.NFPROTO_IPV4), load(daddr4(reg1), l4proto(reg32s+1), dport(reg32s+2)), vmap(b.host4())),
			rule(family(unix.NFPROTO_IPV4), load(l4proto(reg1), dport(reg32s+1)), vmap(b.any4())),
			rule(family(unix.NFPROTO_IPV6), load(daddr6(reg1), l4proto(reg32s+4), dport(reg32s+5)), vmap(b.host6())),
			rule(family(unix.NFPROTO_IPV6), load(l4proto(reg1), dport(reg32s+1)), vmap(b.any6())),
		),
		b.regular(refuse,
			rule(ofTCP(), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}),
			rule(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}),
		),
		b.regular(martian, rule(ifIn(b.bridges(), false), verdict(expr.VerdictDrop)), jumpTo(meshRaw)),
		b.regular(invalid,
			// The end of a connection that was forgotten meanwhile: nobody else would answer it.
			rule(family(unix.NFPROTO_IPV4), daddr4(reg1), inSet(b.virtual4(), false), ofTCP(), tcpFIN(), goTo(refuse)),
			rule(family(unix.NFPROTO_IPV6), daddr6(reg1), inSet(b.virtual6(), false), ofTCP(), tcpFIN(), goTo(refuse)),
			// A late packet outside of its connection's window is not translated: its
			// receiver would not know the sender and reset the connection.
			rule(ifIn(b.bridges(), false), ofTCP(), verdict(expr.VerdictDrop)),
			rule(ifIn(b.bridges(), true), ofTCP(), verdict(expr.VerdictDrop)),
		),
	}
}

// raw guards 127.0.0.0/8: route_localnet is on for our bridges, and may be for
// others. Nothing may use it but answers to ourselves, or a neighbour reaches
// what listens there. All packets pass this chain, most of them twice (bare,
// and in a tunnel): links are looked up only when the packet itself gives cause.
func (b *batch) raw() fixedChain {
	return b.base("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw,
		rule(inLoopback(daddr4(reg1)), iifname(reg1), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: ifname("lo")}, verdict(expr.VerdictDrop)),
		rule(b.toTunnel(), jump(tunnel)),
		rule(inLoopback(saddr4(reg1)), jump(martian)),
	)
}

// prerouting looks services' addresses up by the bridge that they are asked for
// on. One that is not found there, or is asked for elsewhere, leads nowhere; no
// packet to it leaves the node.
func (b *batch) prerouting() fixedChain {
	return b.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest,
		rule(inLoopback(daddr4(reg1)), verdict(expr.VerdictReturn)), // from outside: never ours
		rule(b.fromTunnel(), jump(posing)),
		rule(ifIn(b.bridges(), false), wayBack(expr.CmpOpEq), jump(stranger)),
		rule(family(unix.NFPROTO_IPV4), iifname(reg1), daddr4(reg2), vmap(b.vip4())),
		rule(family(unix.NFPROTO_IPV6), iifname(reg1), daddr6(reg2), vmap(b.vip6())),
		rule(b.toVirtual4(), ifIn(b.bridges(), false), goTo(refuse)),
		rule(b.toVirtual6(), ifIn(b.bridges(), false), goTo(refuse)),
		rule(b.toVirtual4(), verdict(expr.VerdictDrop)),
		rule(b.toVirtual6(), verdict(expr.VerdictDrop)),
		rule(jump(published)),
	)
}

func (b *batch) toVirtual4() []expr.Any {
	return rule(family(unix.NFPROTO_IPV4), daddr4(reg1), inSet(b.virtual4(), false))
}

func (b *batch) toVirtual6() []expr.Any {
	return rule(family(unix.NFPROTO_IPV6), daddr6(reg1), inSet(b.virtual6(), false))
}

func (b *batch) output() fixedChain {
	return b.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest,
		// The kernel cannot send from ::1 to elsewhere: the reserved socket forwards.
		rule(family(unix.NFPROTO_IPV6), daddr6(reg1), cmp(reg1, make([]byte, 15), 1), verdict(expr.VerdictReturn)),
		rule(b.toVirtual4(), goTo(refuse)),
		rule(b.toVirtual6(), goTo(refuse)),
		rule(jump(published)),
	)
}

func (b *batch) input() fixedChain {
	return b.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter,
		// A container has no tunnel to the node, whatever source it writes on it.
		rule(b.toTunnel(), ifIn(b.bridges(), false), verdict(expr.VerdictDrop)),
		// From an internal network only the gateway itself is reached, no other address of the node.
		rule(ifIn(b.internal(), false), fibIifType(expr.CmpOpEq, unix.RTN_UNICAST), verdict(expr.VerdictDrop)),
		rule(ctKnown(), verdict(expr.VerdictAccept)),
		jumpTo(meshInput),
	)
}

func (b *batch) forward(lasting bool) fixedChain {
	rules := [][]expr.Any{
		rule(ctKnown(), goTo(known)),
		rule(ctBits(expr.CtKeySTATE, expr.CtStateBitINVALID), jump(invalid)),
	}
	if lasting {
		rules = append(rules, b.last())
	}
	return b.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter, append(rules,
		rule(iifname(reg1), oifname(reg2), inSet(b.same(), false), verdict(expr.VerdictAccept)),
		rule(b.toTunnel(), ifIn(b.bridges(), false), jump(smuggled)),
		jumpTo("mesh"),
		rule(ifIn(b.internal(), false), verdict(expr.VerdictDrop)),
		rule(ifIn(b.internal(), true), verdict(expr.VerdictDrop)),
		rule(ifIn(b.bridges(), true), ctDNAT(), verdict(expr.VerdictAccept)),
		rule(ifIn(b.bridges(), true), verdict(expr.VerdictDrop)),
	)...)
}

func (b *batch) postrouting(bridged bool) fixedChain {
	own := [][]expr.Any{
		// Back to the asker's own network: the answer would pass its bridge unseen.
		// br_netfilter hides the incoming link, so the source address tells.
		rule(ctDNAT(), oifname(reg1), family2(unix.NFPROTO_IPV4), saddr4(reg32s+4), inSet(b.own4(), false), masquerade()),
		rule(ctDNAT(), oifname(reg1), family2(unix.NFPROTO_IPV6), saddr6(reg2), inSet(b.own6(), false), masquerade()),
	}
	if bridged { // only what a container sends to itself: its source must be another's
		own = [][]expr.Any{
			rule(ctDNAT(), family(unix.NFPROTO_IPV4), saddr4(reg1), daddr4(reg32s+1), inSet(b.self4(), false), masquerade()),
			rule(ctDNAT(), family(unix.NFPROTO_IPV6), saddr6(reg1), daddr6(reg2), inSet(b.self6(), false), masquerade()),
		}
	}
	rules := append([][]expr.Any{rule(ifIn(b.bridges(), true), inLoopback(saddr4(reg1)), masquerade()), jumpTo("mesh_nat")}, own...)
	return b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource, append(rules,
		rule(ifOut(b.bridges()), family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.masq4(), false), masquerade()),
		rule(ifOut(b.bridges()), family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.masq6(), false), masquerade()),
	)...)
}
