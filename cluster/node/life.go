package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/cluster/gossip"
	"github.com/dhow-project/dhow/stack"
)

// life is what this machine knows of other nodes' lives, by sessions and gossip.
type life struct{ e *epoch }

// Look is what is known now, by node.
func (l life) Look() func(node string) cluster.Sighting {
	sessions, g := l.e.dispatching().Sessions(), l.e.gossiping()
	return func(node string) cluster.Sighting {
		c := sessions[node]
		s := cluster.Sighting{Heard: c.Heard, LeaseEnds: c.LeaseEnds}
		if g == nil {
			return s
		}
		if m, ok := g.Member(node); ok {
			s.Gossip = cluster.RumourDead
			if m.Alive {
				s.Gossip = cluster.RumourAlive
			}
		}
		return s
	}
}

// Terms are those of the sessions now.
func (l life) Terms() (lease, heartbeat time.Duration) {
	t := l.e.dispatching().Terms()
	return t.Lease, t.Beat
}

func (l life) Changed() <-chan struct{} {
	if g := l.e.gossiping(); g != nil {
		return g.Changed()
	}
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	return l.e.began
}

// Recall ends a node's session, so that it calls again.
func (l life) Recall(node string) { l.e.dispatching().Recall(node) }

// runGossip gossips as soon as the keys are known, for as long as this machine
// is a member. When its address changes, it begins anew under the new one.
func (e *epoch) runGossip(ctx context.Context) error {
	keys, err := e.gossipKeys(ctx)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := e.gossipOnce(ctx, keys); err != nil && ctx.Err() == nil {
			e.log.Warn("gossip", "error", err)
		}
		pause(ctx, bindPause)
		if keys, err = e.gossipKeys(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// gossipOnce gossips until ctx ends or others reach this machine elsewhere.
func (e *epoch) gossipOnce(ctx context.Context, keys [][]byte) error {
	m := e.memberNow()
	told := e.advertised(m)
	g, err := gossip.Open(gossip.Config{
		Node: e.node, Bind: m.gossipOn(), Advertise: m.gossipOf(told), Keys: keys,
		Meta: gossip.Meta{Addr: told, Hostname: e.n.cfg.Facts.Hostname, Role: m.Role},
		Log:  e.n.log.With("part", "gossip"),
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.gossip = g
	e.mu.Unlock()
	e.turned()
	e.client.Refresh()
	g.Know(e.gossips())
	inner, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer cancel()
		for pause(inner, movePause) && e.advertised(e.memberNow()) == told {
		}
	})
	watch.Go(func() { e.doubtLeader(inner, g) })
	err = g.Run(inner)
	cancel()
	watch.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // close, after run, closes it
	}
	e.log.Info("this machine has another address", "before", told, "now", e.advertised(e.memberNow()))
	e.mu.Lock()
	e.gossip = nil
	e.mu.Unlock()
	e.turned()
	return errors.Join(err, g.Close())
}

// movePause is between two looks at this machine's addresses.
const movePause = 5 * time.Second

// doubtLeader looks for another leader when the one that this node has a session
// with dies, as the others say. A machine that vanishes ends no session itself.
func (e *epoch) doubtLeader(ctx context.Context, g *gossip.Gossip) {
	var doubted time.Time // when the last one died: each death counts once
	for {
		changed := g.Changed()
		leader := e.client.Leader()
		if m, ok := g.Member(leader); ok && !m.Alive && !m.Since.Equal(doubted) {
			doubted = m.Since
			e.client.Suspect(leader)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// gossipKeys waits for the keys: from the state on a manager, from the first view elsewhere.
func (e *epoch) gossipKeys(ctx context.Context) ([][]byte, error) {
	for {
		seen := e.n.Changed()
		if m := e.managing(); m != nil && m.Known() {
			if keys, err := m.GossipKeys(); err != nil || len(keys) > 0 {
				return keys, err
			}
		}
		if v := e.client.View(); len(v.Keys) > 0 {
			return v.Keys, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-seen:
		}
	}
}

// gossips are the addresses of all others' gossip.
func (e *epoch) gossips() []string {
	var out []string
	for _, p := range e.peers() {
		if p.Gossip != "" {
			out = append(out, p.Gossip)
		}
	}
	if m := e.memberNow(); m != nil && len(out) == 0 {
		for _, c := range m.Managers {
			if c.ID != e.node && c.Gossip != "" {
				out = append(out, c.Gossip)
			}
		}
	}
	return out
}

// remember keeps where the managers are, for the next start.
func (e *epoch) remember(v dispatch.View) error {
	if g := e.gossiping(); g != nil {
		g.Know(e.gossips())
	}
	return e.changeMember(func(m *member) {
		m.Managers = nil
		for _, n := range v.Nodes {
			if n.Role == stack.RoleManager {
				m.Managers = append(m.Managers, contact{ID: n.ID, Addr: n.Addr, Gossip: n.Gossip})
			}
		}
	})
}
