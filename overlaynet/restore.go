package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// restoreLimit is how long the start of a daemon waits for addresses of
// containers of which it is not known what they had.
const restoreLimit = 5 * time.Second

// Restore takes over what an earlier process left: the sandboxes in have are
// kept as they are, with their addresses, ports and traffic; everything else
// that carries our mark is removed. It is called once, before anything else.
// A sandbox that cannot be kept is reported, and the others go on. Of what the
// Source does not know yet, nothing is removed.
func (m *Manager) Restore(ctx context.Context, have []Restored) error {
	var errs []error
	m.keep(have)
	defer m.keep(nil)
	m.observe()
	var kept []*space
	limited, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	for _, r := range have {
		s, err := m.plan(limited, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("restore network of %s: %w", nameOf(r.Sandbox), err))
			continue
		}
		kept = append(kept, s)
	}
	m.observe()
	c, err := m.raiseAll(ctx)
	errs = append(errs, err)
	sandboxes := map[string][]Plug{}
	for _, s := range kept {
		errs = append(errs, m.adopt(ctx, s))
		sandboxes[s.sb.ID] = m.plugsOf(s)
	}
	// The first Apply replaces the table of the earlier process in one
	// transaction; connections that it tracked go on.
	m.mu.Lock()
	idle := len(kept) == 0 && len(m.fronts) == 0 && m.inboundLocked().Peers == nil
	m.mu.Unlock()
	if idle {
		errs = append(errs, m.opt.Rules.Clear(ctx))
	}
	links, rules := m.flushWith(ctx, c)
	if rules != nil {
		m.unmake()
	}
	errs = append(errs, links, rules)
	var segments []Segment
	for _, n := range m.used() {
		segments = append(segments, m.segmentOf(n))
	}
	errs = append(errs, m.opt.Links.Sweep(ctx, segments, sandboxes))
	return errors.Join(errs...)
}

// keep notes the host ports that containers have had until now.
func (m *Manager) keep(have []Restored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = map[portKey]bool{}
	for _, r := range have {
		for _, b := range r.Connected.Ports {
			m.kept[portKey{b.Protocol, b.HostPort}] = true
		}
	}
}

// raiseAll makes all networks with sandboxes, and returns their rules.
func (m *Manager) raiseAll(ctx context.Context) (Change, error) {
	c := Change{Segments: map[string]*Segment{}, Resolvers: map[netip.Addr]uint16{}}
	var errs []error
	for _, n := range m.used() {
		n.up.Lock()
		err := m.raise(ctx, n)
		if n.made = err == nil; n.made {
			rules := m.rulesOf(n)
			c.Segments[n.key()] = rules.Segments[n.key()]
			for a, p := range n.resolvers {
				c.Resolvers[a] = p
			}
			m.mu.Lock()
			m.arriveLocked(n)
			m.mu.Unlock()
		}
		n.up.Unlock()
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// unmake has all networks made again by the next look: the rules do not know them.
func (m *Manager) unmake() {
	for _, n := range m.used() {
		n.up.Lock()
		n.made = false
		n.up.Unlock()
	}
}

// adopt makes a kept sandbox whole again.
func (m *Manager) adopt(ctx context.Context, s *space) error {
	netns, err := m.opt.Links.SetSandbox(ctx, s.sb.ID, m.plugsOf(s))
	m.mu.Lock()
	defer m.mu.Unlock()
	s.netns = netns
	m.enlistLocked(s, true)
	m.touchFrontsLocked(s)
	m.nameLocked(s)
	for _, j := range s.joins {
		if j.entered { // the managers may have lost it
			m.tellOneLocked(plainKey{s.sb.ID, j.net.def.Name})
		}
	}
	return err
}

// used returns the networks with sandboxes.
func (m *Manager) used() (out []*network) {
	for _, n := range m.all() {
		m.mu.Lock()
		if len(n.members) > 0 {
			out = append(out, n)
		}
		m.mu.Unlock()
	}
	return out
}

// all also returns the networks that wait for their next sandbox.
func (m *Manager) all() (out []*network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range sortedKeys(m.networks) {
		out = append(out, m.networks[id])
	}
	return out
}
