package link

import (
	"context"
	"errors"
	"fmt"
	"os"

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

var allGroups = append([]int{unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE}, hostGroups...)

// watch hears of every change in the host's namespace, ours too, and wakes
// when something that should be there is there no more. A burst that it cannot
// keep up with is one look at everything.
func (l *Links) watch(ctx context.Context, wake func()) error {
	if err := hear(ctx, allGroups, func(m message) bool { return l.isDamage(m) || l.meshMisses(m) }, wake); err != nil {
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

// isDamage tells whether a change takes away what should be there. News of what
// we have done ourselves come late, when more has been done since: what they
// tell of is looked at.
func (l *Links) isDamage(m message) bool {
	switch m.kind {
	case unix.RTM_DELLINK:
		return l.isGone(m.body)
	case unix.RTM_NEWLINK:
		return l.isDown(m.body)
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
		return r != nil && l.misses(r, e, m.kind == unix.RTM_DELNEIGH)
	}
	return false
}

// isGone tells whether a link is no more, or no port of the bridge that it has
// left (of which a message of the bridge's family tells).
func (l *Links) isGone(b []byte) bool {
	left := parseLink(b)
	if left.index == 0 || !l.expects(left.name) {
		return false
	}
	is := l.host.link(left.name)
	switch {
	case is.index == 0:
		return true
	case is.index != left.index: // made again: by us?
		return is.master == 0 && is.alias != l.alias()
	}
	return b[0] == unix.AF_BRIDGE && is.master != left.master
}

// isDown tells whether a bridge or a tunnel is down. It waits for a change of
// ours to end: both begin so.
func (l *Links) isDown(b []byte) bool {
	if len(b) < unix.SizeofIfInfomsg {
		return false
	}
	info := nl.DeserializeIfInfomsg(b)
	if info.Flags&unix.IFF_UP != 0 {
		return false
	}
	r := l.observes(int(info.Index))
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is := l.host.linkAt(int(info.Index))
	return is.index != 0 && !is.up
}

// routeLink is the link that a route of the main table leads to; 0: of no interest.
func routeLink(b []byte) int {
	if len(b) < unix.SizeofRtMsg || nl.DeserializeRtMsg(b).Table != unix.RT_TABLE_MAIN {
		return 0
	}
	_, hop := parseRoute(b)
	return hop.index
}

func (l *Links) expects(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[name]
}

func (l *Links) expectsIndex(index int) bool {
	return index != 0 && l.expects(l.host.linkAt(index).name)
}

func (l *Links) observes(index int) *remotes {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.observed[index]
}

// misses tells whether an entry that is wanted is gone or another. It waits
// for a change of ours to end.
func (l *Links) misses(r *remotes, e entry, gone bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.family != unix.AF_BRIDGE {
		want, ok := r.hosts[e.dst]
		if !ok || e.index != r.bridge || !gone && e.isNeighbour(want.to) {
			return false
		}
		have, ok := l.host.entry(&ndMsg{family: e.family, index: r.bridge}, nl.NewRtAttr(unix.NDA_DST, e.dst.AsSlice()))
		return !ok || !have.isNeighbour(want.to)
	}
	want, ok := r.ways[e.mac]
	if !ok || !gone && (e.flags&unix.NTF_MASTER != 0 || e.dst == want.to) {
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
