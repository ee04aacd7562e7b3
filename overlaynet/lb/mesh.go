package lb

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Published ports reach tasks of other nodes over the mesh, a link of their
// own. The node asked translates the address and marks the connection, and
// routes by that mark. The task's node notes from which node the connection
// came, and marks the task's answers for the way back. docs/networking.md has
// the whole path.

// The sets of the mesh.
func values(t nftables.SetDatatype) func(*nftables.Set) {
	return func(s *nftables.Set) { s.IsMap, s.DataType = true, t }
}

func (b *batch) meshMarks() *nftables.Set {
	return b.set("mesh_marks", nftables.TypeEtherAddr, values(nftables.TypeMark))
}
func (b *batch) meshNodes4() *nftables.Set { return b.set("mesh_nodes4", nftables.TypeIPAddr) }
func (b *batch) meshNodes6() *nftables.Set { return b.set("mesh_nodes6", nftables.TypeIP6Addr) }
func (b *batch) meshIn4() *nftables.Set    { return b.set("mesh_in4", hostKey4, concat) }
func (b *batch) meshIn6() *nftables.Set    { return b.set("mesh_in6", hostKey6, concat) }

func (b *batch) meshSets() []*nftables.Set {
	return []*nftables.Set{b.meshMarks(), b.meshNodes4(), b.meshNodes6(), b.meshIn4(), b.meshIn6()}
}

// meshInbound edits what depends on the device and the other nodes.
func (b *batch) meshInbound(old, next overlaynet.Inbound, bridged bool) {
	if old.Mesh == "" {
		old = overlaynet.Inbound{}
	}
	if next.Mesh == "" {
		next = overlaynet.Inbound{}
	}
	if old.Mesh != next.Mesh {
		b.meshDevice(old.Mesh, next.Mesh, bridged)
	}
	edits(old.Marks, next.Marks, func(mac string, n uint16, do edit) {
		if hw, err := net.ParseMAC(mac); err == nil && n > 0 && n <= overlaynet.MeshPeers {
			b.edit(b.meshMarks(), do, nftables.SetElement{Key: hw, Val: binaryutil.NativeEndian.PutUint32(overlaynet.MeshMark + uint32(n))})
		}
	})
	edits(old.Nodes, next.Nodes, func(a netip.Addr, is bool, do edit) {
		if is {
			b.edit(either(a, b.meshNodes4, b.meshNodes6), do, nftables.SetElement{Key: a.AsSlice()})
		}
	})
}

// edits calls f for each key that goes or has another value, then for each that comes.
func edits[K, V comparable](old, next map[K]V, f func(K, V, edit)) {
	for k, v := range old {
		if n, ok := next[k]; !ok || n != v {
			f(k, v, goes)
		}
	}
	for k, v := range next {
		if o, ok := old[k]; !ok || o != v {
			f(k, v, come)
		}
	}
}

// inlet opens a task's port to what comes over the mesh.
func (b *batch) inlet(f overlaynet.Frontend, do edit) {
	b.edit(either(f.Addr, b.meshIn4, b.meshIn6), do, nftables.SetElement{Key: key(f.Addr, f.Protocol, f.Port)})
}

// meshMark makes the connection one that goes over the mesh, before it is
// translated to a backend that may be on another node. Those that are here
// have no route in the mesh's table, and take the usual one.
func (b *batch) meshMark(ch *nftables.Chain, to []overlaynet.Backend) {
	if slices.ContainsFunc(to, func(x overlaynet.Backend) bool { return x.Remote }) {
		exprs := rule(ctMark(), meshBits(), storeCtMark(), metaMark(), meshBits(), storeMetaMark())
		b.addRule(ch, tagOf(exprs), exprs)
	}
}

func ctMark() expr.Any { return &expr.Ct{Register: reg1, Key: expr.CtKeyMARK} }
func storeCtMark() expr.Any {
	return &expr.Ct{Register: reg1, Key: expr.CtKeyMARK, SourceRegister: true}
}
func metaMark() expr.Any { return &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1} }
func storeMetaMark() expr.Any {
	return &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true}
}

func bits(mask, xor uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor)}
}

// meshBits makes our bits of a mark those of a packet for the mesh.
func meshBits() expr.Any { return bits(^uint32(overlaynet.MeshMask), overlaynet.MeshMark) }

// ours matches a mark, loaded by the argument, that has our bit (or with
// CmpOpEq has not).
func ours(load expr.Any, op expr.CmpOp) []expr.Any {
	return rule(load, bits(overlaynet.MeshMark, 0), &expr.Cmp{Op: op, Register: reg1, Data: make([]byte, 4)})
}

// forward matches a mark that means: to a task of another node. With
// CmpOpNeq, and our bit, it is the way back to one.
func forward(load expr.Any, op expr.CmpOp) []expr.Any {
	return rule(load, bits(overlaynet.MeshMask, 0), &expr.Cmp{Op: op, Register: reg1, Data: binary.NativeEndian.AppendUint32(nil, overlaynet.MeshMark)})
}

// Directions of a packet in its connection.
const (
	original = 0
	reply    = 1
)

func direction(way byte) []expr.Any {
	return rule(&expr.Ct{Register: reg1, Key: expr.CtKeyDIRECTION}, &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{way}})
}

func onLinkOf(load func(uint32) expr.Any, device string) []expr.Any {
	return rule(load(reg1), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: ifname(device)})
}

func senderMAC() expr.Any {
	return &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}
}

// restored is the rule that leads later packets of a marked connection to
// where they are marked like its first. All others leave the chain with it.
func restored() []expr.Any { return rule(ours(ctMark(), expr.CmpOpNeq), goTo(meshMarked)) }

// marked are the rules that do it: for packets on their way to another node's
// task, and for answers of tasks here that another node was asked for.
func marked() [][]expr.Any {
	return [][]expr.Any{
		rule(direction(original), forward(ctMark(), expr.CmpOpEq), metaMark(), meshBits(), storeMetaMark(), verdict(expr.VerdictAccept)),
		rule(direction(reply), forward(ctMark(), expr.CmpOpNeq), ctMark(), bits(overlaynet.MeshMask, 0), storeMetaMark()),
	}
}

// unmarked takes our mark off, when it has led the packet: in forward, and last
// in output. The outer packets of tunnels inherit marks, and an answer's would
// lead them into the mesh again, also when the answer itself stays in its bridge.
func unmarked() []expr.Any {
	return rule(ours(metaMark(), expr.CmpOpNeq), metaMark(), bits(^uint32(overlaynet.MeshMask), 0), storeMetaMark())
}

const (
	meshed  = "mesh"     // forward, from or to the mesh
	meshNAT = "mesh_nat" // postrouting, to the mesh

	meshRaw    = "mesh_raw"    // raw, with a source in 127.0.0.0/8
	meshInput  = "mesh_input"  // input, from the mesh
	meshMarked = "mesh_marked" // of a connection that has our mark
)

// meshHooks are the chains that others jump to: always there, empty without a mesh.
func (b *batch) meshHooks() []fixedChain {
	return []fixedChain{b.regular(meshed), b.regular(meshNAT), b.regular(meshRaw), b.regular(meshInput), b.regular(meshMarked)}
}

func jumpTo(chain string) []expr.Any { return rule(jump(chain)) }

// meshDevice makes, moves or removes the rules that there are only with a mesh.
func (b *batch) meshDevice(old, next string, bridged bool) {
	if old != "" {
		for _, ch := range append(b.meshBase(old), b.meshFilled(old, bridged)...) {
			if ch.chain.Hooknum == nil {
				b.flushChain(ch.chain)
			} else {
				b.dropChain(ch.chain)
			}
		}
	}
	if next == "" {
		return
	}
	for _, ch := range append(b.meshBase(next), b.meshFilled(next, bridged)...) {
		if ch.chain.Hooknum != nil {
			b.addChain(ch.chain)
		}
		for _, r := range ch.rules {
			b.addRule(ch.chain, tagOf(r), r)
		}
	}
}

// meshBase are chains of their own. Packets of others get no further than a
// look at the name of a link or at a mark. All packets of all networks pass
// each of them twice, bare and in a tunnel, so what can be a part of a chain
// that is there anyway is: what leaves by the mesh needs no look at its source,
// since masquerading or dropping it is the first thing that mesh_nat does, and
// other nodes drop 127.0.0.0/8.
func (b *batch) meshBase(device string) []fixedChain {
	in := onLinkOf(iifname, device)
	known := rule(in, direction(original), ctBits(expr.CtKeySTATE, expr.CtStateBitNEW), senderMAC(),
		&expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: b.meshMarks().Name}, storeCtMark())
	return []fixedChain{
		b.base("mesh_mark", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle,
			known, restored()),
		b.base("mesh_output", nftables.ChainTypeRoute, nftables.ChainHookOutput, *nftables.ChainPriorityMangle, restored()),
		b.base("mesh_end", nftables.ChainTypeFilter, nftables.ChainHookOutput, *nftables.ChainPriorityLast, unmarked()),
	}
}

// meshFilled are the chains that others jump to.
func (b *batch) meshFilled(device string, bridged bool) []fixedChain {
	in, out := onLinkOf(iifname, device), onLinkOf(oifname, device)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	nat := [][]expr.Any{
		// No other node has a way back to 127.0.0.1, or to an address of this one.
		rule(out, fibSource(unix.RTN_LOCAL), masquerade()),
		// From a node, or a container behind it: if the task is there, that
		// node takes the answer for its own.
		rule(out, family(unix.NFPROTO_IPV4), saddr4(reg1), inSet(b.meshNodes4(), false), masquerade()),
		rule(out, family(unix.NFPROTO_IPV6), saddr6(reg1), inSet(b.meshNodes6(), false), masquerade()),
	}
	if !bridged { // To a task in the asker's own network: the answer would pass its bridge unseen.
		nat = append(nat,
			rule(out, family2(unix.NFPROTO_IPV4), iifname(reg1), daddr4(reg32s+4), inSet(b.own4(), false), masquerade()),
			rule(out, family2(unix.NFPROTO_IPV6), iifname(reg1), daddr6(reg2), inSet(b.own6(), false), masquerade()))
	}
	return []fixedChain{
		b.regular(meshed,
			rule(in, ctKnown(), accept),
			rule(in, ifIn(b.bridges(), true), family(unix.NFPROTO_IPV4), daddr4(reg1), l4proto(reg32s+1), dport(reg32s+2), inSet(b.meshIn4(), false), accept),
			rule(in, ifIn(b.bridges(), true), family(unix.NFPROTO_IPV6), daddr6(reg1), l4proto(reg32s+4), dport(reg32s+5), inSet(b.meshIn6(), false), accept),
			rule(in, drop),
			rule(out, ours(metaMark(), expr.CmpOpEq), drop),
			unmarked(),
		),
		b.regular(meshNAT, append(nat, rule(out, accept))...), // the client's own address stays
		b.regular(meshRaw, rule(in, drop)),
		b.regular(meshMarked, marked()...),
		b.regular(meshInput, rule(in, drop)), // what is known has left input before
	}
}

func fibSource(kind uint32) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(kind)},
	}
}

// throughMesh makes a socket's packets take the mesh's routes.
func throughMesh(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, overlaynet.MeshMark)
	}); cerr != nil {
		return cerr
	}
	return err
}
