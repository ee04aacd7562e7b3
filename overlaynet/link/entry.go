package link

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// mac is a hardware address.
type mac [6]byte

const sticky = 0x40 // NTF_STICKY of linux/neighbour.h

// The requests for neighbours of a bridge and for the ways to hardware
// addresses. A way is two entries, made and removed by one request: in the
// bridge, to the tunnel's port, and in the tunnel, to a node.

func neighbour(bridge int, addr netip.Addr, to mac) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	req.AddData(&ndMsg{family: family(addr), index: bridge, state: unix.NUD_PERMANENT})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, addr.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, to[:]))
	return req
}

func noNeighbour(bridge int, addr netip.Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELNEIGH, 0)
	req.AddData(&ndMsg{family: family(addr), index: bridge})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, addr.AsSlice()))
	return req
}

// wayState makes the bridge's entry static, and is one that a tunnel accepts:
// it wants PERMANENT, which would mean the bridge itself there, or REACHABLE.
const wayState = unix.NUD_REACHABLE | unix.NUD_NOARP

// way is sticky: no container takes over the traffic of another node's by
// sending with its address.
func way(tunnel int, to mac, node netip.Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	req.AddData(&ndMsg{family: unix.AF_BRIDGE, index: tunnel, state: wayState, flags: unix.NTF_SELF | unix.NTF_MASTER | sticky})
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, to[:]))
	req.AddData(nl.NewRtAttr(unix.NDA_DST, node.AsSlice()))
	return req
}

// noWay removes one of the two entries, or both, as flags say.
func noWay(tunnel int, to mac, flags byte) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELNEIGH, 0)
	req.AddData(&ndMsg{family: unix.AF_BRIDGE, index: tunnel, flags: flags})
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, to[:]))
	return req
}

// ndMsg is struct ndmsg of linux/neighbour.h.
type ndMsg struct {
	family, index int
	state         uint16
	flags         byte
}

// Len fits netlink's requests.
func (m *ndMsg) Len() int { return unix.SizeofNdMsg }

// Serialize fits netlink's requests.
func (m *ndMsg) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = byte(m.family)
	nl.NativeEndian().PutUint32(b[4:], uint32(m.index))
	nl.NativeEndian().PutUint16(b[8:], m.state)
	b[10] = m.flags
	return b
}

// entry is an entry as the kernel tells of it.
type entry struct {
	ndMsg
	dst netip.Addr // of a neighbour: its address; of a tunnel's entry: the node
	mac mac
}

func parseEntry(b []byte) (e entry, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return e, false
	}
	e.ndMsg = ndMsg{int(b[0]), int(nl.NativeEndian().Uint32(b[4:])), nl.NativeEndian().Uint16(b[8:]), b[10]}
	for _, a := range nested(b[unix.SizeofNdMsg:]) {
		switch a.kind {
		case unix.NDA_DST:
			e.dst, _ = netip.AddrFromSlice(a.value)
		case unix.NDA_LLADDR:
			ok = copy(e.mac[:], a.value) == len(e.mac)
		case unix.NDA_MASTER: // that of a bridge says so in this way only
			e.flags |= unix.NTF_MASTER
		case unix.NDA_VLAN:
			return e, false
		}
	}
	return e, ok || e.family != unix.AF_BRIDGE
}

// isNeighbour tells whether a neighbour is as we make them.
func (e entry) isNeighbour(to mac) bool { return e.mac == to && e.state&unix.NUD_PERMANENT != 0 }

// neighboursOf lists the permanent neighbours of a bridge.
func (s *sock) neighboursOf(bridge int) (map[netip.Addr]mac, error) {
	out := map[netip.Addr]mac{}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := s.dump("neighbours", unix.RTM_GETNEIGH, &ndMsg{family: fam}, nl.NewRtAttr(unix.NDA_IFINDEX, nl.Uint32Attr(uint32(bridge))))
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			if e, ok := parseEntry(b); ok && e.index == bridge && e.state&unix.NUD_PERMANENT != 0 && e.dst.IsValid() {
				out[e.dst] = e.mac
			}
		}
	}
	return out, nil
}

// waysOf lists what leads into a tunnel and on: by hardware address the flags
// of the entries there are, and the node.
func (s *sock) waysOf(tunnel int) (map[mac]found, error) {
	list, err := s.dump("entries of the tunnel", unix.RTM_GETNEIGH, &ndMsg{family: unix.AF_BRIDGE, index: tunnel})
	if err != nil {
		return nil, err
	}
	out := map[mac]found{}
	for _, b := range list {
		e, ok := parseEntry(b)
		if !ok || e.index != tunnel || e.state == unix.NUD_PERMANENT && e.flags&unix.NTF_MASTER != 0 { // the port's own address
			continue
		}
		f := out[e.mac]
		switch {
		case e.flags&unix.NTF_MASTER != 0:
			f.flags |= e.flags
		case f.flags&unix.NTF_SELF != 0: // a second node: never ours
			f.node = netip.Addr{}
		default:
			f.flags |= unix.NTF_SELF
			f.node = e.dst
		}
		out[e.mac] = f
	}
	return out, nil
}

// found is what there is of a way.
type found struct {
	flags byte // NTF_MASTER: in the bridge; NTF_SELF: in the tunnel; NTF_STICKY
	node  netip.Addr
}

const wholeWay = unix.NTF_MASTER | unix.NTF_SELF | sticky

// leads tells whether nothing is to be done.
func (f found) leads(node netip.Addr) bool { return f.flags&wholeWay == wholeWay && f.node == node }
