package lb

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers: the 16-byte ones and the 4-byte ones that overlay them.
const (
	reg1   = unix.NFT_REG_1
	reg2   = unix.NFT_REG_2
	reg32s = unix.NFT_REG32_00
)

var (
	ifPair   = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	ifAddr4  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	ifAddr6  = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr)
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
func (b *batch) any4() *nftables.Set     { return b.set("any4", portKey, concat, verdicts) }
func (b *batch) any6() *nftables.Set     { return b.set("any6", portKey, concat, verdicts) }
func (b *batch) host4() *nftables.Set    { return b.set("host4", hostKey4, concat, verdicts) }
func (b *batch) host6() *nftables.Set    { return b.set("host6", hostKey6, concat, verdicts) }

func (b *batch) sets() []*nftables.Set {
	return []*nftables.Set{b.bridges(), b.internal(), b.same(), b.masq4(), b.masq6(), b.own4(), b.own6(), b.any4(), b.any6(), b.host4(), b.host6()}
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
		b.addSet(s, nil)
	}
	for _, ch := range b.skeleton() {
		b.addChain(ch.chain)
		for _, r := range ch.rules {
			b.addRule(ch.chain, tagOf(r), r)
		}
	}
	b.diff(newModel(), m)
}

type fixedChain struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

func (b *batch) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio nftables.ChainPriority, rules ...[]expr.Any) fixedChain {
	accept := nftables.ChainPolicyAccept
	return fixedChain{&nftables.Chain{Table: b.t, Name: name, Type: kind, Hooknum: hook, Priority: &prio, Policy: &accept}, rules}
}

// skeleton is the fixed part of the table, in the order in which it must be made.
func (b *batch) skeleton() []fixedChain {
	lookups := fixedChain{&nftables.Chain{Table: b.t, Name: "published"}, [][]expr.Any{
		rule(fibType(expr.CmpOpNeq, unix.RTN_LOCAL), verdict(expr.VerdictReturn)),
		rule(family(unix.NFPROTO_IPV4), load(daddr4(reg1), l4proto(reg32s+1), dport(reg32s+2)), vmap(b.host4())),
		rule(family(unix.NFPROTO_IPV4), load(l4proto(reg1), dport(reg32s+1)), vmap(b.any4())),
		rule(family(unix.NFPROTO_IPV6), load(daddr6(reg1), l4proto(reg32s+4), dport(reg32s+5)), vmap(b.host6())),
		rule(family(unix.NFPROTO_IPV6), load(l4proto(reg1), dport(reg32s+1)), vmap(b.any6())),
	}}
	jump := rule(&expr.Verdict{Kind: expr.VerdictJump, Chain: "published"})
	return []fixedChain{
		lookups,
		b.base("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw,
			// route_localnet is on for our bridges, and may be for others: nothing may
			// use it but answers to ourselves, or a neighbour reaches 127.0.0.1.
			rule(iifname(reg1), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: ifname("lo")}, inLoopback(daddr4(reg1)), verdict(expr.VerdictDrop)),
			rule(ifIn(b.bridges(), false), inLoopback(saddr4(reg1)), verdict(expr.VerdictDrop)),
		),
		b.base("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest,
			rule(inLoopback(daddr4(reg1)), verdict(expr.VerdictReturn)), // from outside: never ours
			jump,
		),
		b.base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest,
			// The kernel cannot send from ::1 to elsewhere: the reserved socket forwards.
			rule(family(unix.NFPROTO_IPV6), daddr6(reg1), cmp(reg1, make([]byte, 15), 1), verdict(expr.VerdictReturn)),
			jump,
		),
		b.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter,
			// From an internal network only the gateway itself is reached, no other address of the node.
			rule(ifIn(b.internal(), false), fibIifType(expr.CmpOpEq, unix.RTN_UNICAST), verdict(expr.VerdictDrop)),
		),
		b.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter,
			rule(ifIn(b.bridges(), false), ctKnown(), verdict(expr.VerdictAccept)),
			rule(ifIn(b.bridges(), true), ctKnown(), verdict(expr.VerdictAccept)),
			rule(iifname(reg1), oifname(reg2), inSet(b.same(), false), verdict(expr.VerdictAccept)),
			rule(ifIn(b.internal(), false), verdict(expr.VerdictDrop)),
			rule(ifIn(b.internal(), true), verdict(expr.VerdictDrop)),
			rule(ifIn(b.bridges(), true), ctDNAT(), verdict(expr.VerdictAccept)),
			rule(ifIn(b.bridges(), true), verdict(expr.VerdictDrop)),
		),
		b.base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource,
			rule(ifIn(b.bridges(), true), inLoopback(saddr4(reg1)), masquerade()),
			// Back to the asker's own network, or to itself. br_netfilter hides the
			// incoming link, so the source address tells.
			rule(ctDNAT(), oifname(reg1), family2(unix.NFPROTO_IPV4), saddr4(reg32s+4), inSet(b.own4(), false), masquerade()),
			rule(ctDNAT(), oifname(reg1), family2(unix.NFPROTO_IPV6), saddr6(reg2), inSet(b.own6(), false), masquerade()),
			rule(ifOut(b.bridges()), family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.masq4(), false), masquerade()),
			rule(ifOut(b.bridges()), family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.masq6(), false), masquerade()),
		),
	}
}

// cmp compares with pad followed by last.
func cmp(reg uint32, pad []byte, last byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: append(pad, last)}
}

func rule(parts ...any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			out = append(out, p...)
		case expr.Any:
			out = append(out, p)
		}
	}
	return out
}

func load(parts ...any) []expr.Any { return rule(parts...) }

func family(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{f}},
	}
}

// family2 is family without touching the first register.
func family2(f byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg2, Data: []byte{f}},
	}
}

func verdict(k expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: k} }
func masquerade() expr.Any                { return &expr.Masq{} }
func iifname(reg uint32) expr.Any         { return &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg} }
func oifname(reg uint32) expr.Any         { return &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg} }
func l4proto(reg uint32) expr.Any         { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg} }

func network(reg, offset, n uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n}
}

func saddr4(reg uint32) expr.Any { return network(reg, 12, 4) }
func daddr4(reg uint32) expr.Any { return network(reg, 16, 4) }
func saddr6(reg uint32) expr.Any { return network(reg, 8, 16) }
func daddr6(reg uint32) expr.Any { return network(reg, 24, 16) }

func dport(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func inSet(s *nftables.Set, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, SetName: s.Name, Invert: invert}
}

func vmap(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, SetName: s.Name, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT}
}

// ifIn matches packets that come in through (or with out go out of) a link of the set.
func ifIn(s *nftables.Set, out bool) []expr.Any {
	if out {
		return []expr.Any{oifname(reg1), inSet(s, false)}
	}
	return []expr.Any{iifname(reg1), inSet(s, false)}
}

// ifOut matches packets that leave through a link that is not in the set.
func ifOut(s *nftables.Set) []expr.Any { return []expr.Any{oifname(reg1), inSet(s, true)} }

// inLoopback matches an IPv4 address, loaded by the argument, in 127.0.0.0/8.
func inLoopback(load expr.Any) []expr.Any {
	return rule(family(unix.NFPROTO_IPV4), load,
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: []byte{255, 0, 0, 0}, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{127, 0, 0, 0}})
}

func fibType(op expr.CmpOp, kind uint32) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: op, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(kind)},
	}
}

func fibIifType(op expr.CmpOp, kind uint32) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagDADDR: true, FlagIIF: true},
		&expr.Cmp{Op: op, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(kind)},
	}
}

func ctBits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: reg1, Key: key},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}
}

func ctKnown() []expr.Any {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

const ipsDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h

func ctDNAT() []expr.Any { return ctBits(expr.CtKeySTATUS, ipsDstNAT) }
