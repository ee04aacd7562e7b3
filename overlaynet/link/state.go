package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// state is what is looked at before something is repaired.
type state struct {
	index  int // 0: there is no such link
	master int
	mtu    int
	up     bool
	alias  string

	address mac // all zero: it has none of six bytes
	linkInfo
}

// link reads one link by name.
func (s *sock) link(name string) state {
	b := s.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	if len(b) < unix.SizeofIfInfomsg {
		return state{}
	}
	return parseLink(b)
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

func parseLink(b []byte) (st state) {
	info := nl.DeserializeIfInfomsg(b)
	st.index, st.up = int(info.Index), info.Flags&unix.IFF_UP != 0
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofIfInfomsg:])
	if err != nil {
		return state{}
	}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_ADDRESS:
			copy(st.address[:], a.Value)
		case unix.IFLA_MASTER:
			st.master = int(nl.NativeEndian().Uint32(a.Value))
		case unix.IFLA_IFALIAS:
			st.alias = strings.TrimRight(string(a.Value), "\x00")
		case unix.IFLA_MTU:
			st.mtu = int(nl.NativeEndian().Uint32(a.Value))
		case unix.IFLA_LINKINFO:
			st.linkInfo = parseInfo(a.Value)
		}
	}
	return st
}

// missingOf returns the steps that put right what a bridge lacks: being up,
// its MTU, the packet filter's eyes, its addresses, and the routes to its subnets.
func missingOf(s overlaynet.Segment, st state) (steps []step, err error) {
	if s.MTU > 0 && st.mtu != s.MTU {
		steps = append(steps, step{"set mtu of " + s.Bridge, setMTU(st.index, s.MTU), nil})
	}
	if st.filter4 != 1 || s.Has6() && st.filter6 != 1 {
		steps = append(steps, step{"filter bridge " + s.Bridge, filterBridge(st.index, s.Has6()), nil})
	}
	if !st.up {
		steps = append(steps, step{"bring up " + s.Bridge, upLink(st.index), nil})
	}
	have, err := addrsOf(st.index)
	if err != nil {
		return nil, err
	}
	routed, err := routesOf(st.index)
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

func addrsOf(index int) (map[netip.Prefix]bool, error) {
	list, err := whole(func() ([]netlink.Addr, error) {
		return netlink.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}, netlink.FAMILY_ALL)
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := map[netip.Prefix]bool{}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			ones, _ := a.Mask.Size()
			out[netip.PrefixFrom(ip.Unmap(), ones)] = true
		}
	}
	return out, nil
}

// routesOf returns where the link leads to by the main table.
func routesOf(index int) (map[netip.Prefix]bool, error) {
	list, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: index, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[netip.Prefix]bool{}
	for _, r := range list {
		if r.Dst != nil {
			if p, ok := prefixOf(r.Dst); ok {
				out[p] = true
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
