package lb

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/overlaynet"
)

// model is the content of the table, as data.
type model struct {
	segments  map[string]overlaynet.Segment
	virtuals  map[string]map[netip.Addr]overlaynet.Pool // by network; programmed while that is a segment
	frontends map[overlaynet.Frontend]overlaynet.Pool
	resolvers map[netip.Addr]uint16
	locals    map[netip.Addr]bool
	inbound   overlaynet.Inbound
	inlets    map[overlaynet.Frontend]bool
	lasting   bool // this kernel has timeouts of our own
	bridged   bool // frames inside a bridge pass the packet filter on this host
}

func newModel() model {
	return model{
		segments: map[string]overlaynet.Segment{}, virtuals: map[string]map[netip.Addr]overlaynet.Pool{},
		frontends: map[overlaynet.Frontend]overlaynet.Pool{}, resolvers: map[netip.Addr]uint16{}, locals: map[netip.Addr]bool{},
		inlets: map[overlaynet.Frontend]bool{}, lasting: true,
	}
}

// clone is for what is rare: an ordinary change costs what it changes.
func (m model) clone() model {
	c := model{maps.Clone(m.segments), map[string]map[netip.Addr]overlaynet.Pool{}, maps.Clone(m.frontends), maps.Clone(m.resolvers), maps.Clone(m.locals), m.inbound, maps.Clone(m.inlets), m.lasting, m.bridged}
	for id, pools := range m.virtuals {
		c.virtuals[id] = maps.Clone(pools)
	}
	return c
}

// empty tells whether no table is needed.
func (m model) empty() bool {
	return len(m.segments)+len(m.frontends)+len(m.resolvers) == 0 && m.inbound.Port == 0 && len(m.inlets) == 0
}

// place is where a virtual address is programmed: the bridge that it is asked
// for on, and who answers. No bridge: it is not.
type place struct {
	bridge string
	pool   overlaynet.Pool
}

func (m model) place(v overlaynet.Virtual) place {
	s, there := m.segments[v.Network]
	p, known := m.virtuals[v.Network][v.Addr]
	if !there || !known {
		return place{}
	}
	return place{s.Bridge, p}
}

// placeAfter is the place that v has after the change.
func (m model) placeAfter(v overlaynet.Virtual, c overlaynet.Change) place {
	bridge := m.segments[v.Network].Bridge
	if s, touched := c.Segments[v.Network]; touched {
		if bridge = ""; s != nil {
			bridge = s.Bridge
		}
	}
	pool, known := m.virtuals[v.Network][v.Addr]
	if p, touched := c.Virtuals[v]; touched {
		if known = p != nil; known {
			pool = *p
		}
	}
	if bridge == "" || !known {
		return place{}
	}
	return place{bridge, pool}
}

func samePool(a, b overlaynet.Pool) bool {
	return a.Sticky == b.Sticky && slices.Equal(a.Backends, b.Backends)
}

// fold makes one change of several: later ones win. A network that goes takes
// its virtual addresses along.
func (m model) fold(jobs []*job) overlaynet.Change {
	if len(jobs) == 1 && !removesSegment(jobs[0].change) {
		return jobs[0].change
	}
	out := overlaynet.Change{
		Segments: map[string]*overlaynet.Segment{}, Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}, Resolvers: map[netip.Addr]uint16{},
		Sticky: map[overlaynet.Frontend]bool{}, Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{}, Locals: map[netip.Addr]bool{},
		Inlets: map[overlaynet.Frontend]bool{},
	}
	for _, j := range jobs {
		c := j.change
		for id, s := range c.Segments {
			if out.Segments[id] = s; s == nil {
				m.dropVirtuals(id, out.Virtuals)
			}
		}
		maps.Copy(out.Virtuals, c.Virtuals)
		maps.Copy(out.Resolvers, c.Resolvers)
		maps.Copy(out.Locals, c.Locals)
		maps.Copy(out.Inlets, c.Inlets)
		for f, to := range c.Frontends {
			out.Frontends[f], out.Sticky[f] = to, c.Sticky[f]
		}
		if c.Inbound != nil {
			out.Inbound = c.Inbound
		}
	}
	return out
}

func removesSegment(c overlaynet.Change) bool {
	for _, s := range c.Segments {
		if s == nil {
			return true
		}
	}
	return false
}

func (m model) dropVirtuals(network string, out map[overlaynet.Virtual]*overlaynet.Pool) {
	for v := range out {
		if v.Network == network {
			out[v] = nil
		}
	}
	for a := range m.virtuals[network] {
		out[overlaynet.Virtual{Network: network, Addr: a}] = nil
	}
}

// merge is what the model is after the change.
func (m *model) merge(c overlaynet.Change) {
	for id, s := range c.Segments {
		if s == nil {
			delete(m.segments, id)
		} else {
			m.segments[id] = *s
		}
	}
	for v, p := range c.Virtuals {
		m.setVirtual(v, p)
	}
	for f, to := range c.Frontends {
		if len(to) == 0 {
			delete(m.frontends, f)
		} else {
			m.frontends[f] = overlaynet.Pool{Backends: to, Sticky: c.Sticky[f]}
		}
	}
	for a, p := range c.Resolvers {
		if p == 0 {
			delete(m.resolvers, a)
		} else {
			m.resolvers[a] = p
		}
	}
	for a, here := range c.Locals {
		if here {
			m.locals[a] = true
		} else {
			delete(m.locals, a)
		}
	}
	for f, on := range c.Inlets {
		if on {
			m.inlets[f] = true
		} else {
			delete(m.inlets, f)
		}
	}
	if c.Inbound != nil {
		m.inbound = *c.Inbound
	}
}

func (m *model) setVirtual(v overlaynet.Virtual, p *overlaynet.Pool) {
	pools := m.virtuals[v.Network]
	switch {
	case p == nil:
		delete(pools, v.Addr)
		if len(pools) == 0 {
			delete(m.virtuals, v.Network)
		}
	case pools == nil:
		m.virtuals[v.Network] = map[netip.Addr]overlaynet.Pool{v.Addr: *p}
	default:
		pools[v.Addr] = *p
	}
}

// whole is the change that makes this model of an empty one.
func (m model) whole() overlaynet.Change {
	c := overlaynet.Change{
		Segments: map[string]*overlaynet.Segment{}, Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}, Resolvers: m.resolvers,
		Sticky: map[overlaynet.Frontend]bool{}, Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{}, Locals: m.locals, Inbound: &m.inbound, Inlets: m.inlets,
	}
	for id, s := range m.segments {
		c.Segments[id] = &s
	}
	for id, pools := range m.virtuals {
		for a, p := range pools {
			c.Virtuals[overlaynet.Virtual{Network: id, Addr: a}] = &p
		}
	}
	for f, p := range m.frontends {
		c.Frontends[f], c.Sticky[f] = p.Backends, p.Sticky
	}
	return c
}
