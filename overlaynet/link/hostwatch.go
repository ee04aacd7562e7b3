package link

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchHost calls wake when links, addresses or routes of the host itself may
// have changed, until ctx ends. What happens to our own links is left out.
func (l *Links) WatchHost(ctx context.Context, wake func()) error {
	groups := []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
	if err := hear(ctx, groups, l.isHosts, wake); err != nil {
		return fmt.Errorf("watch the host's links: %w", err)
	}
	return nil
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
