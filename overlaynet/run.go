package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	settle  = 20 * time.Millisecond // damage comes in bursts
	slowest = time.Minute           // between two looks at everything
)

// Restore takes over what an earlier process left: the sandboxes in have are
// kept as they are, with their addresses, ports and traffic; everything else
// that carries our mark is removed. It is called once, before anything else.
// A sandbox that cannot be kept is reported, and the others go on.
func (m *Manager) Restore(ctx context.Context, have []Restored) error {
	var errs []error
	var kept []*space
	for _, r := range have {
		s, err := m.plan(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("restore network of %s: %w", nameOf(r.Sandbox), err))
			continue
		}
		kept = append(kept, s)
	}
	change := Change{Segments: map[string]*Segment{}, Frontends: map[Frontend][]Backend{}, Resolvers: map[netip.Addr]uint16{}}
	for _, n := range m.used() {
		n.up.Lock()
		err := m.raise(ctx, n)
		n.made = err == nil
		if err == nil {
			c := n.rules()
			change.Segments[n.key()] = c.Segments[n.key()]
			for a, p := range n.resolvers {
				change.Resolvers[a] = p
			}
		}
		n.up.Unlock()
		errs = append(errs, err)
	}
	sandboxes := map[string][]Plug{}
	for _, s := range kept {
		netns, err := m.opt.Links.SetSandbox(ctx, s.sb.ID, s.plugs())
		errs = append(errs, err)
		m.mu.Lock()
		s.netns = netns
		for f, to := range m.aimLocked(s) {
			change.Frontends[f] = to
		}
		m.nameLocked(s)
		m.mu.Unlock()
		sandboxes[s.sb.ID] = s.plugs()
	}
	// The first Apply replaces the table of the earlier process in one
	// transaction; connections that it tracked go on.
	if len(kept) == 0 {
		errs = append(errs, m.opt.Rules.Clear(ctx))
	} else {
		errs = append(errs, m.opt.Rules.Apply(ctx, change))
	}
	var segments []Segment
	for _, n := range m.used() {
		segments = append(segments, n.seg)
	}
	errs = append(errs, m.opt.Links.Sweep(ctx, segments, sandboxes))
	return errors.Join(errs...)
}

// used returns the networks with sandboxes.
func (m *Manager) used() (out []*network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range sortedKeys(m.networks) {
		if n := m.networks[id]; len(n.members) > 0 {
			out = append(out, n)
		}
	}
	return out
}

// Run keeps the kernel as it should be until ctx ends: it looks when
// something of ours has vanished, when networks change, and once a minute.
// Nothing that runs is touched when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.opt.Links.Run(ctx, m.poke) })
	g.Go(func() error { return m.opt.Rules.Run(ctx, m.poke) })
	g.Go(func() error { return m.follow(ctx) })
	return g.Wait()
}

func (m *Manager) follow(ctx context.Context) error {
	for {
		changed := m.opt.Source.Changed()
		wait := slowest
		if err := m.repair(ctx); err != nil && ctx.Err() == nil {
			m.log.Error("network is not as it should be; trying again", "err", err)
			wait = time.Second
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-m.wake:
			t.Reset(settle)
			<-t.C
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// repair is one look at everything. All its steps are safe to repeat.
func (m *Manager) repair(ctx context.Context) error {
	errs := []error{m.forgetFlows(ctx)}
	errs = append(errs, m.prune(ctx, func(n *network) bool {
		_, ok := m.opt.Source.Network(n.key())
		return !ok
	}))
	for _, n := range m.used() {
		n.up.Lock()
		if n.made {
			errs = append(errs, m.opt.Links.SetSegment(ctx, n.seg))
		}
		n.up.Unlock()
	}
	m.mu.Lock()
	ids := sortedKeys(m.spaces)
	m.mu.Unlock()
	for _, id := range ids {
		errs = append(errs, m.repairSpace(ctx, id))
	}
	_, err := m.opt.Rules.Check(ctx)
	return errors.Join(append(errs, err)...)
}

func (m *Manager) repairSpace(ctx context.Context, id string) error {
	defer m.ids.lock(id)()
	m.mu.Lock()
	s := m.spaces[id]
	if s == nil || s.netns == "" {
		m.mu.Unlock()
		return nil
	}
	plugs := s.plugs()
	m.mu.Unlock()
	_, err := m.opt.Links.SetSandbox(ctx, id, plugs)
	return err
}

// forgetFlows drops tracked connections to addresses that lead nowhere now,
// so that clients do not stick to a dead backend. An address that is in use
// again keeps its connections.
func (m *Manager) forgetFlows(ctx context.Context) error {
	m.mu.Lock()
	if len(m.forget)+len(m.published) == 0 {
		m.mu.Unlock()
		return nil
	}
	var f Flows
	live := map[netip.Addr]bool{}
	for _, s := range m.spaces {
		for _, j := range s.joins {
			for _, a := range j.addrs() {
				live[a] = true
			}
		}
	}
	for a, udpOnly := range m.forget {
		if udpOnly {
			f.UDP = append(f.UDP, a)
		} else if !live[a] {
			f.Addrs = append(f.Addrs, a)
		}
	}
	f.Ports = m.published
	m.published = nil
	clear(m.forget)
	m.mu.Unlock()
	return m.opt.Links.Forget(ctx, f)
}
