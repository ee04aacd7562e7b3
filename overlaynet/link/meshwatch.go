package link

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// meshMisses tells whether a change takes something from the mesh that should
// be there. It waits for a change of ours to end.
func (l *Links) meshMisses(m message) bool {
	switch m.kind {
	case unix.RTM_DELRULE:
		if len(m.body) < unix.SizeofRtMsg {
			return false
		}
		r, protocol := parseRule(m.body)
		if protocol != meshProtocol {
			return false
		}
		l.mesh.mu.Lock()
		defer l.mesh.mu.Unlock()
		return l.mesh.have.rules[r]
	case unix.RTM_DELROUTE, unix.RTM_NEWROUTE:
		return l.missesRoute(m)
	case unix.RTM_DELNEIGH, unix.RTM_NEWNEIGH:
		e, ok := parseEntry(m.body)
		return ok && l.missesEntry(e, m.kind == unix.RTM_DELNEIGH)
	case unix.RTM_NEWLINK:
		if len(m.body) < unix.SizeofIfInfomsg {
			return false
		}
		info := nl.DeserializeIfInfomsg(m.body)
		l.mesh.mu.Lock()
		defer l.mesh.mu.Unlock()
		return l.mesh.index != 0 && int(info.Index) == l.mesh.index && info.Flags&unix.IFF_UP == 0
	}
	return false
}

func (l *Links) missesRoute(m message) bool {
	if len(m.body) < unix.SizeofRtMsg {
		return false
	}
	r, hop := parseRoute(m.body)
	if !ownsTable(l.mark, r.table) {
		return false
	}
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	want, ok := l.mesh.have.routes[r]
	return ok && (m.kind == unix.RTM_DELROUTE || hop.via != want.via || hop.index != l.mesh.index)
}

func (l *Links) missesEntry(e entry, gone bool) bool {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	if l.mesh.index == 0 || e.index != l.mesh.index {
		return false
	}
	if e.family == unix.AF_BRIDGE {
		want, ok := l.mesh.have.ways[e.mac]
		return ok && (gone || e.dst != want)
	}
	want, ok := l.mesh.have.hosts[e.dst]
	return ok && (gone || e.mac != want || e.state&unix.NUD_PERMANENT == 0)
}
