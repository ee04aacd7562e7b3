package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Forget drops tracked connections, with one pass over the table of each
// family that is concerned.
func (l *Links) Forget(_ context.Context, f overlaynet.Flows) error {
	m := forgotten{addrs: map[netip.Addr]bool{}, udp: map[netip.Addr]bool{}, ports: map[uint16][]netip.Addr{}}
	touched := map[netlink.InetFamily]bool{}
	note := func(a netip.Addr) { touched[netlink.InetFamily(family(a))] = true }
	for _, a := range f.Addrs {
		m.addrs[a] = true
		note(a)
	}
	for _, a := range f.UDP {
		m.udp[a] = true
		note(a)
	}
	for _, p := range f.Ports {
		m.ports[p.Port] = append(m.ports[p.Port], p.Addr)
		note(p.Addr)
	}
	var errs []error
	for fam := range touched {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, fam, m); err != nil {
			errs = append(errs, fmt.Errorf("forget connections: %w", err))
		}
	}
	return errors.Join(errs...)
}

type forgotten struct {
	addrs, udp map[netip.Addr]bool
	ports      map[uint16][]netip.Addr
}

// MatchConntrackFlow fits netlink's filter.
func (f forgotten) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	isUDP := flow.Forward.Protocol == unix.IPPROTO_UDP
	for _, ip := range []net.IP{flow.Reverse.SrcIP, flow.Forward.SrcIP, flow.Forward.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && (f.addrs[a.Unmap()] || isUDP && f.udp[a.Unmap()]) {
			return true
		}
	}
	if !isUDP || !flow.Reverse.SrcIP.Equal(flow.Forward.DstIP) { // translated already
		return false
	}
	for _, a := range f.ports[flow.Forward.DstPort] {
		to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
		if to = to.Unmap(); a == to || a.IsUnspecified() && a.Is4() == to.Is4() {
			return true
		}
	}
	return false
}
