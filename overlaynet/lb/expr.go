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

func sport(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
}

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
	first := *load.(*expr.Payload)
	first.Len = 1
	return rule(family(unix.NFPROTO_IPV4), &first, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{127}})
}

func ofTCP() []expr.Any { return ofProtocol(unix.IPPROTO_TCP) }
func ofUDP() []expr.Any { return ofProtocol(unix.IPPROTO_UDP) }

func ofProtocol(number byte) []expr.Any {
	return []expr.Any{l4proto(reg1), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{number}}}
}

// tcpFIN matches a segment that ends its sender's half of a connection.
func tcpFIN() []expr.Any {
	const flags, fin = 13, 1 // offset in the header, bit
	return []expr.Any{
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{fin}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte{0}},
	}
}

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }
func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

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

func ctNoDNAT() []expr.Any {
	exprs := ctDNAT()
	exprs[2].(*expr.Cmp).Op = expr.CmpOpEq
	return exprs
}

// wayBack matches a packet whose answer would leave by the link that it came in
// through, wayOn one that would itself; with CmpOpEq those that would not.
func wayBack(op expr.CmpOp) []expr.Any { return onSameLink(&expr.Fib{FlagSADDR: true}, op) }
func wayOn(op expr.CmpOp) []expr.Any   { return onSameLink(&expr.Fib{FlagDADDR: true}, op) }

func onSameLink(fib *expr.Fib, op expr.CmpOp) []expr.Any {
	fib.Register, fib.ResultOIF, fib.FlagIIF = reg1, true, true
	return []expr.Any{fib, &expr.Cmp{Op: op, Register: reg1, Data: make([]byte, 4)}}
}
