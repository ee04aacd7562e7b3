package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Sweep removes every link whose name begins with our mark and every
// namespace under our run directory that is not named here.
func (l *Links) Sweep(_ context.Context, segments []overlaynet.Segment, sandboxes map[string][]overlaynet.Plug) error {
	keep := map[string]bool{}
	for _, s := range segments {
		keep[s.Bridge] = true
	}
	for _, plugs := range sandboxes {
		for _, p := range plugs {
			keep[p.Host] = true
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var names []string
	for _, i := range links {
		if strings.HasPrefix(i.Name, l.mark) && !keep[i.Name] {
			l.note(i.Name, false)
			names = append(names, i.Name)
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

// Avoid returns the host's own addresses and the destinations of its routes,
// but those of our bridges.
func (l *Links) Avoid() (out []netip.Prefix, err error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	ours := map[int]bool{}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, i := range links {
		if strings.HasPrefix(i.Name, l.mark) {
			ours[i.Index] = true
		}
	}
	for _, r := range routes {
		if r.Dst == nil || ours[r.LinkIndex] {
			continue
		}
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 {
			out = append(out, p)
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && !ours[a.LinkIndex] {
			out = append(out, p)
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
