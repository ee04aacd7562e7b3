package lb

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

const (
	// slots is how many parts the clients of a sticky pool fall into. It is
	// fixed: with another number every client would move.
	slots = 512
	// seed of the kernel's hash of a client's address: the same on every
	// node and after every restart, so that a client stays where it is.
	seed = 0x64686f77
)

// spread makes the one rule of a pool's chain: to one of its backends, in
// turns or by the client's address. Backends without a port get the packet on
// the port that was asked for.
func (b *batch) spread(ch *nftables.Chain, six bool, p overlaynet.Pool) {
	width, proto, addrType := uint32(1), uint32(unix.NFPROTO_IPV4), nftables.TypeIPAddr
	if six {
		width, proto, addrType = 4, unix.NFPROTO_IPV6, nftables.TypeIP6Addr
	}
	b.meshMark(ch, p.Backends)
	ports := p.Backends[0].Port != 0
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: proto, RegAddrMin: reg1}
	valType := addrType
	if ports {
		nat.RegProtoMin = reg32s + width
		valType = nftables.MustConcatSetType(addrType, nftables.TypeInetService)
	}
	if len(p.Backends) == 1 {
		exprs := []expr.Any{&expr.Immediate{Register: reg1, Data: p.Backends[0].Addr.AsSlice()}}
		if ports {
			exprs = append(exprs, &expr.Immediate{Register: reg32s + width, Data: binaryutil.BigEndian.PutUint16(p.Backends[0].Port)})
		}
		b.addRule(ch, tagOf(p), append(exprs, nat))
		return
	}
	choice, order := turns(len(p.Backends)), b.begin(p.Backends)
	if p.Sticky {
		choice, order = byClient(six), share(p.Backends)
	}
	m := anonymous{
		set:    &nftables.Set{Table: b.t, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger, DataType: valType},
		lookup: &expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true},
	}
	for i, x := range order {
		val := x.Addr.AsSlice()
		if ports {
			val = append(val, byte(x.Port>>8), byte(x.Port), 0, 0)
		}
		m.elems = append(m.elems, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: val})
	}
	b.addRule(ch, tagOf(p), append(choice, m.lookup, nat), m)
}

// begin is where turns begin: elsewhere on each node and in each pool. Else the
// backend with the lowest address would have every node's first connection, and
// the first after every change.
func (b *batch) begin(to []overlaynet.Backend) []overlaynet.Backend {
	h := fnv.New64a()
	h.Write([]byte(b.host))
	for _, x := range to {
		a := x.Addr.As16()
		h.Write(a[:])
	}
	n := int(mixed(h.Sum64()) % uint64(len(to)))
	return append(slices.Clone(to[n:]), to[:n]...)
}

// turns counts new connections from 0 to n-1.
func turns(n int) []expr.Any {
	return []expr.Any{&expr.Numgen{Register: reg1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL}}
}

// byClient is the slot of the client's address.
func byClient(six bool) []expr.Any {
	from, n := saddr4(reg1), uint32(4)
	if six {
		from, n = saddr6(reg1), 16
	}
	return []expr.Any{from, &expr.Hash{SourceRegister: reg1, DestRegister: reg1, Length: n, Modulus: slots, Seed: seed, Type: expr.HashTypeJenkins}}
}

// share gives each slot a backend, by rendezvous hashing: the one that draws
// the highest number for it. When a backend goes, its slots alone move.
func share(to []overlaynet.Backend) []overlaynet.Backend {
	out := make([]overlaynet.Backend, slots)
	for slot := range out {
		var most uint64
		for _, x := range to {
			if n := draw(slot, x); n >= most {
				out[slot], most = x, n
			}
		}
	}
	return out
}

// draw is the number that a backend draws for a slot.
func draw(slot int, x overlaynet.Backend) uint64 {
	h := fnv.New64a()
	a := x.Addr.As16()
	h.Write(a[:])
	h.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, x.Port), uint32(slot)))
	return mixed(h.Sum64())
}

// mixed spreads what differs in a few bits over all of them (as MurmurHash3 ends).
func mixed(n uint64) uint64 {
	n = (n ^ n>>33) * 0xff51afd7ed558ccd
	n = (n ^ n>>33) * 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

// poolChain makes, changes or removes the chain of a pool. An empty pool has none.
func (b *batch) poolChain(ch *nftables.Chain, addr netip.Addr, old, next overlaynet.Pool) {
	had, has := len(old.Backends) > 0, len(next.Backends) > 0
	switch {
	case had && !has:
		b.dropChain(ch)
		return
	case !has || had && samePool(old, next):
		return
	case had:
		b.flushChain(ch)
	default:
		b.addChain(ch)
	}
	b.spread(ch, addr.Is6(), next)
}
