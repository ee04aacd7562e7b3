package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Sweep removes every link whose name begins with our mark and every
// namespace under our run directory that is not named here.
func (l *Links) Sweep(_ context.Context, segments []overlaynet.Segment, sandboxes map[string][]overlaynet.Plug) error {
	keep := map[string]bool{overlaynet.MeshDevice(l.mark): true} // SetMesh removes it
	unsure := map[int]bool{}                                     // bridges whose tunnels are not known yet
	for _, s := range segments {
		keep[s.Bridge] = true
		if index := l.host.index(s.Bridge); s.Keep && index != 0 {
			unsure[index] = true
		}
		if s.Tunnel != nil {
			keep[s.Tunnel.Device] = true
		}
	}
	for _, plugs := range sandboxes {
		for _, p := range plugs {
			keep[p.Host] = true
		}
	}
	ours, err := l.own()
	if err != nil {
		return err
	}
	var names []string
	for _, name := range ours {
		if !keep[name] && !l.isTunnelOf(name, unsure) {
			l.note(name, false)
			names = append(names, name)
		}
	}
	errs := []error{l.remove(names...)}
	files, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, f := range files {
		if _, ok := sandboxes[f.Name()]; !ok {
			errs = append(errs, unmount(filepath.Join(l.dir, f.Name())))
		}
	}
	if len(sandboxes) == 0 {
		_ = os.Remove(l.dir) // only when empty
	}
	return errors.Join(errs...)
}

// isTunnelOf tells whether the link is a tunnel and a port of one of the bridges.
func (l *Links) isTunnelOf(name string, bridges map[int]bool) bool {
	if len(bridges) == 0 {
		return false
	}
	st := l.host.link(name)
	return st.kind == "vxlan" && bridges[st.master]
}

// own returns the names of our links by their index: by name, or by alias.
func (l *Links) own() (map[int]string, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := map[int]string{}
	for _, x := range links {
		if a := x.Attrs(); l.owns(a.Name, state{alias: a.Alias}) {
			out[a.Index] = a.Name
		}
	}
	return out, nil
}

// Avoid returns the host's own addresses and the destinations of its routes
// in every table (a VPN has one of its own), but those of our bridges. Routes
// to half the world or more (a VPN that takes everything) are not counted.
func (l *Links) Avoid() (out []netip.Prefix, err error) {
	ours, err := l.own()
	if err != nil {
		return nil, err
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	const widest = 7 // 10.0.0.0/8 and fd00::/8 are private ranges that a VPN may really use
	for _, r := range routes {
		if r.Dst == nil || ours[r.LinkIndex] != "" || r.Type != unix.RTN_UNICAST {
			continue
		}
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > widest && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && ours[a.LinkIndex] == "" {
			out = append(out, p)
		}
	}
	return out, nil
}

// Addrs returns the host's own addresses by which other machines may see it:
// not those of our links, and none that are of one link or machine only.
func (l *Links) Addrs() (out []netip.Addr, err error) {
	ours, err := l.own()
	if err != nil {
		return nil, err
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, x := range addrs {
		if a, ok := netip.AddrFromSlice(x.IP); ok && ours[x.LinkIndex] == "" && a.Unmap().IsGlobalUnicast() {
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a.Unmap(), ones).Masked(), true
}

// MTUOf is that of the link that has this address; 0: none has it.
func (l *Links) MTUOf(addr netip.Addr) int {
	links, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range links {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(addr.AsSlice()) {
				return i.MTU
			}
		}
	}
	return 0
}

// UplinkMTU is that of the link with the host's default route; 0: there is none.
func (l *Links) UplinkMTU() int {
	routes, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	})
	if err != nil || len(routes) == 0 {
		routes, err = whole(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
		})
	}
	if err != nil || len(routes) == 0 {
		return 0
	}
	best := routes[0]
	for _, r := range routes {
		if r.Priority < best.Priority {
			best = r
		}
	}
	index := best.LinkIndex
	if len(best.MultiPath) > 0 {
		index = best.MultiPath[0].LinkIndex
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return 0
	}
	return i.MTU
}
