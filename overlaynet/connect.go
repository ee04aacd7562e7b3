package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/dhow-project/dhow/runtime"
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
	if m.off {
		m.off, m.pending.mesh = false, true
		signal(m.news)
	}
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
	s, err := m.plan(ctx, r)
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

// plan takes everything that must be unique: addresses and ports. It waits for
// an address that the one before has not given back yet.
func (m *Manager) plan(ctx context.Context, r Restored) (*space, error) {
	given, err := m.enter(ctx, r)
	if err != nil {
		return nil, err
	}
	var s *space
	err = m.patiently(ctx, func() (err error) {
		s, err = m.tryPlan(r, given)
		return err
	})
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.tellLocked(r.ID, given)
		return nil, err
	}
	return s, nil
}

func (m *Manager) tryPlan(r Restored, given addresses) (*space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &space{sb: r.Sandbox, ready: r.Ready}
	if s.sb.Name == "" {
		s.sb.Name = s.sb.ID
	}
	if err := m.planLocked(s, r, given); err != nil {
		m.releaseLocked(s)
		return nil, err
	}
	s.sb = r.Sandbox
	m.spaces[s.sb.ID] = s
	return s, nil
}

func (m *Manager) planLocked(s *space, r Restored, given addresses) error {
	if s.sb.ID == "" || s.sb.None && len(s.sb.Attachments) > 0 {
		return fmt.Errorf("a sandbox needs an ID, and no networks when it is to have none: %w", runtime.ErrInvalid)
	}
	for _, at := range byPriority(s.sb.Attachments) {
		have, err := m.keptLocked(r, at.Network)
		if err != nil {
			return err
		}
		if _, err := m.joinLocked(s, at, have, given); err != nil {
			return err
		}
	}
	s.route()
	m.followPublishedLocked(m.opt.Source.Directory("")) // ports may have been chosen for this very sandbox
	return m.claimLocked(s, r.Connected.Ports)
}

// keptLocked is the endpoint that the sandbox had in the network; nil: none.
func (m *Manager) keptLocked(r Restored, network string) (*runtime.Endpoint, error) {
	if len(r.Endpoints) == 0 {
		return nil, nil
	}
	n, err := m.networkLocked(network)
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
	netns, err := m.opt.Links.SetSandbox(ctx, s.sb.ID, m.plugsOf(s))
	if err != nil {
		return err
	}
	m.mu.Lock()
	s.netns = netns
	m.enlistLocked(s, true)
	m.touchFrontsLocked(s)
	m.nameLocked(s)
	m.mu.Unlock()
	return m.flush(ctx)
}

// nameLocked tells the resolver about all joins.
func (m *Manager) nameLocked(s *space) {
	for _, j := range s.joins {
		m.opt.Names.SetHost(s.host(j))
	}
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
	s.leaving = true
	for _, j := range s.joins {
		m.opt.Names.RemoveHost(id, j.net.key())
	}
	m.enlistLocked(s, false)
	m.unclaimLocked(s)
	m.mu.Unlock()

	if err := errors.Join(m.flush(ctx), m.opt.Links.RemoveSandbox(ctx, id, m.plugsOf(s))); err != nil {
		return fmt.Errorf("remove network of %s: %w", nameOf(s.sb), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(s, false)
	m.releaseLocked(s)
	delete(m.spaces, id)
	return nil
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
	if delete(j.net.members, s.sb.ID); len(j.net.members) == 0 {
		signal(m.news)
	}
	if j.entered {
		m.tellOneLocked(plainKey{s.sb.ID, j.net.def.Name})
	}
	close(m.released)
	m.released = make(chan struct{})
}

// forgetLocked has connections to the sandbox dropped, if anybody was
// translated to it.
func (m *Manager) forgetLocked(s *space, udpOnly bool) {
	shared := len(s.sb.Ports) > 0 || s.sb.PublishAll
	for _, j := range s.joins {
		if !shared && j.net.services[s.sb.PortGroup] == nil {
			continue
		}
		for _, a := range j.addrs() {
			old, ok := m.forget[a]
			m.forget[a] = udpOnly && (!ok || old)
			if !udpOnly {
				m.resets[a] = parting{n: j.net}
			}
		}
		signal(m.flows)
	}
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
	m.touchFrontsLocked(s)
	for _, j := range s.joins {
		m.touchPoolLocked(j.net, s.sb.PortGroup)
	}
	if !ready {
		m.forgetLocked(s, true)
	}
	m.mu.Unlock()
	if err := m.flush(context.Background()); err != nil {
		m.log.Error("addresses and ports of services do not follow a health change; trying again", "container", nameOf(s.sb), "err", err)
		m.poke()
	}
}
