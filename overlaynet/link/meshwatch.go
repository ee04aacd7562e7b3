package link

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// meshMisses tells whether a change takes something from the mesh that should
// be there. It waits for a change of ours to end, and looks at what it hears
// of: news of earlier ones come late.
func (l *Links) meshMisses(m message) bool {
	switch m.kind {
	case unix.RTM_DELRULE:
		return len(m.body) >= unix.SizeofRtMsg && l.missesRule(m.body)
	case unix.RTM_DELROUTE, unix.RTM_NEWROUTE:
		return len(m.body) >= unix.SizeofRtMsg && l.missesRoute(m.body, m.kind == unix.RTM_DELROUTE)
	case unix.RTM_DELNEIGH, unix.RTM_NEWNEIGH:
		e, ok := parseEntry(m.body)
		return ok && l.missesEntry(e, m.kind == unix.RTM_DELNEIGH)
	case unix.RTM_NEWLINK:
		return len(m.body) >= unix.SizeofIfInfomsg && l.missesDevice(m.body)
	}
	return false
}

// lacks remembers what look has found. Until it is repaired, what else is said
// to be gone is not looked at, a whole table perhaps; m.mu is held.
func (m *mesh) lacks(look func() bool) bool {
	m.harmed = m.harmed || look()
	return m.harmed
}

func (l *Links) missesRule(b []byte) bool {
	r, protocol := parseRule(b)
	if protocol != meshProtocol {
		return false
	}
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	return l.mesh.have.rules[r] && l.mesh.lacks(func() bool {
		s := newMeshState()
		return l.readRules(s, r.family()) != nil || !s.rules[r]
	})
}

func (l *Links) missesRoute(b []byte, gone bool) bool {
	r, hop := parseRoute(b)
	if !ownsTable(l.mark, r.table) {
		return false
	}
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	want, ok := l.mesh.have.routes[r]
	want.index = l.mesh.index
	if !ok || !gone && hop == want {
		return false
	}
	return l.mesh.lacks(func() bool {
		s := newMeshState()
		return l.readRoutes(s, int(b[0])) != nil || s.routes[r] != want
	})
}

func (l *Links) missesEntry(e entry, gone bool) bool {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	if l.mesh.index == 0 || e.index != l.mesh.index {
		return false
	}
	if e.family == unix.AF_BRIDGE {
		want, ok := l.mesh.have.ways[e.mac]
		return ok && (gone || e.dst != want) && l.mesh.lacks(func() bool {
			have, ok := l.host.entry(&ndMsg{family: unix.AF_BRIDGE, index: e.index, flags: unix.NTF_SELF}, nl.NewRtAttr(unix.NDA_LLADDR, e.mac[:]))
			return !ok || have.dst != want
		})
	}
	want, ok := l.mesh.have.hosts[e.dst]
	return ok && (gone || !e.isNeighbour(want)) && l.mesh.lacks(func() bool {
		have, ok := l.host.entry(&ndMsg{family: e.family, index: e.index}, nl.NewRtAttr(unix.NDA_DST, e.dst.AsSlice()))
		return !ok || !have.isNeighbour(want)
	})
}

// missesDevice tells whether it is down, as it is when it is made.
func (l *Links) missesDevice(b []byte) bool {
	info := nl.DeserializeIfInfomsg(b)
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	return l.mesh.index != 0 && int(info.Index) == l.mesh.index && info.Flags&unix.IFF_UP == 0 && l.mesh.lacks(func() bool {
		is := l.host.linkAt(l.mesh.index)
		return is.index != 0 && !is.up
	})
}
