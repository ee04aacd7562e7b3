package link

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// meshHave reads what the kernel has of a mesh of ours: rules and routes by
// their protocol and numbers, and what belongs to the device, if index is not 0.
func (l *Links) meshHave(index int) (s meshState, err error) {
	s = newMeshState()
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := l.readRules(s, fam); err != nil {
			return s, err
		}
		if err := l.readRoutes(s, fam); err != nil {
			return s, err
		}
	}
	if index == 0 {
		return s, nil
	}
	if s.hosts, err = l.host.neighboursOf(index); err != nil {
		return s, err
	}
	ways, err := l.host.waysOf(index)
	if err != nil {
		return s, err
	}
	for m, w := range ways {
		s.ways[m] = w.node
	}
	addrs, err := l.host.addrsOf(index)
	if err != nil {
		return s, err
	}
	for a := range addrs {
		if !a.Addr().IsLinkLocalUnicast() {
			s.addrs[a] = true
		}
	}
	return s, nil
}

func (l *Links) readRules(s meshState, fam int) error {
	m := nl.NewRtMsg()
	m.RtMsg = unix.RtMsg{Family: uint8(fam)}
	list, err := l.host.dump("policy rules", unix.RTM_GETRULE, m)
	if err != nil {
		return err
	}
	first := meshPriority(l.mark)
	for _, b := range list {
		if len(b) < unix.SizeofRtMsg || b[0] != uint8(fam) {
			continue
		}
		r, protocol := parseRule(b)
		if protocol == meshProtocol && r.priority >= first && r.priority <= first+3 {
			s.rules[r] = true
		}
	}
	return nil
}

func parseRule(b []byte) (r meshRule, protocol byte) {
	r.v6 = b[0] == unix.AF_INET6
	action := b[7]
	for _, a := range nested(b[unix.SizeofRtMsg:]) {
		if a.kind == nl.FRA_PROTOCOL && len(a.value) == 1 {
			protocol = a.value[0]
		}
		if len(a.value) != 4 {
			continue
		}
		v := nl.NativeEndian().Uint32(a.value)
		switch a.kind {
		case nl.FRA_PRIORITY:
			r.priority = v
		case nl.FRA_FWMARK:
			r.mark = v
		case nl.FRA_FWMASK:
			r.mask = v
		case nl.FRA_TABLE:
			if action == nl.FR_ACT_TO_TBL {
				r.table = v
			}
		case nl.FRA_GOTO:
			r.target = v
		}
	}
	return r, protocol
}

func (l *Links) readRoutes(s meshState, fam int) error {
	m := nl.NewRtMsg()
	m.RtMsg = unix.RtMsg{Family: uint8(fam), Protocol: meshProtocol}
	list, err := l.host.dump("routes of the mesh", unix.RTM_GETROUTE, m)
	if err != nil {
		return err
	}
	for _, b := range list {
		if len(b) < unix.SizeofRtMsg || b[5] != meshProtocol {
			continue
		}
		if r, hop := parseRoute(b); ownsTable(l.mark, r.table) {
			s.routes[r] = hop
		}
	}
	return nil
}

// parseRoute reads a route; one that leads nowhere has no hop.
func parseRoute(b []byte) (r meshRoute, hop meshHop) {
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for _, a := range nested(b[unix.SizeofRtMsg:]) {
		switch {
		case a.kind == unix.RTA_TABLE && len(a.value) == 4:
			r.table = nl.NativeEndian().Uint32(a.value)
		case a.kind == unix.RTA_DST:
			if ip, ok := netip.AddrFromSlice(a.value); ok {
				dst = ip
			}
		case a.kind == unix.RTA_GATEWAY:
			hop.via, _ = netip.AddrFromSlice(a.value)
		case a.kind == unix.RTA_OIF && len(a.value) == 4:
			hop.index = int(nl.NativeEndian().Uint32(a.value))
		}
	}
	r.dst = netip.PrefixFrom(dst, int(b[1]))
	return r, hop
}
