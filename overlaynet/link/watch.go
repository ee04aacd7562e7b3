package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Run keeps spare namespaces ready and wakes the manager when a link of ours,
// an address or a route of a bridge, or an entry that leads to another node's
// container has vanished.
func (l *Links) Run(ctx context.Context, wake func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.refill(ctx) })
	g.Go(func() error { return l.watch(ctx, wake) })
	return g.Wait()
}

func (l *Links) refill(ctx context.Context) error {
	defer l.pool.drain()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = l.pool.fill(); err != nil {
				l.cfg.Log.Warn("spare namespace", "err", err) // Connect makes its own, and reports
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.pool.wake:
		}
	}
}

// watch hears of every change in the host's namespace, ours too, and wakes
// when something that should be there is there no more. A burst that it cannot
// keep up with is one look at everything.
func (l *Links) watch(ctx context.Context, wake func()) error {
	groups := []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	}
	if err := hear(ctx, groups, func(m message) bool { return l.isDamage(m) || l.meshMisses(m) }, wake); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	return nil
}

// hear calls wake for every change that matters, until ctx ends, and once when
// there were more than could be read.
func hear(ctx context.Context, groups []int, matters func(message) bool, wake func()) error {
	f, err := listen(groups...)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			wake()
			continue
		case err != nil:
			return err
		}
		for m := range messages(buf[:n]) {
			if matters(m) {
				wake()
			}
		}
	}
}

// listen opens a socket that hears of changes. It holds those of many
// containers at once.
func listen(groups ...int) (*os.File, error) {
	const room = 8 << 20
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) // without the right to, it holds less
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// isDamage tells whether a change takes away what should be there.
func (l *Links) isDamage(m message) bool {
	switch m.kind {
	case unix.RTM_DELLINK:
		return l.expects(linkName(m.body))
	case unix.RTM_NEWLINK:
		if len(m.body) < unix.SizeofIfInfomsg {
			return false
		}
		info := nl.DeserializeIfInfomsg(m.body)
		return info.Flags&unix.IFF_UP == 0 && l.observes(int(info.Index)) != nil
	case unix.RTM_DELADDR:
		return len(m.body) >= unix.SizeofIfAddrmsg && l.expectsIndex(int(nl.NativeEndian().Uint32(m.body[4:])))
	case unix.RTM_DELROUTE:
		return l.expectsIndex(routeLink(m.body))
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		e, ok := parseEntry(m.body)
		if !ok {
			return false
		}
		r := l.observes(e.index)
		return r != nil && l.misses(r, e)
	}
	return false
}

func linkName(b []byte) string {
	if len(b) < unix.SizeofIfInfomsg {
		return ""
	}
	for _, a := range nested(b[unix.SizeofIfInfomsg:]) {
		if a.kind == unix.IFLA_IFNAME {
			return strings.TrimRight(string(a.value), "\x00")
		}
	}
	return ""
}

// routeLink is the link that a route of the main table leads to; 0: of no interest.
func routeLink(b []byte) int {
	if len(b) < unix.SizeofRtMsg || nl.DeserializeRtMsg(b).Table != unix.RT_TABLE_MAIN {
		return 0
	}
	for _, a := range nested(b[unix.SizeofRtMsg:]) {
		if a.kind == unix.RTA_OIF && len(a.value) == 4 {
			return int(nl.NativeEndian().Uint32(a.value))
		}
	}
	return 0
}

func (l *Links) expects(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[name]
}

func (l *Links) expectsIndex(index int) bool {
	if index == 0 {
		return false
	}
	i, err := net.InterfaceByIndex(index)
	return err == nil && l.expects(i.Name)
}

func (l *Links) observes(index int) *remotes {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.observed[index]
}

// misses tells whether an entry that is wanted is not as it should be. It waits
// for a change of ours to end. News of earlier ones come late: they may tell of
// an entry that has been made again, so the entry is looked at.
func (l *Links) misses(r *remotes, e entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.family != unix.AF_BRIDGE {
		want, ok := r.hosts[e.dst]
		if !ok || e.index != r.bridge {
			return false
		}
		have, ok := l.host.entry(&ndMsg{family: e.family, index: r.bridge}, nl.NewRtAttr(unix.NDA_DST, e.dst.AsSlice()))
		return !ok || have.mac != want.to || have.state&unix.NUD_PERMANENT == 0
	}
	want, ok := r.ways[e.mac]
	if !ok {
		return false
	}
	for _, flags := range []byte{unix.NTF_SELF, unix.NTF_MASTER} {
		have, ok := l.host.entry(&ndMsg{family: unix.AF_BRIDGE, index: r.tunnel, flags: flags}, nl.NewRtAttr(unix.NDA_LLADDR, e.mac[:]))
		if !ok || have.index != r.tunnel || flags == unix.NTF_SELF && have.dst != want.to {
			return true
		}
	}
	return false
}
