package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// ensureSegment makes the network's bridge, resolver and isolation, once.
func (m *Manager) ensureSegment(ctx context.Context, n *network) error {
	if n.isMade() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.followDirectoryLocked(n, m.directoryOfLocked(n)) // it was abandoned if nobody was in it
		return nil
	}
	if err := m.patiently(ctx, func() error { return m.evict(ctx, n) }); err != nil {
		return err
	}
	n.up.Lock()
	defer n.up.Unlock()
	if n.made {
		return nil
	}
	return m.establish(ctx, n)
}

// establish makes the network; n.up is held.
func (m *Manager) establish(ctx context.Context, n *network) error {
	m.mu.Lock()
	m.followDirectoryLocked(n, m.directoryOfLocked(n)) // so that its tunnel is made with it
	m.mu.Unlock()
	if err := m.raise(ctx, n); err != nil {
		return err
	}
	if err := m.opt.Rules.Apply(ctx, m.rulesOf(n)); err != nil {
		return fmt.Errorf("network %s: %w", n.def.Name, err)
	}
	n.made = true
	m.mu.Lock()
	defer m.mu.Unlock()
	m.arriveLocked(n)
	return nil
}

// directoryOfLocked is what is known of a network, unless it is no more.
func (m *Manager) directoryOfLocked(n *network) *stack.Directory {
	if !n.def.Spans() {
		return nil
	}
	if def, ok := m.opt.Source.Network(n.key()); !ok || def.Name != n.def.Name {
		return nil // another one may have its name now
	}
	return m.opt.Source.Directory(n.def.Name)
}

// evict removes the idle networks that still have an address of n: a network
// that is made anew right after it went often gets the subnet again, and what is
// left of the old one, its resolver first, would be taken for that of the new
// one and then removed with the old one. One that is not idle yet is a *busy.
func (m *Manager) evict(ctx context.Context, n *network) error {
	m.mu.Lock()
	var old []*network
	for _, id := range sortedKeys(m.networks) {
		o := m.networks[id]
		if o == n || !slices.ContainsFunc(o.seg.Gateways, n.hasGateway) {
			continue
		}
		if ids := sortedKeys(o.members); len(ids) > 0 && o.live {
			err := fmt.Errorf("network %s has the subnet of network %s (%s), which still has containers on this node", n.def.Name, o.def.Name, o.key())
			defer m.mu.Unlock()
			return &busy{err, ids[0], m.released}
		}
		old = append(old, o)
	}
	m.mu.Unlock()
	var errs []error
	for _, o := range old {
		errs = append(errs, m.dropSegment(ctx, o))
	}
	return errors.Join(errs...)
}

// raise makes the bridge and serves its names; n.up is held.
func (m *Manager) raise(ctx context.Context, n *network) error {
	n.begun = true
	seg := m.segmentOf(n)
	if err := m.opt.Links.SetSegment(ctx, seg); err != nil {
		return fmt.Errorf("network %s: %w", n.def.Name, err)
	}
	n.sent, n.told = seg, false
	var err error
	n.resolvers, err = m.opt.Names.SetZone(n.zone())
	return err
}

func (m *Manager) rulesOf(n *network) Change {
	seg := m.segmentOf(n)
	return Change{Segments: map[string]*Segment{n.key(): &seg}, Resolvers: n.resolvers}
}

// arriveLocked tells what is known of a network to a resolver and rules that
// have just learned of it.
func (m *Manager) arriveLocked(n *network) {
	n.live = true
	for _, id := range sortedKeys(n.hosts) {
		if d := n.hosts[id]; d.up() {
			m.opt.Names.SetHost(n.hostOf(d))
		}
	}
	for _, name := range sortedKeys(n.services) {
		m.opt.Names.SetService(m.nameService(n, n.services[name]))
	}
	for a := range n.virtuals {
		m.pending.virtuals[Virtual{n.key(), a}] = true
	}
	m.pending.remotes[n] = true
}

// prune removes the bridges that no sandbox uses and that unwanted selects.
func (m *Manager) prune(ctx context.Context, unwanted func(*network) bool) error {
	m.mu.Lock()
	var idle []*network
	for _, n := range m.networks {
		if len(n.members) == 0 && unwanted(n) {
			idle = append(idle, n)
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, n := range idle {
		errs = append(errs, m.dropSegment(ctx, n))
	}
	return errors.Join(errs...)
}

// pruneUnknown removes the bridges of networks that the state has no more.
func (m *Manager) pruneUnknown(ctx context.Context) error {
	return m.prune(ctx, func(n *network) bool {
		_, ok := m.opt.Source.Network(n.key())
		return !ok
	})
}

func (m *Manager) dropSegment(ctx context.Context, n *network) error {
	m.mu.Lock()
	if len(n.members) == 0 {
		m.abandonLocked(n)
	}
	m.mu.Unlock()
	if err := m.flush(ctx); err != nil {
		return fmt.Errorf("remove network %s: %w", n.def.Name, err)
	}
	n.up.Lock()
	defer n.up.Unlock()
	m.mu.Lock()
	if len(n.members) > 0 { // somebody came meanwhile
		m.mu.Unlock()
		return nil
	}
	n.live = false
	m.mu.Unlock()
	err := m.lower(ctx, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(n.members) == 0 && err == nil { // else somebody waits for n.up to make it again, or what is left must go
		delete(m.networks, n.key())
	}
	return err
}

// lower removes the bridge; n.up is held.
func (m *Manager) lower(ctx context.Context, n *network) error {
	if !n.begun {
		return nil
	}
	c := Change{Segments: map[string]*Segment{n.key(): nil}, Resolvers: map[netip.Addr]uint16{}}
	for a := range n.resolvers {
		c.Resolvers[a] = 0
	}
	m.opt.Names.RemoveZone(n.key())
	err := errors.Join(m.opt.Rules.Apply(ctx, c), m.opt.Links.RemoveSegment(ctx, m.segmentOf(n)))
	n.made, n.told = false, false
	if err != nil {
		return fmt.Errorf("remove network %s: %w", n.def.Name, err)
	}
	n.begun = false
	return nil
}
