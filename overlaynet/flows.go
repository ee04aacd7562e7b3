package overlaynet

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"time"
)

// parting is why connections to an address end.
type parting struct {
	n    *network       // whose address it was; nil: of any
	lost netip.AddrPort // where its node answers, if only the daemon there is gone; invalid: the container is gone for certain
}

// followFlows ends and forgets connections, until ctx ends. It has a
// goroutine to itself: a pass over the kernel's table takes longer than a change
// of the rules, which must not wait for it.
func (m *Manager) followFlows(ctx context.Context) error {
	var pause time.Duration // before what failed is tried again; 0: nothing has
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again:
		case <-m.ends:
		case <-m.flows:
			select { // they come in bursts, and one pass does for all
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(settle):
			}
		}
		again = nil
		if err := m.note("connections to containers that are gone", m.forgetFlows(ctx)); err == nil {
			pause = 0
		} else if ctx.Err() == nil {
			pause = min(max(2*pause, time.Second), slowest)
			again = time.After(pause)
			m.log.Error("connections to containers that are gone were not ended", "err", err, "retry", pause)
		}
	}
}

// forgetFlows drops tracked connections to addresses that lead nowhere now,
// so that clients do not stick to a dead backend, and ends those of our own
// sandboxes. An address that is in use again keeps its connections. So do those of
// a node that the managers hold to be down while its machine answers: the
// containers of a daemon that has died run on.
func (m *Manager) forgetFlows(ctx context.Context) error {
	m.mu.Lock()
	if len(m.forget)+len(m.resets)+len(m.published) == 0 {
		m.mu.Unlock()
		return nil
	}
	var f Flows
	var gone []netip.Addr
	askers := map[string]bool{}
	forget, resets := m.forget, m.resets
	m.forget, m.resets = map[netip.Addr]bool{}, map[netip.Addr]parting{}
	f.Ports = m.published
	m.published = nil
	m.mu.Unlock()
	m.spare(ctx, forget, resets)
	m.mu.Lock()
	live := m.liveLocked()
	for a, udpOnly := range forget {
		if udpOnly {
			f.UDP = append(f.UDP, a)
		} else if !live(a) {
			f.Addrs = append(f.Addrs, a)
		}
	}
	from := map[*network]bool{}
	for a, why := range resets {
		if !live(a) {
			gone, from[why.n] = append(gone, a), true
		}
	}
	for n := range from {
		for id := range m.spaces {
			if n == nil || n.members[id] {
				askers[id] = true
			}
		}
	}
	m.mu.Unlock()
	var err error
	if len(gone) > 0 && len(askers) > 0 { // first: how they were translated is known until they are forgotten
		err = m.opt.Links.Reset(ctx, sortedKeys(askers), gone)
	}
	if len(f.Addrs)+len(f.UDP)+len(f.Ports) > 0 {
		err = errors.Join(err, m.opt.Links.Forget(ctx, f))
	}
	if err != nil { // again later, unless there is newer word
		m.mu.Lock()
		defer m.mu.Unlock()
		maps.Copy(forget, m.forget)
		maps.Copy(resets, m.resets)
		m.forget, m.resets, m.published = forget, resets, append(m.published, f.Ports...)
	}
	return err
}

// spare takes out the addresses on machines that answer.
func (m *Manager) spare(ctx context.Context, forget map[netip.Addr]bool, resets map[netip.Addr]parting) {
	on := map[netip.AddrPort][]netip.Addr{}
	for a, why := range resets {
		if why.lost.IsValid() {
			on[why.lost] = append(on[why.lost], a)
		}
	}
	var group sync.WaitGroup
	var mu sync.Mutex // guards forget and resets
	for machine, addrs := range on {
		group.Go(func() {
			if !m.opt.Links.Answers(ctx, machine) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, a := range addrs {
				delete(resets, a)
				delete(forget, a)
			}
		})
	}
	group.Wait()
}

// liveLocked tells which addresses containers have. Those behind published
// ports count also when this node is in none of their networks any more: its
// last container of a network has gone, and with it what it knew of that.
func (m *Manager) liveLocked() func(netip.Addr) bool {
	own := map[netip.Addr]bool{}
	for _, d := range m.behind {
		if d.up() {
			for _, a := range d.addrs {
				own[a] = true
			}
		}
	}
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
