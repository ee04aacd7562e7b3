package overlaynet

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// followFlows ends and forgets connections, until ctx ends. It has a
// goroutine to itself: a pass over the kernel's table takes longer than a change
// of the rules, which must not wait for it.
func (m *Manager) followFlows(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ends:
		case <-m.flows:
			select { // they come in bursts, and one pass does for all
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(settle):
			}
		}
		if err := m.note("connections to containers that are gone", m.forgetFlows(ctx)); err != nil && ctx.Err() == nil {
			m.log.Error("connections to containers that are gone were not ended", "err", err)
		}
	}
}

// forgetFlows drops tracked connections to addresses that lead nowhere now,
// so that clients do not stick to a dead backend, and ends those of our own
// sandboxes. An address that is in use again keeps its connections.
func (m *Manager) forgetFlows(ctx context.Context) error {
	m.mu.Lock()
	if len(m.forget)+len(m.resets)+len(m.published) == 0 {
		m.mu.Unlock()
		return nil
	}
	var f Flows
	var gone []netip.Addr
	askers := map[string]bool{}
	live := m.liveLocked()
	for a, udpOnly := range m.forget {
		if udpOnly {
			f.UDP = append(f.UDP, a)
		} else if !live(a) {
			f.Addrs = append(f.Addrs, a)
		}
	}
	for a, n := range m.resets {
		if live(a) {
			continue
		}
		gone = append(gone, a)
		for id := range m.spaces {
			if n == nil || n.members[id] {
				askers[id] = true
			}
		}
	}
	f.Ports = m.published
	m.published = nil
	clear(m.forget)
	clear(m.resets)
	m.mu.Unlock()
	var err error
	if len(gone) > 0 && len(askers) > 0 { // first: how they were translated is known until they are forgotten
		err = m.opt.Links.Reset(ctx, sortedKeys(askers), gone)
	}
	if len(f.Addrs)+len(f.UDP)+len(f.Ports) > 0 {
		err = errors.Join(err, m.opt.Links.Forget(ctx, f))
	}
	return err
}

// liveLocked tells which addresses containers have.
func (m *Manager) liveLocked() func(netip.Addr) bool {
	own := map[netip.Addr]bool{}
	for _, s := range m.spaces {
		for _, j := range s.joins {
			for _, a := range j.addrs() {
				own[a] = true
			}
		}
	}
	return func(a netip.Addr) bool {
		if own[a] {
			return true
		}
		for _, n := range m.networks {
			if n.byAddr[a] != "" {
				return true
			}
		}
		return false
	}
}
