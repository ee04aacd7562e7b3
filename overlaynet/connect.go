package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Connect makes the sandbox: namespace, links, addresses, names, published
// ports; or nothing at all, with an error. Repeating it for a sandbox that
// exists and is wanted alike changes nothing. A new sandbox is not ready.
func (m *Manager) Connect(ctx context.Context, sb Sandbox) (*Connected, error) {
	defer m.ids.lock(sb.ID)()
	return m.connect(ctx, Restored{Sandbox: sb})
}

// connect holds the sandbox's lock.
func (m *Manager) connect(ctx context.Context, r Restored) (*Connected, error) {
	m.mu.Lock()
	old := m.spaces[r.ID]
	m.mu.Unlock()
	if old != nil {
		if !old.leaving && reflect.DeepEqual(old.sb, r.Sandbox) {
			c, _ := m.Connected(r.ID)
			return c, nil
		}
		if err := m.disconnect(ctx, r.ID); err != nil {
			return nil, err
		}
	}
	s, err := m.plan(r)
	if err != nil {
		return nil, fmt.Errorf("network of %s: %w", nameOf(r.Sandbox), err)
	}
	if err := m.build(ctx, s); err != nil {
		err = fmt.Errorf("network of %s: %w", nameOf(r.Sandbox), err)
		return nil, errors.Join(err, m.disconnect(context.WithoutCancel(ctx), r.ID))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.connected(), nil
}

func nameOf(sb Sandbox) string {
	if sb.Name != "" {
		return sb.Name
	}
	return sb.ID
}

// plan takes everything that must be unique: addresses and ports.
func (m *Manager) plan(r Restored) (*space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &space{sb: r.Sandbox, ready: r.Ready}
	if s.sb.Name == "" {
		s.sb.Name = s.sb.ID
	}
	if err := m.planLocked(s, r); err != nil {
		m.releaseLocked(s)
		return nil, err
	}
	s.sb = r.Sandbox
	m.spaces[s.sb.ID] = s
	return s, nil
}

func (m *Manager) planLocked(s *space, r Restored) error {
	if s.sb.ID == "" || s.sb.None && len(s.sb.Attachments) > 0 {
		return fmt.Errorf("a sandbox needs an ID, and no networks when it is to have none: %w", runtime.ErrInvalid)
	}
	for _, at := range byPriority(s.sb.Attachments) {
		have, err := m.keptLocked(r, at)
		if err != nil {
			return err
		}
		if _, err := m.joinLocked(s, at, have); err != nil {
			return err
		}
	}
	s.route()
	return m.claimLocked(s, r.Connected.Ports)
}

// keptLocked is the endpoint that the sandbox had in the network; nil: none.
func (m *Manager) keptLocked(r Restored, at stack.Attachment) (*runtime.Endpoint, error) {
	if len(r.Endpoints) == 0 {
		return nil, nil
	}
	n, err := m.networkLocked(at.Network)
	if err != nil {
		return nil, err
	}
	for _, e := range r.Endpoints {
		if e.NetworkID == n.def.ID && e.Network == n.def.Name {
			return &e, nil
		}
	}
	return nil, nil
}

// build makes the kernel and the resolver follow the plan.
func (m *Manager) build(ctx context.Context, s *space) error {
	for _, j := range s.joins {
		if err := m.ensureSegment(ctx, j.net); err != nil {
			return err
		}
	}
	netns, err := m.opt.Links.SetSandbox(ctx, s.sb.ID, s.plugs())
	if err != nil {
		return err
	}
	m.mu.Lock()
	s.netns = netns
	rules := m.aimLocked(s)
	m.nameLocked(s)
	m.mu.Unlock()
	if len(rules) == 0 {
		return nil
	}
	defer m.publishedNow(rules)
	return m.applyFronts(ctx, rules)
}

// publishedNow lets clients that have been sending datagrams to a port since
// before it was published find it: the kernel translates new flows only.
func (m *Manager) publishedNow(rules map[Frontend][]Backend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for f, to := range rules {
		if f.Protocol == "udp" && len(to) == 1 {
			m.published = append(m.published, f)
		}
	}
	if m.published != nil {
		signal(m.flows)
	}
}

// applyFronts sends the rules of fronts as they are now: a later change of
// the same front may have overtaken the one that asked. Those that it could
// not send are stale, and sent again by the next look at everything.
func (m *Manager) applyFronts(ctx context.Context, rules map[Frontend][]Backend) error {
	if len(rules) == 0 {
		return nil
	}
	m.rulesMu.Lock()
	defer m.rulesMu.Unlock()
	m.mu.Lock()
	for f := range rules {
		rules[f] = nil
		for _, o := range m.fronts[portKey{f.Protocol, f.Port}] {
			if o.Frontend == f {
				rules[f] = o.backends()
			}
		}
	}
	m.mu.Unlock()
	err := m.opt.Rules.Apply(ctx, Change{Frontends: rules})
	m.mu.Lock()
	defer m.mu.Unlock()
	for f := range rules {
		if err != nil {
			m.stale[f] = true
		} else {
			delete(m.stale, f)
		}
	}
	return err
}

// staleLocked adds the fronts whose rules are not up to date.
func (m *Manager) staleLocked(rules map[Frontend][]Backend) {
	for f := range m.stale {
		rules[f] = nil
	}
}

// nameLocked tells the resolver about all joins.
func (m *Manager) nameLocked(s *space) {
	for _, j := range s.joins {
		m.opt.Names.SetHost(s.host(j))
	}
}

// ensureSegment makes the network's bridge, resolver and isolation, once.
func (m *Manager) ensureSegment(ctx context.Context, n *network) error {
	if n.isMade() {
		return nil
	}
	if err := m.evict(ctx, n); err != nil {
		return err
	}
	n.up.Lock()
	defer n.up.Unlock()
	if n.made {
		return nil
	}
	if err := m.raise(ctx, n); err != nil {
		return err
	}
	if err := m.opt.Rules.Apply(ctx, n.rules()); err != nil {
		return fmt.Errorf("network %s: %w", n.def.Name, err)
	}
	n.made = true
	return nil
}

// evict removes the idle networks that still have an address of n: a network
// that is made anew right after it went often gets the subnet again, and what is
// left of the old one, its resolver first, would be taken for that of the new
// one and then removed with the old one.
func (m *Manager) evict(ctx context.Context, n *network) error {
	m.mu.Lock()
	var old []*network
	for _, id := range sortedKeys(m.networks) {
		if o := m.networks[id]; o != n && len(o.members) == 0 && slices.ContainsFunc(o.seg.Gateways, n.hasGateway) {
			old = append(old, o)
		}
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
	if err := m.opt.Links.SetSegment(ctx, n.seg); err != nil {
		return fmt.Errorf("network %s: %w", n.def.Name, err)
	}
	var err error
	n.resolvers, err = m.opt.Names.SetZone(n.zone())
	return err
}

func (n *network) rules() Change {
	seg := n.seg
	return Change{Segments: map[string]*Segment{n.key(): &seg}, Resolvers: n.resolvers}
}

// Disconnect removes the sandbox; an unknown ID is no error.
func (m *Manager) Disconnect(ctx context.Context, id string) error {
	defer m.ids.lock(id)()
	return m.disconnect(ctx, id)
}

// disconnect holds the sandbox's lock. Names and ports go first, so that
// nothing new is sent there; the addresses are free when the rules that lead to
// them and the links are gone. Until then the sandbox is kept as leaving, and
// another call goes on with what is left.
func (m *Manager) disconnect(ctx context.Context, id string) error {
	m.mu.Lock()
	s := m.spaces[id]
	if s == nil {
		m.mu.Unlock()
		return nil
	}
	for _, j := range s.joins {
		m.opt.Names.RemoveHost(id, j.net.key())
	}
	rules := m.unclaimLocked(s)
	if s.leaving {
		m.staleLocked(rules)
	}
	s.leaving = true
	m.mu.Unlock()

	if err := errors.Join(m.applyFronts(ctx, rules), m.opt.Links.RemoveSandbox(ctx, id, s.plugs())); err != nil {
		return fmt.Errorf("remove network of %s: %w", nameOf(s.sb), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(s, false)
	m.releaseLocked(s)
	delete(m.spaces, id)
	return nil
}

// unclaimLocked gives the ports back and returns the rules that change.
func (m *Manager) unclaimLocked(s *space) map[Frontend][]Backend {
	rules := map[Frontend][]Backend{}
	for _, c := range s.claims {
		m.lately.note(s.sb.ID, c)
		for _, f := range c.fronts {
			if o := m.leaveLocked(s.sb.ID, f); o != nil {
				rules[f] = o.backends()
			}
		}
	}
	s.claims = nil
	return rules
}

// releaseLocked gives everything back that plan took.
func (m *Manager) releaseLocked(s *space) {
	m.unclaimLocked(s)
	for _, j := range s.joins {
		m.unjoinLocked(s, j)
	}
	s.joins = nil
}

func (m *Manager) unjoinLocked(s *space, j *join) {
	j.net.release(j, nameOf(s.sb))
	delete(j.net.members, s.sb.ID)
}

func (m *Manager) forgetLocked(s *space, udpOnly bool) {
	if len(s.sb.Ports) == 0 && !s.sb.PublishAll {
		return // nobody was translated to it
	}
	for _, j := range s.joins {
		for _, a := range j.addrs() {
			old, ok := m.forget[a]
			m.forget[a] = udpOnly && (!ok || old)
		}
	}
	signal(m.flows)
}

// SetReady says whether the sandbox takes traffic of shared names and ports.
// Those that are not ready are used when no other is.
func (m *Manager) SetReady(id string, ready bool) {
	defer m.ids.lock(id)()
	m.setReady(id, ready)
}

func (m *Manager) setReady(id string, ready bool) {
	m.mu.Lock()
	s := m.spaceLocked(id)
	if s == nil || s.ready == ready {
		m.mu.Unlock()
		return
	}
	s.ready = ready
	m.nameLocked(s)
	rules := map[Frontend][]Backend{}
	for f, to := range m.aimLocked(s) {
		if m.sharedLocked(f) { // one alone serves, ready or not: nothing changes
			rules[f] = to
		}
	}
	if !ready {
		m.forgetLocked(s, true)
	}
	m.mu.Unlock()
	if err := m.applyFronts(context.Background(), rules); err != nil {
		m.log.Error("published ports do not follow a health change; trying again", "container", nameOf(s.sb), "err", err)
		m.poke()
	}
}

func (m *Manager) sharedLocked(f Frontend) bool {
	for _, o := range m.fronts[portKey{f.Protocol, f.Port}] {
		if o.Frontend == f {
			return len(o.members) > 1
		}
	}
	return false
}
