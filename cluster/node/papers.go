package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// renewPause is the least time between two renewals.
const renewPause = 2 * time.Second

// clockPause is how late a renewal may be when the clock was set.
const clockPause = time.Minute

// keepPapers renews the certificate in time, and at once when the cluster's
// roots are others.
func (e *epoch) keepPapers(ctx context.Context) error {
	for {
		seen, installed := e.client.Changed(), e.n.id.Changed()
		at := e.n.id.RenewAt()
		if v := e.client.View(); v.Roots != "" && v.Roots != cluster.RootsDigest(e.n.id.Roots()) {
			at = time.Now()
		}
		// Looked at again and again: a clock may be set while this waits.
		timer := time.NewTimer(min(time.Until(at), clockPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-seen:
		case <-installed:
		case <-timer.C:
			if time.Now().Before(at) {
				break
			}
			if _, err := e.renew(ctx); err != nil && ctx.Err() == nil {
				e.log.Warn("renew the certificate", "error", err, "expires", e.n.id.Expiry())
			}
			if !pause(ctx, renewPause) { // also after a success: the leader may be a rotation behind
				timer.Stop()
				return ctx.Err()
			}
		}
		timer.Stop()
	}
}

// renew gets new papers from the leader and puts them to use.
func (e *epoch) renew(ctx context.Context) (cluster.Papers, error) {
	csr, err := e.n.id.NewCSR()
	if err != nil {
		return cluster.Papers{}, err
	}
	limited, cancel := context.WithTimeout(ctx, 3*askTimeout)
	defer cancel()
	var p cluster.Papers
	if m := e.managing(); m != nil && m.Leading() {
		p, err = m.Renew(limited, e.node, csr)
	} else {
		err = e.ask(limited, renewPath, renewal{CSR: csr}, &p)
	}
	if err != nil {
		return p, err
	}
	if err := e.n.id.Install(p.Certificate, p.Roots); err != nil {
		return p, err
	}
	e.client.Refresh() // the leader learns the issuer
	e.log.Info("certificate renewed", "role", p.Role, "expires", e.n.id.Expiry())
	return p, nil
}

// followView keeps up with what the cluster tells its nodes: this node's role,
// where the managers are, the keys of the gossip, and who is no node any more.
func (e *epoch) followView(ctx context.Context) error {
	known := map[string]stack.Role{}
	for {
		seen := e.client.Changed()
		v := e.client.View()
		for id := range known {
			if _, ok := v.Node(id); !ok {
				delete(known, id)
				e.port.Drop(id)
				if g := e.gossiping(); g != nil {
					g.Forget(id)
				}
			}
		}
		again := false
		for _, n := range v.Nodes {
			if known[n.ID] == stack.RoleManager && n.Role != stack.RoleManager {
				if e.votes(n.ID) {
					again = true // until its vote is taken it may be needed for a majority
					continue
				}
				e.port.Drop(n.ID, port.ProtoRaft) // requests that it answers go on
			}
			known[n.ID] = n.Role
		}
		if self, ok := v.Node(e.node); ok {
			if err := e.follow(ctx, self.Role); err != nil && ctx.Err() == nil {
				e.log.Warn("follow the role of this node", "role", self.Role, "error", err)
				again = true
			}
			if err := e.remember(v); err != nil {
				e.log.Warn("remember the managers", "error", err)
			}
		}
		if g := e.gossiping(); g != nil && len(v.Keys) > 0 {
			if err := g.SetKeys(v.Keys); err != nil {
				e.log.Warn("keys of the gossip", "error", err)
			}
		}
		var retry <-chan time.Time
		if again {
			retry = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-seen:
		case <-retry:
		}
	}
}

// follow makes this node what the cluster says that it is.
func (e *epoch) follow(ctx context.Context, role stack.Role) error {
	m := e.managing()
	switch {
	case role == stack.RoleManager && m == nil:
		return e.promote(ctx)
	case role == stack.RoleWorker && m != nil:
		return e.demote(ctx)
	}
	return nil
}

// promote makes this node a manager: with a manager's certificate and keys it
// opens an empty state, which the leader fills.
func (e *epoch) promote(ctx context.Context) error {
	p, err := e.renew(ctx)
	if err != nil {
		return err
	}
	if p.Role != stack.RoleManager {
		return fmt.Errorf("the certificate is for a %s: %w", p.Role, runtime.ErrUnavailable)
	}
	if err := e.n.ring.Import(p.Seal); err != nil {
		return err
	}
	if err := e.forget(); err != nil { // of an earlier time as a manager
		return err
	}
	if err := e.setRole(stack.RoleManager); err != nil {
		return err
	}
	if err := e.openManager(ctx); err != nil {
		return err
	}
	e.goManage(e.managing())
	e.log.Info("this node is a manager now")
	return nil
}

// demote ends this node's part as a manager. The leader gives it a worker's
// papers only after it has taken its vote.
func (e *epoch) demote(ctx context.Context) error {
	p, err := e.renew(ctx)
	if err != nil {
		return err
	}
	if p.Role != stack.RoleWorker {
		return fmt.Errorf("the certificate is for a %s: %w", p.Role, runtime.ErrUnavailable)
	}
	if err := e.setRole(stack.RoleWorker); err != nil {
		return err
	}
	err = errors.Join(e.closeManager(), e.forget(), e.n.ring.Forget())
	e.log.Info("this node is a worker now")
	return err
}

func (e *epoch) setRole(role stack.Role) error {
	return e.changeMember(func(m *member) { m.Role = role })
}

// changeMember changes member.json, when that makes a difference.
func (e *epoch) changeMember(change func(*member)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := *e.member
	change(&m)
	if m.equal(e.member) {
		return nil
	}
	if err := writeMember(e.n.dir, &m); err != nil {
		return err
	}
	e.member = &m
	return nil
}

func (m *member) equal(o *member) bool {
	a, b := *m, *o
	a.Managers, b.Managers = nil, nil
	return slices.Equal(m.Managers, o.Managers) && fmt.Sprint(a) == fmt.Sprint(b)
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
