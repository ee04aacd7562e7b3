package link

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hostGroups are the groups that say what happens to links, addresses and routes.
var hostGroups = []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}

// WatchHost calls wake when links, addresses or routes of the host itself may
// have changed, until ctx ends. What happens to our own links is left out.
func (l *Links) WatchHost(ctx context.Context, wake func()) error {
	if err := hear(ctx, hostGroups, l.isHosts, wake); err != nil {
		return fmt.Errorf("watch the host's links: %w", err)
	}
	return nil
}

// isHosts tells whether a change is one of what is not ours. The kernel's own
// routes to addresses and groups come and go with addresses and links.
func (l *Links) isHosts(m message) bool {
	switch m.kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		st := parseLink(m.body)
		return !l.owns(st.name, st)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(m.body) >= unix.SizeofIfAddrmsg && l.isHostsLink(int(nl.NativeEndian().Uint32(m.body[4:])))
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.body) < unix.SizeofRtMsg || nl.DeserializeRtMsg(m.body).Type != unix.RTN_UNICAST {
			return false
		}
		_, hop := parseRoute(m.body)
		return hop.index == 0 || l.isHostsLink(hop.index) // 0: it has several
	}
	return false
}

// isHostsLink tells whether a link is not ours. Of one that is gone its end tells.
func (l *Links) isHostsLink(index int) bool {
	st := l.host.linkAt(index)
	return st.index != 0 && !l.owns(st.name, st)
}
