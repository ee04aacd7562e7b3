package link

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchHost calls wake when links, addresses or routes of the host itself may
// have changed, until ctx ends. What happens to our own links is left out.
func (l *Links) WatchHost(ctx context.Context, wake func()) error {
	f, err := listen(unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("watch the host's links: %w", err)
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
		case err != nil:
			return fmt.Errorf("watch the host's links: %w", err)
		}
		for m := range messages(buf[:max(n, 0)]) {
			if l.isHosts(m) {
				wake()
			}
		}
	}
}

// isHosts tells whether a change is one of what is not ours.
func (l *Links) isHosts(m message) bool {
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return !strings.HasPrefix(linkName(m.body), l.mark)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(m.body) >= unix.SizeofIfAddrmsg && !l.expectsIndex(int(nl.NativeEndian().Uint32(m.body[4:])))
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return !l.expectsIndex(routeLink(m.body))
	}
	return false
}
