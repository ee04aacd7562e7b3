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
	if s == nil || s.sb.None {
		m.mu.Unlock()
		return nil, missing(s, id)
	}
	j, err := m.joinLocked(s, at, nil)
	if err != nil {
		m.mu.Unlock()
		return nil, fmt.Errorf("connect %s: %w", nameOf(s.sb), err)
	}
	moved := s.route()
	s.sb.Attachments = append(s.sb.Attachments[:len(s.sb.Attachments):len(s.sb.Attachments)], at)
	m.mu.Unlock()

	err = m.ensureSegment(ctx, j.net)
	if err == nil {
		_, err = m.opt.Links.SetSandbox(ctx, id, s.plugs())
	}
	if err == nil {
		err = m.moved(ctx, s, moved)
	}
	if err != nil {
		_, back := m.leave(context.WithoutCancel(ctx), s, j)
		return nil, errors.Join(fmt.Errorf("connect %s: %w", nameOf(s.sb), err), back)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opt.Names.SetHost(s.host(j))
	return s.connected(), nil
}

func missing(s *space, id string) error {
	if s == nil {
		return fmt.Errorf("sandbox %s: %w", id, runtime.ErrNotFound)
	}
	return fmt.Errorf("%s has network mode none: %w", nameOf(s.sb), runtime.ErrForbidden)
}

// DisconnectNetwork takes a network from a running sandbox.
func (m *Manager) DisconnectNetwork(ctx context.Context, id, nameOrID string) (*Connected, error) {
	defer m.ids.lock(id)()
	m.mu.Lock()
	s := m.spaceLocked(id)
	var j *join
	if s != nil {
		for _, x := range s.joins {
			if x.net.def.Name == nameOrID || x.net.key() == nameOrID {
				j = x
			}
		}
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
	return s.connected(), nil
}

// leave holds the sandbox's lock.
func (m *Manager) leave(ctx context.Context, s *space, j *join) (*Connected, error) {
	m.mu.Lock()
	m.opt.Names.RemoveHost(s.sb.ID, j.net.key())
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

	err := errors.Join(m.opt.Links.Unplug(ctx, s.sb.ID, j.plug), m.moved(ctx, s, moved))
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
	if err := m.opt.Links.Reroute(ctx, s.sb.ID, s.plugs()); err != nil {
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
	rules := m.aimLocked(s)
	m.mu.Unlock()
	return m.applyFronts(ctx, rules)
}
