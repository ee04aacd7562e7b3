package overlaynet

import (
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// serviceLocked follows one service of a directory; nil: it is gone.
func (m *Manager) serviceLocked(n *network, name string, s *stack.ServiceAddress) {
	if old := n.services[name]; old != nil {
		for _, a := range virtualAddrs(old) {
			m.pending.virtuals[Virtual{n.key(), a}] = true
			if n.virtuals[a] == name { // else another service has it already
				delete(n.virtuals, a)
			}
		}
	}
	if s == nil {
		delete(n.services, name)
		if n.live {
			m.opt.Names.RemoveService(n.key(), name)
		}
	} else {
		n.services[name] = s
		for _, a := range virtualAddrs(s) {
			m.pending.virtuals[Virtual{n.key(), a}] = true
			n.virtuals[a] = name
		}
		if n.live {
			m.opt.Names.SetService(m.nameService(n, s))
		}
	}
	for _, sp := range n.groups[name] {
		m.localLocked(sp)
		m.touchFrontsLocked(sp)
	}
}

// nameService is what the resolver learns of a service. Where virtual addresses
// do not work, its name leads to its containers.
func (m *Manager) nameService(n *network, s *stack.ServiceAddress) Service {
	out := Service{Network: n.key(), Service: s.Service, Names: s.Names, Single: s.Single}
	if m.opt.Links.BridgeFilter() {
		out.Addrs = virtualAddrs(s)
	}
	return out
}

func virtualAddrs(s *stack.ServiceAddress) (out []netip.Addr) {
	for _, v := range []string{s.IPv4, s.IPv6} {
		if a, err := netip.ParseAddr(v); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// touchPoolLocked has the pools of a service looked at.
func (m *Manager) touchPoolLocked(n *network, service string) {
	if s := n.services[service]; s != nil {
		for _, a := range virtualAddrs(s) {
			m.pending.virtuals[Virtual{n.key(), a}] = true
		}
	}
}

// poolLocked is who answers for a virtual address; nil: it is none.
func (m *Manager) poolLocked(v Virtual) *Pool {
	n := m.networks[v.Network]
	if n == nil || !n.live || !m.opt.Links.BridgeFilter() {
		return nil
	}
	name, ok := n.virtuals[v.Addr]
	if !ok {
		return nil
	}
	var all []candidate
	for _, s := range n.groups[name] {
		if a := s.addr(n, v.Addr.Is6()); a.IsValid() {
			all = append(all, candidate{to: Backend{Addr: a}, ready: s.ready})
		}
	}
	for _, d := range n.byService[name] {
		if a := d.addr(v.Addr.Is6()); a.IsValid() {
			all = append(all, candidate{to: Backend{Addr: a}, ready: d.Ready})
		}
	}
	to, _ := choose(all, false)
	return &Pool{Backends: to, Sticky: n.services[name].Sticky}
}

// candidate is somebody who may answer.
type candidate struct {
	to    Backend // invalid address: only through the reserved socket
	proxy Backend // of any family
	ready bool
	local bool
}

// choose returns the ready ones, or all when none is ready; with near only the
// ready ones of this node, when there are any. They are sorted, so that the
// same candidates always give the same rules.
func choose(all []candidate, near bool) (to, proxy []Backend) {
	ready := func(c candidate) bool { return c.ready }
	mine := func(c candidate) bool { return c.ready && c.local }
	fits := func(candidate) bool { return true }
	switch {
	case near && slices.ContainsFunc(all, mine):
		fits = mine
	case slices.ContainsFunc(all, ready):
		fits = ready
	}
	for _, c := range all {
		if !fits(c) {
			continue
		}
		if c.to.Addr.IsValid() {
			to = append(to, c.to)
		}
		if c.proxy.Addr.IsValid() {
			proxy = append(proxy, c.proxy)
		}
	}
	slices.SortFunc(to, compareBackends)
	slices.SortFunc(proxy, compareBackends)
	return to, proxy
}

func compareBackends(a, b Backend) int {
	if c := a.Addr.Compare(b.Addr); c != 0 {
		return c
	}
	return int(a.Port) - int(b.Port)
}

// addr is the sandbox's address in a network; invalid: none.
func (s *space) addr(n *network, v6 bool) netip.Addr {
	for _, j := range s.joins {
		if j.net == n {
			if v6 {
				return j.addr6.Addr()
			}
			return j.addr4.Addr()
		}
	}
	return netip.Addr{}
}

// enlistLocked adds a sandbox that is up to its groups, or takes one that ends
// from them, and has the pools looked at.
func (m *Manager) enlistLocked(s *space, up bool) {
	s.up = up
	for _, j := range s.joins {
		m.enlistJoinLocked(s, j, up)
	}
	m.localLocked(s)
}

func (m *Manager) enlistJoinLocked(s *space, j *join, up bool) {
	if up {
		j.net.groups.add(s.sb.PortGroup, s.sb.ID, s)
	} else {
		j.net.groups.remove(s.sb.PortGroup, s.sb.ID)
		for _, a := range j.addrs() {
			delete(m.locals, a)
			m.pending.locals[a] = true
		}
	}
	m.touchPoolLocked(j.net, s.sb.PortGroup)
}

// localLocked says whether the sandbox's addresses may meet themselves behind
// a virtual address or a published port.
func (m *Manager) localLocked(s *space) {
	for _, j := range s.joins {
		service := j.net.services[s.sb.PortGroup]
		want := s.up && (len(s.claims) > 0 || service != nil && len(virtualAddrs(service)) > 0)
		for _, a := range j.addrs() {
			if m.locals[a] == want {
				continue
			}
			if delete(m.locals, a); want {
				m.locals[a] = true
			}
			m.pending.locals[a] = true
		}
	}
}
