package overlaynet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
)

// pending is what the kernel has not been told yet. It holds keys only: what
// they stand for is read when it is sent, so that a later change that overtakes
// an earlier one is not undone by it.
type pending struct {
	segments map[*network]bool
	remotes  map[*network]bool
	fronts   map[Frontend]bool
	virtuals map[Virtual]bool
	locals   map[netip.Addr]bool
	inlets   map[Frontend]bool
	mesh     bool                   // the mesh, and from whom tunnels may receive
	gone     map[netip.Addr]parting // addresses of containers of other nodes where nobody is any more
	drained  map[netip.Addr]bool    // that are to get nothing new
}

func newPending() pending {
	return pending{
		segments: map[*network]bool{}, remotes: map[*network]bool{}, fronts: map[Frontend]bool{}, virtuals: map[Virtual]bool{}, locals: map[netip.Addr]bool{},
		inlets: map[Frontend]bool{}, gone: map[netip.Addr]parting{}, drained: map[netip.Addr]bool{},
	}
}

// sent is what the kernel was told last.
type sent struct {
	fronts   map[Frontend]aim
	virtuals map[Virtual]Pool
	locals   map[netip.Addr]bool
	inlets   map[Frontend]bool
	inbound  Inbound
	mesh     *Mesh
	asked    bool // SetMesh has been called: what an earlier process left is known
}

// aim is where a published port leads.
type aim struct {
	to     []Backend
	sticky bool
}

func newSent() sent {
	return sent{fronts: map[Frontend]aim{}, virtuals: map[Virtual]Pool{}, locals: map[netip.Addr]bool{}, inlets: map[Frontend]bool{}}
}

// flush sends what is pending: first what makes other nodes reachable, then the
// rules, in one transaction. What could not be sent is pending again. The
// error is that of the rules: a network whose tunnel is in trouble does not keep
// containers of others from starting, and is looked at again soon. It must not
// be called with the lock of a network or of the Manager held.
func (m *Manager) flush(ctx context.Context) error {
	links, rules := m.flushWith(ctx, Change{})
	if links != nil {
		m.poke()
	}
	return rules
}

// flushAll is flush with all errors.
func (m *Manager) flushAll(ctx context.Context) error {
	return errors.Join(m.flushWith(ctx, Change{}))
}

// flushWith also sends c, with the rules.
func (m *Manager) flushWith(ctx context.Context, c Change) (links, rules error) {
	m.sending.Lock()
	defer m.sending.Unlock()
	m.mu.Lock()
	p := m.pending
	m.pending = newPending()
	m.mu.Unlock()
	var errs []error
	for _, n := range sortedNetworks(p.segments) {
		errs = append(errs, m.sendSegment(ctx, n))
	}
	for _, n := range sortedNetworks(p.remotes) {
		errs = append(errs, m.sendRemotes(ctx, n))
	}
	if p.mesh {
		errs = append(errs, m.sendMesh(ctx))
	}
	if rules = m.sendRules(ctx, p, c); rules == nil {
		m.part(p)
	}
	return errors.Join(errs...), rules
}

// part has connections to those ended that the rules lead to no more.
func (m *Manager) part(p pending) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for a, why := range p.gone {
		m.forget[a] = false
		m.resets[a] = why
	}
	for a := range p.drained {
		udpOnly, ok := m.forget[a]
		m.forget[a] = udpOnly || !ok
	}
	if len(p.gone) > 0 {
		signal(m.ends)
	} else if len(p.drained) > 0 {
		signal(m.flows)
	}
}

func sortedNetworks(set map[*network]bool) []*network {
	return slices.SortedFunc(maps.Keys(set), func(a, b *network) int { return cmp.Compare(a.key(), b.key()) })
}

// sendSegment makes the bridge follow its tunnel and MTU.
func (m *Manager) sendSegment(ctx context.Context, n *network) error {
	n.up.Lock()
	defer n.up.Unlock()
	seg := m.segmentOf(n)
	if !n.made || reflect.DeepEqual(n.sent, seg) {
		return nil
	}
	err := m.opt.Links.SetSegment(ctx, seg)
	if err == nil {
		n.sent = seg
		return nil
	}
	m.mu.Lock()
	m.pending.segments[n] = true
	m.mu.Unlock()
	return fmt.Errorf("network %s: %w", n.def.Name, err)
}

// sendRemotes makes the containers of other nodes reachable.
func (m *Manager) sendRemotes(ctx context.Context, n *network) error {
	n.up.Lock()
	defer n.up.Unlock()
	m.mu.Lock()
	seg, list, known := n.seg, n.remoteList(), n.dir != nil
	m.mu.Unlock()
	if !n.made || !known || n.told && reflect.DeepEqual(n.remotes, list) {
		return nil
	}
	n.told = false
	err := m.opt.Links.SetRemotes(ctx, seg, list)
	if err == nil {
		n.remotes, n.told = list, true
		return nil
	}
	m.mu.Lock()
	m.pending.remotes[n] = true
	m.mu.Unlock()
	return fmt.Errorf("network %s: containers of other nodes: %w", n.def.Name, err)
}

// sendMesh makes the link between nodes.
func (m *Manager) sendMesh(ctx context.Context) error {
	m.mu.Lock()
	mesh, known := m.meshLocked(), m.fabric.Known || m.off
	same := m.sent.asked && reflect.DeepEqual(m.sent.mesh, mesh)
	m.mu.Unlock()
	if !known || same {
		return nil
	}
	err := m.opt.Links.SetMesh(ctx, mesh)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sent.asked = err == nil; err == nil {
		m.sent.mesh = mesh
		return nil
	}
	m.pending.mesh = true
	return fmt.Errorf("mesh for published ports: %w", err)
}

// sendRules applies all rules that are pending in one transaction.
func (m *Manager) sendRules(ctx context.Context, p pending, c Change) error {
	m.mu.Lock()
	now := m.gatherLocked(p, &c)
	m.mu.Unlock()
	if c.empty() {
		return nil
	}
	err := m.opt.Rules.Apply(ctx, c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		maps.Copy(m.pending.fronts, p.fronts)
		maps.Copy(m.pending.virtuals, p.virtuals)
		maps.Copy(m.pending.locals, p.locals)
		maps.Copy(m.pending.inlets, p.inlets)
		maps.Copy(p.gone, m.pending.gone) // what was said later counts
		m.pending.gone = p.gone
		maps.Copy(m.pending.drained, p.drained)
		m.pending.mesh = m.pending.mesh || p.mesh
		return err
	}
	m.publishedLocked(now.fronts)
	m.sent.note(now, c)
	return nil
}

func (c Change) empty() bool {
	return len(c.Segments)+len(c.Frontends)+len(c.Resolvers)+len(c.Virtuals)+len(c.Locals)+len(c.Inlets) == 0 && c.Inbound == nil
}

// gatherLocked adds to c what differs from what was sent, and returns the
// new state of it.
func (m *Manager) gatherLocked(p pending, c *Change) sent {
	now := newSent()
	c.Frontends, c.Sticky = map[Frontend][]Backend{}, map[Frontend]bool{}
	for f := range p.fronts {
		a := m.aimOfLocked(f)
		if old, had := m.sent.fronts[f]; had && old.sticky == a.sticky && slices.Equal(old.to, a.to) || !had && len(a.to) == 0 {
			continue
		}
		now.fronts[f] = a
		if c.Frontends[f] = a.to; a.sticky && len(a.to) > 0 {
			c.Sticky[f] = true
		}
	}
	c.Virtuals = map[Virtual]*Pool{}
	for v := range p.virtuals {
		pool := m.poolLocked(v)
		old, had := m.sent.virtuals[v]
		if !had && pool == nil || had && pool != nil && old.Sticky == pool.Sticky && slices.Equal(old.Backends, pool.Backends) {
			continue
		}
		if c.Virtuals[v] = pool; pool != nil {
			now.virtuals[v] = *pool
		}
	}
	c.Locals = differing(p.locals, m.locals, m.sent.locals)
	c.Inlets = differing(p.inlets, m.inlets, m.sent.inlets)
	if p.mesh && m.fabric.Known { // it grows with the cluster
		if now.inbound = m.inboundLocked(); !reflect.DeepEqual(now.inbound, m.sent.inbound) {
			c.Inbound = &now.inbound
		}
	}
	return now
}

// differing are those of the keys that are not as they were told.
func differing[K comparable](keys, want, told map[K]bool) map[K]bool {
	out := map[K]bool{}
	for k := range keys {
		if want[k] != told[k] {
			out[k] = want[k]
		}
	}
	return out
}

// note takes over what was sent with c.
func (s *sent) note(now sent, c Change) {
	for f, a := range now.fronts {
		if s.fronts[f] = a; len(a.to) == 0 {
			delete(s.fronts, f)
		}
	}
	for v, pool := range c.Virtuals {
		if delete(s.virtuals, v); pool != nil {
			s.virtuals[v] = now.virtuals[v]
		}
	}
	take(s.locals, c.Locals)
	take(s.inlets, c.Inlets)
	if c.Inbound != nil {
		s.inbound = now.inbound
	}
}

func take[K comparable](set, change map[K]bool) {
	for k, there := range change {
		if delete(set, k); there {
			set[k] = true
		}
	}
}

// publishedLocked lets clients that have been sending datagrams to a port since
// before it was published find it: the kernel translates new flows only.
func (m *Manager) publishedLocked(fronts map[Frontend]aim) {
	for f, a := range fronts {
		if f.Protocol == "udp" && len(a.to) > 0 && len(m.sent.fronts[f].to) == 0 {
			m.published = append(m.published, f)
		}
	}
	if m.published != nil {
		signal(m.flows)
	}
}
