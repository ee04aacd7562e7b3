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
	rest    = 4                     // times as long as a look at everything took passes before the next: others may change rules all the time
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

// Run keeps the kernel as it should be until ctx ends: it looks at everything
// when something of ours has vanished and once a minute, and removes networks
// that are wanted no more at once. Nothing that runs is touched when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.opt.Links.Run(ctx, m.poke) })
	g.Go(func() error { return m.opt.Rules.Run(ctx, m.poke) })
	g.Go(func() error { return m.follow(ctx) })
	return g.Wait()
}

// follow does for each thing that happens what it asks for and no more: the
// state changes with every word about a task, and a look at everything grows
// with the number of containers.
func (m *Manager) follow(ctx context.Context) error {
	var took time.Duration // the last look at everything
	due := time.Now()      // the next one
	changed := m.opt.Source.Changed()
	for {
		t := time.NewTimer(time.Until(due))
		var err error
		select {
		case <-ctx.Done():
		case <-changed:
			changed = m.opt.Source.Changed() // first: what changes from here on is seen in the next round
			err = errors.Join(m.pruneUnknown(ctx), m.reforward())
		case <-m.flows:
			select { // they come in bursts too, and one pass over the table does for all
			case <-ctx.Done():
			case <-time.After(settle):
				err = m.forgetFlows(ctx)
			}
		case <-m.wake:
			due = earlier(due, time.Now().Add(max(settle, rest*took)))
		case start := <-t.C:
			err = m.repair(ctx)
			took = time.Since(start)
			due = time.Now().Add(slowest)
		}
		t.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.log.Error("network is not as it should be; trying again", "err", err)
			due = earlier(due, time.Now().Add(time.Second))
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// pruneUnknown removes the bridges of networks that the state has no more.
func (m *Manager) pruneUnknown(ctx context.Context) error {
	return m.prune(ctx, func(n *network) bool {
		_, ok := m.opt.Source.Network(n.key())
		return !ok
	})
}

// repair is one look at everything. All its steps are safe to repeat.
func (m *Manager) repair(ctx context.Context) error {
	errs := []error{m.forgetFlows(ctx), m.pruneUnknown(ctx)}
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
	rules := map[Frontend][]Backend{}
	m.mu.Lock()
	m.staleLocked(rules)
	m.mu.Unlock()
	_, err := m.opt.Rules.Check(ctx)
	return errors.Join(append(errs, m.applyFronts(ctx, rules), err)...)
}

// repairSpace also goes on with an end that could not be brought about.
func (m *Manager) repairSpace(ctx context.Context, id string) error {
	defer m.ids.lock(id)()
	m.mu.Lock()
	s := m.spaces[id]
	if s == nil || s.netns == "" && !s.leaving {
		m.mu.Unlock()
		return nil
	}
	if s.leaving {
		m.mu.Unlock()
		return m.disconnect(ctx, id)
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
