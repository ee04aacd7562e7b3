package overlaynet

import (
	"slices"
	"strings"
)

// front is one host port that is published; guarded by Manager.mu.
type front struct {
	Frontend
	group   string            // whose sandboxes may share it; "": one only
	port    uint16            // in containers of other nodes, when the group publishes it everywhere; 0: it does not
	held    Reservation       // nil: could not be reserved again after a restart
	members map[string]member // by sandbox ID
}

type member struct {
	name string
	candidate
	sticky bool
}

type portKey struct {
	proto string
	port  uint16
}

func (f Frontend) key() portKey { return portKey{f.Protocol, f.Port} }

// frontAtLocked is the front of exactly this address and port; nil: there is none.
func (m *Manager) frontAtLocked(f Frontend) *front {
	for _, o := range m.fronts[f.key()] {
		if o.Frontend == f {
			return o
		}
	}
	return nil
}

// frontLocked makes the sandbox a member of a front, which may be new.
func (m *Manager) frontLocked(s *space, f Frontend, w wish, restoring bool) error {
	for _, o := range m.fronts[f.key()] {
		if !o.overlaps(f) {
			continue
		}
		_, mine := o.members[s.sb.ID]
		if o.Frontend == f && w.shared && o.group != "" && o.group == s.sb.PortGroup && !mine {
			o.members[s.sb.ID] = member{name: s.sb.Name}
			return nil
		}
		return &PortTaken{Frontend: f, Holder: o.holder()}
	}
	if b := m.blocked[f]; b != nil && w.shared && b.service == s.sb.PortGroup {
		return nil // it is reached through the other nodes
	}
	held, err := m.opt.Ports.Reserve(f)
	if err != nil {
		if !restoring {
			return err
		}
		m.log.Warn("a published port could not be reserved again: the container keeps it", "container", s.sb.Name, "err", err)
		held = nil
	}
	n := &front{Frontend: f, held: held, members: map[string]member{s.sb.ID: {name: s.sb.Name}}}
	if w.shared {
		n.group = s.sb.PortGroup
	}
	m.fronts[f.key()] = append(m.fronts[f.key()], n)
	return nil
}

func (f *front) holder() string {
	var names []string
	for _, x := range f.members {
		names = append(names, x.name)
	}
	if slices.Sort(names); names == nil {
		return "service " + f.group
	}
	return "container " + strings.Join(names, ", ")
}

// leaveLocked takes the sandbox from a front, which goes with the last one
// unless its group publishes it everywhere.
func (m *Manager) leaveLocked(id string, f Frontend) {
	if o := m.frontAtLocked(f); o != nil {
		delete(o.members, id)
		m.closeIdleLocked(o)
	}
	m.pending.fronts[f] = true
}

func (m *Manager) closeIdleLocked(o *front) {
	if len(o.members) > 0 || o.port != 0 {
		return
	}
	if o.held != nil {
		_ = o.held.Close()
	}
	k := o.key()
	m.fronts[k] = slices.DeleteFunc(m.fronts[k], func(x *front) bool { return x == o })
	if len(m.fronts[k]) == 0 {
		delete(m.fronts, k)
	}
	m.unblockLocked(k)
}

// unclaimLocked gives the sandbox's ports back.
func (m *Manager) unclaimLocked(s *space) {
	claims := s.claims
	s.claims = nil
	for _, c := range claims {
		m.lately.note(s.sb.ID, c)
		for _, f := range c.fronts {
			m.leaveLocked(s.sb.ID, f)
		}
	}
	m.inletsLocked(s)
}

// touchFrontsLocked points the sandbox's fronts at where it is now.
func (m *Manager) touchFrontsLocked(s *space) {
	for _, c := range s.claims {
		for _, f := range c.fronts {
			if o := m.frontAtLocked(f); o != nil && s.up {
				o.members[s.sb.ID] = s.member(f, c.port)
				m.pending.fronts[f] = true
			}
		}
	}
	m.inletsLocked(s)
}

// inletsLocked says where other nodes may lead requests for published ports:
// to the sandbox's own addresses, ready or not.
func (m *Manager) inletsLocked(s *space) {
	want := map[Frontend]bool{}
	for _, c := range s.claims {
		for _, f := range c.fronts {
			o := m.frontAtLocked(f)
			if o == nil || o.port == 0 || !s.up {
				continue
			}
			if x, ok := o.members[s.sb.ID]; ok && x.to.Addr.IsValid() {
				want[Frontend{f.Protocol, x.to.Addr, c.port}] = true
			}
		}
	}
	for f := range s.inlets {
		if !want[f] {
			delete(m.inlets, f)
			m.pending.inlets[f] = true
		}
	}
	for f := range want {
		m.inlets[f] = true
		m.pending.inlets[f] = true
	}
	s.inlets = want
}

func (s *space) member(f Frontend, port uint16) member {
	x := member{name: s.sb.Name, candidate: candidate{ready: s.ready, local: true}}
	if j := s.gateway(f.Addr.Is6()); j != nil {
		a := j.addr4
		if f.Addr.Is6() {
			a = j.addr6
		}
		x.to = Backend{Addr: a.Addr(), Port: port}
		x.proxy = x.to
	} else if j := s.gateway(!f.Addr.Is6()); j != nil {
		x.proxy = Backend{Addr: j.addrs()[0], Port: port}
	}
	for _, j := range s.joins {
		if service := j.net.services[s.sb.PortGroup]; service != nil {
			x.sticky = x.sticky || service.Sticky
		}
	}
	return x
}

// aimOfLocked is where a host port leads now; connections that the kernel
// cannot translate are told too.
func (m *Manager) aimOfLocked(f Frontend) (out aim) {
	o := m.frontAtLocked(f)
	if o == nil {
		return out
	}
	var all []candidate
	for _, x := range o.members {
		all = append(all, x.candidate)
		out.sticky = out.sticky || x.sticky
	}
	near := false
	if p := m.pubs[o.group]; p != nil && o.port != 0 {
		out.sticky, near = p.Sticky, p.Local
		all = append(all, m.elsewhereLocked(o)...)
	}
	to, proxy := choose(all, near)
	if o.held != nil {
		o.held.Forward(proxy)
	}
	out.to = to
	return out
}
