package link

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// state is what is looked at before something is repaired.
type state struct {
	index  int // 0: there is no such link
	name   string
	master int
	mtu    int
	up     bool
	alias  string

	address mac // all zero: it has none of six bytes
	linkInfo
}

// link reads one link by name.
func (s *sock) link(name string) state {
	return parseLink(s.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nul(name))))
}

// linkAt reads one link by its index.
func (s *sock) linkAt(index int) state {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	return parseLink(s.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, m))
}

// entry reads one neighbour or way.
func (s *sock) entry(data ...nl.NetlinkRequestData) (entry, bool) {
	return parseEntry(s.get(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, data...))
}

// get reads one thing; nil: there is none.
func (s *sock) get(kind, answer int, data ...nl.NetlinkRequestData) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_REQUEST)
	for _, d := range data {
		req.AddData(d)
	}
	req.Seq, req.Flags = s.seq, unix.NLM_F_REQUEST
	if unix.Sendto(s.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return nil
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil
		}
		for m := range messages(s.buf[:n]) {
			switch {
			case m.seq != s.seq: // the answer to an earlier question, whose asker gave up
			case int(m.kind) == answer:
				return slices.Clone(m.body)
			default:
				return nil
			}
		}
	}
}

// parseLink reads what the kernel says of a link; what is too short is no link.
func parseLink(b []byte) (st state) {
	if len(b) < unix.SizeofIfInfomsg {
		return state{}
	}
	info := nl.DeserializeIfInfomsg(b)
	st.index, st.up = int(info.Index), info.Flags&unix.IFF_UP != 0
	for _, a := range nested(b[unix.SizeofIfInfomsg:]) {
		switch {
		case a.kind == unix.IFLA_IFNAME:
			st.name = strings.TrimRight(string(a.value), "\x00")
		case a.kind == unix.IFLA_ADDRESS:
			copy(st.address[:], a.value)
		case a.kind == unix.IFLA_MASTER && len(a.value) == 4:
			st.master = int(nl.NativeEndian().Uint32(a.value))
		case a.kind == unix.IFLA_IFALIAS:
			st.alias = strings.TrimRight(string(a.value), "\x00")
		case a.kind == unix.IFLA_MTU && len(a.value) == 4:
			st.mtu = int(nl.NativeEndian().Uint32(a.value))
		case a.kind == unix.IFLA_LINKINFO:
			st.linkInfo = parseInfo(a.value)
		}
	}
	return st
}

// missingOf returns the steps that put right what a bridge lacks: being up,
// its MTU, the packet filter's eyes, its addresses, and the routes to its subnets.
func (k *sock) missingOf(s overlaynet.Segment, st state) (steps []step, err error) {
	if s.MTU > 0 && st.mtu != s.MTU {
		steps = append(steps, step{"set mtu of " + s.Bridge, setMTU(st.index, s.MTU), nil})
	}
	if st.filter4 != 1 || s.Has6() && st.filter6 != 1 {
		steps = append(steps, step{"filter bridge " + s.Bridge, filterBridge(st.index, s.Has6()), nil})
	}
	if !st.up {
		steps = append(steps, step{"bring up " + s.Bridge, upLink(st.index), nil})
	}
	have, err := k.addrsOf(st.index)
	if err != nil {
		return nil, err
	}
	routed, err := k.routesOf(st.index)
	if err != nil {
		return nil, err
	}
	if ll := linkLocal(s); st.up && s.Has6() && !have[ll] { // made by the kernel when a link comes up; without it no neighbour is found
		steps = append(steps, step{"add address " + ll.String(), address(st.index, ll, false), nil})
	}
	for _, g := range s.Gateways {
		switch {
		case !have[g]:
			steps = append(steps, step{"add gateway " + g.String(), address(st.index, g, false), nil})
		case !routed[g.Masked()] && st.up:
			steps = append(steps, step{"add route " + g.Masked().String(), subnetRoute(st.index, g), nil})
		}
	}
	return steps, nil
}

// linkLocal is the address that derives from the bridge's MAC (RFC 4291, appendix A).
func linkLocal(s overlaynet.Segment) netip.Prefix {
	mac := bridgeMAC(s)
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// addrsOf lists the addresses of a link.
func (s *sock) addrsOf(index int) (map[netip.Prefix]bool, error) {
	m := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	m.Index = uint32(index)
	list, err := s.dump("addresses", unix.RTM_GETADDR, m)
	if err != nil {
		return nil, err
	}
	out := map[netip.Prefix]bool{}
	for _, b := range list {
		if len(b) < unix.SizeofIfAddrmsg || int(nl.NativeEndian().Uint32(b[4:])) != index {
			continue
		}
		var addr []byte
		for _, a := range nested(b[unix.SizeofIfAddrmsg:]) {
			if a.kind == unix.IFA_LOCAL || a.kind == unix.IFA_ADDRESS && addr == nil { // IPv6 has the second only
				addr = a.value
			}
		}
		if ip, ok := netip.AddrFromSlice(addr); ok {
			out[netip.PrefixFrom(ip, int(b[1]))] = true
		}
	}
	return out, nil
}

// routesOf returns where the link leads to by the main table.
func (s *sock) routesOf(index int) (map[netip.Prefix]bool, error) {
	out := map[netip.Prefix]bool{}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		m := nl.NewRtMsg()
		m.RtMsg = unix.RtMsg{Family: uint8(fam), Table: unix.RT_TABLE_MAIN}
		list, err := s.dump("routes", unix.RTM_GETROUTE, m, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			if routeLink(b) != index {
				continue
			}
			for _, a := range nested(b[unix.SizeofRtMsg:]) {
				if ip, ok := netip.AddrFromSlice(a.value); ok && a.kind == unix.RTA_DST {
					out[netip.PrefixFrom(ip, int(b[1]))] = true
				}
			}
		}
	}
	return out, nil
}

// subnetRoute is the route that the kernel makes with an address.
func subnetRoute(index int, g netip.Prefix) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m := nl.NewRtMsg()
	m.Family, m.Dst_len, m.Protocol = uint8(family(g.Addr())), uint8(g.Bits()), unix.RTPROT_KERNEL
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, g.Masked().Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if g.Addr().Is4() {
		m.Scope = unix.RT_SCOPE_LINK
		req.AddData(nl.NewRtAttr(unix.RTA_PREFSRC, g.Addr().AsSlice()))
	} else {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(256))) // IP6_RT_PRIO_ADDRCONF
	}
	return req
}
