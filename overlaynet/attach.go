package overlaynet

import (
	"context"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// ConnectNetwork adds a network to a running sandbox and returns how the
// sandbox is now (its Nameservers may have changed).
func (m *Manager) ConnectNetwork(ctx context.Context, id string, at stack.Attachment) (*Connected, error) {
	defer m.ids.lock(id)()
	m.mu.Lock()
	s := m.spaceLocked(id)
	twice := s != nil && s.join(at.Network) != nil
	m.mu.Unlock()
	if s == nil || s.sb.None {
		return nil, missing(s, id)
	}
	if twice { // before the managers are asked: they would give it another address
		return nil, fmt.Errorf("connect %s: network %s: connected twice: %w", nameOf(s.sb), at.Network, runtime.ErrConflict)
	}
	sb := s.sb
	sb.Attachments = []stack.Attachment{at}
	given, err := m.enter(ctx, Restored{Sandbox: sb})
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", nameOf(s.sb), err)
	}
	var j *join
	var moved bool
	err = m.patiently(ctx, func() (err error) {
		j, moved, err = m.extend(s, at, given)
		return err
	})
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.tellLocked(id, given)
		return nil, fmt.Errorf("connect %s: %w", nameOf(s.sb), err)
	}
	err = m.ensureSegment(ctx, j.net)
	if err == nil {
		_, err = m.opt.Links.SetSandbox(ctx, id, m.plugsOf(s))
	}
	if err == nil {
		err = m.moved(ctx, s, moved)
	}
	if err == nil {
		err = m.show(ctx, s, j)
	}
	if err != nil {
		_, back := m.leave(context.WithoutCancel(ctx), s, j)
		return nil, errors.Join(fmt.Errorf("connect %s: %w", nameOf(s.sb), err), back)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.connected(), nil
}

func missing(s *space, id string) error {
	if s == nil {
		return fmt.Errorf("sandbox %s: %w", id, runtime.ErrNotFound)
	}
	return fmt.Errorf("%s has network mode none: %w", nameOf(s.sb), runtime.ErrForbidden)
}

// extend plans one more network; it tells whether the default routes move.
func (m *Manager) extend(s *space, at stack.Attachment, given addresses) (*join, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j, err := m.joinLocked(s, at, nil, given)
	if err != nil {
		return nil, false, err
	}
	moved := s.route()
	s.sb.Attachments = append(s.sb.Attachments[:len(s.sb.Attachments):len(s.sb.Attachments)], at)
	return j, moved, nil
}

// show makes a new join known by its names and in its service's pools.
func (m *Manager) show(ctx context.Context, s *space, j *join) error {
	m.mu.Lock()
	m.opt.Names.SetHost(s.host(j))
	m.enlistJoinLocked(s, j, true)
	m.localLocked(s)
	m.mu.Unlock()
	return m.flush(ctx)
}

// DisconnectNetwork takes a network from a running sandbox.
func (m *Manager) DisconnectNetwork(ctx context.Context, id, nameOrID string) (*Connected, error) {
	defer m.ids.lock(id)()
	m.mu.Lock()
	s := m.spaceLocked(id)
	var j *join
	if s != nil {
		j = s.join(nameOrID)
	}
	m.mu.Unlock()
	if j == nil {
		return nil, fmt.Errorf("%s is not connected to network %s: %w", id, nameOrID, runtime.ErrNotFound)
	}
	return m.leave(ctx, s, j)
}

// Rename gives a sandbox other names of its own in all its networks, at once.
// Its Name, which addresses and ports are held by, stays that of its start.
func (m *Manager) Rename(id string, dnsNames []string) (*Connected, error) {
	defer m.ids.lock(id)()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaceLocked(id)
	if s == nil {
		return nil, fmt.Errorf("sandbox %s: %w", id, runtime.ErrNotFound)
	}
	s.sb.DNSNames = dnsNames
	m.nameLocked(s)
	for _, j := range s.joins {
		if j.entered {
			m.tellOneLocked(plainKey{id, j.net.def.Name})
		}
	}
	return s.connected(), nil
}

// leave holds the sandbox's lock.
func (m *Manager) leave(ctx context.Context, s *space, j *join) (*Connected, error) {
	m.mu.Lock()
	m.opt.Names.RemoveHost(s.sb.ID, j.net.key())
	m.enlistJoinLocked(s, j, false)
	for i, x := range s.joins {
		if x == j {
			s.joins = append(s.joins[:i:i], s.joins[i+1:]...)
			break
		}
	}
	var rest []stack.Attachment
	for _, at := range s.sb.Attachments {
		if at.Network != j.at.Network {
			rest = append(rest, at)
		}
	}
	s.sb.Attachments = rest
	moved := s.route()
	m.mu.Unlock()

	err := errors.Join(m.flush(ctx), m.opt.Links.Unplug(ctx, s.sb.ID, j.plug), m.moved(ctx, s, moved))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unjoinLocked(s, j)
	if err != nil {
		return nil, fmt.Errorf("disconnect %s from %s: %w", nameOf(s.sb), j.net.def.Name, err)
	}
	return s.connected(), nil
}

// moved follows a change of the default routes: the published ports lead to
// the address that has them.
func (m *Manager) moved(ctx context.Context, s *space, changed bool) error {
	if !changed {
		return nil
	}
	if err := m.opt.Links.Reroute(ctx, s.sb.ID, m.plugsOf(s)); err != nil {
		return err
	}
	m.mu.Lock()
	if len(s.claims) == 0 { // it was in internal networks only
		if err := m.claimLocked(s, nil); err != nil {
			m.unclaimLocked(s)
			m.mu.Unlock()
			return err
		}
	}
	m.touchFrontsLocked(s)
	m.localLocked(s)
	m.mu.Unlock()
	return m.flush(ctx)
}
