package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
)

// Set makes the node match c: sandboxes that are not in it go, those that
// differ are made anew, bridges without sandboxes go. It may be called
// repeatedly with the same Config, and then repairs what somebody else has
// changed in the kernel but writes nothing when nothing has; the zero Config
// removes everything we own and nothing else.
func (m *Manager) Set(ctx context.Context, c Config) error {
	want := map[string]Restored{}
	for _, r := range c.Sandboxes {
		want[r.ID] = r
	}
	m.mu.Lock()
	var gone []string
	for id, s := range m.spaces {
		if r, ok := want[id]; !ok || !reflect.DeepEqual(r.Sandbox, s.sb) {
			gone = append(gone, id)
		}
	}
	m.mu.Unlock()
	slices.Sort(gone)
	errs := m.disconnectAll(ctx, gone)
	for _, r := range c.Sandboxes {
		errs = append(errs, m.setOne(ctx, r))
	}
	errs = append(errs, m.prune(ctx, func(*network) bool { return true }))
	if len(want) == 0 {
		errs = append(errs, m.opt.Rules.Clear(ctx), m.opt.Links.Sweep(ctx, nil, nil))
	} else { // what was there already may have been damaged
		errs = append(errs, m.repair(ctx))
	}
	return errors.Join(errs...)
}

// disconnectAll removes sandboxes side by side: the kernel takes as long for
// many links together as for one.
func (m *Manager) disconnectAll(ctx context.Context, ids []string) []error {
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { errs[i] = m.Disconnect(ctx, id) })
	}
	wg.Wait()
	return errs
}

func (m *Manager) setOne(ctx context.Context, r Restored) error {
	defer m.ids.lock(r.ID)()
	if _, err := m.connect(ctx, r); err != nil {
		return err
	}
	m.setReady(r.ID, r.Ready)
	return nil
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

func (m *Manager) dropSegment(ctx context.Context, n *network) error {
	n.up.Lock()
	defer n.up.Unlock()
	m.mu.Lock()
	if len(n.members) > 0 { // somebody came meanwhile
		m.mu.Unlock()
		return nil
	}
	m.mu.Unlock()
	err := m.lower(ctx, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(n.members) == 0 { // else somebody waits for n.up to make it again
		delete(m.networks, n.key())
	}
	return err
}

// lower removes the bridge; n.up is held.
func (m *Manager) lower(ctx context.Context, n *network) error {
	if !n.made {
		return nil
	}
	c := Change{Segments: map[string]*Segment{n.key(): nil}, Resolvers: map[netip.Addr]uint16{}}
	for a := range n.resolvers {
		c.Resolvers[a] = 0
	}
	m.opt.Names.RemoveZone(n.key())
	err := errors.Join(m.opt.Rules.Apply(ctx, c), m.opt.Links.RemoveSegment(ctx, n.seg))
	n.made = false
	if err != nil {
		return fmt.Errorf("remove network %s: %w", n.def.Name, err)
	}
	return nil
}
