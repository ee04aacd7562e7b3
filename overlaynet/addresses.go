package overlaynet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// patience is how long an address is waited for that another container still has.
const patience = 20 * time.Second

// joinLocked takes addresses in one network. have is the endpoint to keep, or
// nil; given are addresses that were asked for. An address that another
// container of this node still has is a *busy.
func (m *Manager) joinLocked(s *space, at stack.Attachment, have *runtime.Endpoint, given addresses) (*join, error) {
	n, err := m.networkLocked(at.Network)
	if err != nil {
		return nil, err
	}
	if s.join(n.key()) != nil {
		return nil, fmt.Errorf("network %s: connected twice: %w", n.def.Name, runtime.ErrConflict)
	}
	j := &join{at: at, net: n, entered: asks(n.def, at)}
	if err := m.addressLocked(s, j, have, given); err != nil {
		n.release(j, s.sb.Name)
		return nil, err
	}
	if !j.addr4.IsValid() && !j.addr6.IsValid() {
		return nil, fmt.Errorf("network %s has no subnet: %w", n.def.Name, runtime.ErrInvalid)
	}
	if j.plug, err = m.plugFor(s, j, have); err != nil {
		n.release(j, s.sb.Name)
		return nil, fmt.Errorf("network %s: %w", n.def.Name, err)
	}
	n.members[s.sb.ID] = true
	s.joins = append(s.joins, j)
	return j, nil
}

// addressLocked takes the addresses of a join: those kept, those given, or any.
func (m *Manager) addressLocked(s *space, j *join, have *runtime.Endpoint, given addresses) (err error) {
	n, at := j.net, j.at
	if n.def.Spans() && have == nil {
		if e, ok := given[n.def.Name]; ok {
			return m.takeGiven(n, s, j, e.IPv4, e.IPv6)
		}
		return m.takeGiven(n, s, j, at.Given4, at.Given6)
	}
	for _, v6 := range []bool{false, true} {
		want, keep, dst := at.IPv4, "", &j.addr4
		if v6 {
			want, dst = at.IPv6, &j.addr6
		}
		if have != nil {
			if keep = have.IPv4; v6 {
				keep = have.IPv6
			}
		}
		if *dst, err = n.take(v6, want, keep, have != nil, s.sb.Name); err != nil {
			return err
		}
	}
	return nil
}

// take gets an address of one family: the one kept, the static one, or any.
func (n *network) take(v6 bool, want, keep string, restoring bool, owner string) (netip.Prefix, error) {
	switch {
	case restoring && keep == "":
		return netip.Prefix{}, nil
	case restoring:
		p, err := netip.ParsePrefix(keep)
		if err != nil {
			return p, fmt.Errorf("network %s: %w", n.def.Name, err)
		}
		if n.def.Spans() {
			return n.takeStatic(p.Addr().String(), owner)
		}
		return p, n.ipam.Restore(p.Addr(), owner)
	case want != "":
		if a, err := netip.ParseAddr(want); err != nil || a.Is6() != v6 {
			return netip.Prefix{}, fmt.Errorf("network %s: %q is not an address of the wanted family: %w", n.def.Name, want, runtime.ErrInvalid)
		}
		if !n.has(v6) {
			return netip.Prefix{}, fmt.Errorf("network %s: %s: the network does not have this family: %w", n.def.Name, want, runtime.ErrInvalid)
		}
		return n.takeStatic(want, owner)
	case n.has(v6):
		return n.ipam.Take(v6, owner)
	}
	return netip.Prefix{}, nil
}

// takeStatic takes exactly this address; one that is taken is runtime.ErrConflict.
func (n *network) takeStatic(addr, owner string) (netip.Prefix, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("network %s: %w: %w", n.def.Name, err, runtime.ErrInvalid)
	}
	p, err := n.ipam.TakeStatic(a, owner)
	if err != nil {
		return p, fmt.Errorf("%w: %w", err, runtime.ErrConflict)
	}
	return p, nil
}

func (n *network) release(j *join, owner string) {
	for _, a := range j.addrs() {
		n.ipam.Free(a, owner)
	}
}

// busy is the error for an address that a container of this node still has.
type busy struct {
	err      error
	holder   string          // sandbox ID; "": not known
	released <-chan struct{} // closed when an address becomes free
}

func (b *busy) Error() string { return b.err.Error() }
func (b *busy) Unwrap() error { return b.err }

// patiently does what may need an address that another container of this node
// has not given back yet: the managers have given it away, so its end is near.
func (m *Manager) patiently(ctx context.Context, do func() error) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		err := do()
		var b *busy
		if !errors.As(err, &b) {
			return err
		}
		if err := m.endLeaving(ctx, b.holder); err != nil {
			return errors.Join(b.err, err)
		}
		select {
		case <-b.released:
		case <-limit.C:
			return b.err
		case <-ctx.Done():
			return errors.Join(b.err, ctx.Err())
		}
	}
}

// endLeaving goes on with the end of a sandbox that could not be brought about.
func (m *Manager) endLeaving(ctx context.Context, id string) error {
	m.mu.Lock()
	s := m.spaces[id]
	leaving := s != nil && s.leaving
	m.mu.Unlock()
	if !leaving {
		return nil
	}
	return m.Disconnect(ctx, id)
}

// takeGiven takes exactly these addresses; one of them may be "".
func (m *Manager) takeGiven(n *network, s *space, j *join, v4, v6 string) error {
	for _, a := range []string{v4, v6} {
		if a == "" {
			continue
		}
		p, err := n.takeStatic(a, s.sb.Name)
		if errors.Is(err, runtime.ErrConflict) {
			return &busy{err, m.holderLocked(n, a), m.released}
		}
		if err != nil {
			return err
		}
		if p.Addr().Is4() {
			j.addr4 = p
		} else {
			j.addr6 = p
		}
	}
	return nil
}

func (m *Manager) holderLocked(n *network, addr string) string {
	for id := range n.members {
		s := m.spaces[id]
		if s != nil && slices.ContainsFunc([]bool{false, true}, func(v6 bool) bool { return s.addr(n, v6).IsValid() && s.addr(n, v6).String() == addr }) {
			return id
		}
	}
	return ""
}
