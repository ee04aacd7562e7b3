package overlaynet

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/dhow-project/dhow/stack"
)

// publication is a service whose ports all nodes publish.
type publication struct {
	*stack.Published
	ports map[Frontend]uint16 // those of this node, and the port in the containers
	bound netip.Addr          // where its tasks' network publishes ports that name no address; invalid: everywhere
}

// block is a port of a service that something else on this node has.
type block struct {
	service string
	err     error
}

// followPublishedLocked takes over what all nodes publish. nil is not known.
func (m *Manager) followPublishedLocked(dir *stack.Directory) {
	if dir == nil || dir == m.pubDir || m.off {
		return
	}
	old, now := contents(m.pubDir), contents(dir)
	m.pubDir = dir
	each(old.Endpoints, now.Endpoints, endpointID, sameEndpoint, m.behindLocked)
	each(old.Published, now.Published, publishedName, samePublished, m.publishLocked)
}

// behindLocked follows one task behind published ports; nil: it is gone.
func (m *Manager) behindLocked(id string, e *stack.Endpoint) {
	var d *distant
	if e != nil {
		d = m.distantLocked(e)
		m.rebindLocked(e)
	}
	old := m.behind[id]
	if d.same(old) {
		return
	}
	if old != nil {
		m.behindOf.remove(old.Service, id)
		m.touchPublicationLocked(old.Service)
		delete(m.behind, id)
	}
	if d != nil {
		m.behind[id] = d
	}
	if d.up() {
		m.behindOf.add(d.Service, id, d)
		m.touchPublicationLocked(d.Service)
	}
	if old == nil || d == nil || old.number != d.number || !slices.Equal(old.addrs, d.addrs) {
		m.pending.mesh = true
	}
	m.partLocked(nil, old, d)
}

// rebindLocked has a service published where its tasks' network wants it, which
// is known with the first task.
func (m *Manager) rebindLocked(e *stack.Endpoint) {
	if p := m.pubs[e.Service]; p != nil && !p.bound.IsValid() && m.bindingLocked(e.Network).IsValid() {
		m.publishLocked(e.Service, p.Published)
	}
}

// publishLocked follows one service that all nodes publish; nil: they do no more.
func (m *Manager) publishLocked(service string, p *stack.Published) {
	var bound netip.Addr
	want := map[Frontend]uint16{}
	if p != nil {
		bound = m.boundLocked(service)
		want = frontendsOf(p, bound)
	}
	old := m.pubs[service]
	if old != nil {
		for f := range old.ports {
			if _, ok := want[f]; !ok {
				m.withdrawLocked(f, service)
			}
		}
	}
	if delete(m.pubs, service); p == nil {
		return
	}
	m.pubs[service] = &publication{p, want, bound}
	for f, port := range want {
		m.offerLocked(f, service, port)
	}
}

// boundLocked is where the network of the service's tasks publishes; invalid: everywhere.
func (m *Manager) boundLocked(service string) netip.Addr {
	for i := range contents(m.pubDir).Endpoints {
		if e := &m.pubDir.Endpoints[i]; e.Service == service {
			return m.bindingLocked(e.Network)
		}
	}
	return netip.Addr{}
}

// bindingLocked is the host address that a network publishes at by its driver option.
func (m *Manager) bindingLocked(network string) netip.Addr {
	def, _ := m.opt.Source.Network(network)
	a, _ := netip.ParseAddr(def.DriverOpts[optHostBinding])
	return a
}

// frontendsOf are the host ports of a service, and the ports in its containers.
func frontendsOf(p *stack.Published, bound netip.Addr) map[Frontend]uint16 {
	out := map[Frontend]uint16{}
	for _, port := range p.Ports {
		if port.HostPort == 0 || port.Mode == "host" {
			continue
		}
		addrs := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		if bound.IsValid() {
			addrs = []netip.Addr{bound}
		}
		if port.HostIP != "" {
			a, err := netip.ParseAddr(strings.Trim(port.HostIP, "[]"))
			if err != nil {
				continue // refused when it was applied
			}
			addrs = []netip.Addr{a.Unmap()}
		}
		proto := port.Protocol
		if proto == "" {
			proto = "tcp"
		}
		for _, a := range addrs {
			out[Frontend{proto, a, port.HostPort}] = port.ContainerPort
		}
	}
	return out
}

// offerLocked makes the front of a service exist on this node. A port that
// something else has is noted, and tried again when it may be free.
func (m *Manager) offerLocked(f Frontend, service string, port uint16) {
	m.pending.fronts[f] = true
	if o := m.frontAtLocked(f); o != nil && o.group == service {
		delete(m.blocked, f)
		o.port = port
		m.membersInletsLocked(o)
		return
	}
	for _, o := range m.fronts[f.key()] {
		if o.overlaps(f) {
			m.blocked[f] = &block{service, &PortTaken{Frontend: f, Holder: o.holder()}}
			return
		}
	}
	held, err := m.opt.Ports.Reserve(f)
	if err != nil && !m.kept[f.key()] {
		m.blocked[f] = &block{service, err}
		return
	}
	if err != nil {
		m.log.Warn("a published port could not be reserved again: the service keeps it", "service", service, "err", err)
		held = nil
	}
	delete(m.blocked, f)
	o := &front{Frontend: f, group: service, port: port, held: held, members: map[string]member{}}
	m.fronts[f.key()] = append(m.fronts[f.key()], o)
	for _, s := range m.spaces { // those that came while it was blocked
		if s.up && s.claimed(f) {
			m.touchFrontsLocked(s)
		}
	}
}

func (m *Manager) membersInletsLocked(o *front) {
	for id := range o.members {
		if s := m.spaces[id]; s != nil {
			m.inletsLocked(s)
		}
	}
}

// withdrawLocked ends what offerLocked has begun; the containers of this node
// go on publishing what they have claimed.
func (m *Manager) withdrawLocked(f Frontend, service string) {
	m.pending.fronts[f] = true
	if b := m.blocked[f]; b != nil && b.service == service {
		delete(m.blocked, f)
	}
	if o := m.frontAtLocked(f); o != nil && o.group == service {
		o.port = 0
		m.membersInletsLocked(o)
		m.closeIdleLocked(o)
	}
}

// unblockLocked tries again what a port of this node was in the way of.
func (m *Manager) unblockLocked(k portKey) {
	for f, b := range m.blocked {
		if f.key() == k {
			m.offerAgainLocked(f, b)
		}
	}
}

func (m *Manager) offerAgainLocked(f Frontend, b *block) {
	if p := m.pubs[b.service]; p != nil {
		if m.offerLocked(f, b.service, p.ports[f]); m.blocked[f] == nil {
			signal(m.news)
		}
	}
}

// touchPublicationLocked has the rules of a service's ports looked at.
func (m *Manager) touchPublicationLocked(service string) {
	if p := m.pubs[service]; p != nil {
		for f := range p.ports {
			m.pending.fronts[f] = true
		}
	}
}

// lookAgainAtPublishedLocked follows a change of the other nodes.
func (m *Manager) lookAgainAtPublishedLocked() {
	if m.pubDir == nil {
		return
	}
	for i := range m.pubDir.Endpoints {
		m.behindLocked(m.pubDir.Endpoints[i].ID, &m.pubDir.Endpoints[i])
	}
	for service := range m.pubs {
		m.touchPublicationLocked(service)
	}
}

// elsewhereLocked are the tasks of other nodes behind a front.
func (m *Manager) elsewhereLocked(o *front) (out []candidate) {
	if m.fabric.Mesh == nil {
		return nil
	}
	for _, d := range m.behindOf[o.group] {
		if d.number == 0 {
			continue
		}
		c := candidate{ready: d.Ready, proxy: Backend{Addr: d.addrs[0], Port: o.port, Remote: true}}
		if a := d.addr(o.Addr.Is6()); a.IsValid() {
			c.to = Backend{Addr: a, Port: o.port, Remote: true}
			c.proxy = c.to
		}
		out = append(out, c)
	}
	return out
}

// settleLocked gives wishes the host ports that the cluster has chosen for
// them: from the lowest on, each to the wish that can wait least, so that none is
// taken from who has no other.
func (m *Manager) settleLocked(service string, wishes []wish) {
	p := m.pubs[service]
	if p == nil {
		return
	}
	settled := make([]bool, len(wishes))
	for _, f := range slices.SortedFunc(maps.Keys(p.ports), func(a, b Frontend) int { return cmp.Compare(a.Port, b.Port) }) {
		best := -1
		for i := range wishes {
			if !settled[i] && wishes[i].wants(f, p.ports[f]) && (best < 0 || wishes[i].before(&wishes[best])) {
				best = i
			}
		}
		if best >= 0 {
			w := &wishes[best]
			w.first, w.last, w.shared, settled[best] = f.Port, f.Port, true, true
		}
	}
}

func (s *space) claimed(f Frontend) bool {
	for _, c := range s.claims {
		for _, g := range c.fronts {
			if g == f {
				return true
			}
		}
	}
	return false
}

// blockedProblemsLocked says which ports of services are not published here.
func (m *Manager) blockedProblemsLocked() (out []string) {
	for f, b := range m.blocked {
		if errors.Is(b.err, syscall.EADDRNOTAVAIL) {
			continue // it is another node's address
		}
		out = append(out, fmt.Sprintf("port %s of service %s is not published on this node: %v", f, b.service, b.err))
	}
	return out
}
