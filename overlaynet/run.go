package overlaynet

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	settle  = 20 * time.Millisecond // damage comes in bursts
	rest    = 4                     // times as long as a look at everything took passes before the next: others may change rules all the time
	slowest = time.Minute           // between two looks at everything
)

// Run keeps the kernel as it should be until ctx ends: it follows the Source at
// once, and looks at everything when something of ours has vanished and once a
// minute. Nothing that runs is touched when ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.opt.Links.Run(ctx, m.poke) })
	g.Go(func() error { return m.opt.Rules.Run(ctx, m.poke) })
	g.Go(func() error { return m.follow(ctx) })
	g.Go(func() error { return m.followFlows(ctx) })
	g.Go(func() error { return m.tellPlain(ctx) })
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
			err = m.note("network", m.round(ctx))
		case <-m.news:
			err = m.note("network", m.round(ctx))
		case <-m.wake:
			due = earlier(due, time.Now().Add(max(settle, rest*took)))
		case start := <-t.C:
			if err = m.note("look at the whole network", m.repair(ctx)); err == nil {
				_ = m.note("network", nil) // a look at everything does what a round could not
			}
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

// round follows the Source: what has changed is sent, and nothing else is
// looked at.
func (m *Manager) round(ctx context.Context) error {
	errs := []error{m.pruneUnknown(ctx), m.reforward()}
	m.observe()
	return errors.Join(append(errs, m.flushAll(ctx), m.resize(ctx))...)
}

// observe takes over what the Source says.
func (m *Manager) observe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followFabricLocked(m.opt.Source.Fabric())
	for _, id := range sortedKeys(m.networks) {
		if n := m.networks[id]; len(n.members) > 0 {
			m.followDirectoryLocked(n, m.directoryOfLocked(n))
		} else {
			m.abandonLocked(n)
		}
	}
	m.followPublishedLocked(m.opt.Source.Directory(""))
}

// resize lets running sandboxes follow the MTU of their networks.
func (m *Manager) resize(ctx context.Context) error {
	m.mu.Lock()
	ids := sortedKeys(m.resized)
	clear(m.resized)
	m.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, m.repairSpace(ctx, id))
	}
	return errors.Join(errs...)
}

// repair is one look at everything. All its steps are safe to repeat.
func (m *Manager) repair(ctx context.Context) error {
	errs := []error{m.forgetFlows(ctx), m.pruneUnknown(ctx), m.reforward()}
	m.observe()
	m.mu.Lock()
	for f, b := range m.blocked {
		m.offerAgainLocked(f, b)
	}
	m.pending.mesh, m.sent.asked = true, false
	m.mu.Unlock()
	used := m.used()
	for _, n := range m.all() { // a bridge that waits for its next container has to be whole when that comes
		n.up.Lock()
		if seg := m.segmentOf(n); n.begun && !n.made && slices.Contains(used, n) { // it went wrong
			errs = append(errs, m.establish(ctx, n))
		} else if n.made {
			err := m.opt.Links.SetSegment(ctx, seg)
			if err == nil {
				n.sent = seg
			}
			errs = append(errs, err)
		}
		n.up.Unlock()
	}
	m.mu.Lock()
	ids := sortedKeys(m.spaces)
	m.mu.Unlock()
	for _, id := range ids {
		errs = append(errs, m.repairSpace(ctx, id))
	}
	errs = append(errs, m.flushAll(ctx))
	_, err := m.opt.Rules.Check(ctx)
	return errors.Join(append(errs, err)...)
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
