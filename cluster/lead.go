package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/cluster/state"
)

// Life tells what is known of the nodes' lives.
type Life interface {
	Look() func(node string) Sighting // what is known now
	Terms() (lease, heartbeat time.Duration)
	Changed() <-chan struct{} // closed at the next change; a word of a node is none
	Recall(node string)       // makes a node that was stored to be down call again, if it can
}

// Duty is work that only the leader does. It ends with ctx.
type Duty func(ctx context.Context) error

// Run does the leader's work while this manager leads, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.followSettings(ctx) })
	g.Go(func() error { return m.leadWhenever(ctx) })
	return g.Wait()
}

// followSettings keeps this manager's log as the cluster's settings say.
func (m *Manager) followSettings(ctx context.Context) error {
	for {
		changed := m.store.Changed()
		if c := m.store.Snapshot().Cluster(); c != nil {
			if err := m.raft.SetSnapshotThreshold(c.Settings.SnapshotInterval); err != nil {
				m.log.Error("snapshot interval", "commands", c.Settings.SnapshotInterval, "error", err)
			}
		}
		if !wait(ctx, changed, time.Time{}) {
			return ctx.Err()
		}
	}
}

func (m *Manager) leadWhenever(ctx context.Context) error {
	for {
		changed := m.raft.LeaderChanged()
		if m.raft.Leading() {
			err := m.lead(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil && !errors.Is(err, errDeposed) {
				if !errors.Is(err, ErrNotLeader) {
					m.log.Error("lead", "error", err)
				}
				if !wait(ctx, changed, time.Now().Add(deposedPause)) {
					return ctx.Err()
				}
			}
			continue
		}
		if !wait(ctx, changed, time.Time{}) {
			return ctx.Err()
		}
	}
}

// deposedPause is how long who leads no more, or could not lead, waits for word of it.
const deposedPause = 100 * time.Millisecond

var errDeposed = errors.New("another manager leads")

// lead does the leader's duties until leadership goes or one of them fails.
// Everything it decides starts from the whole of what was committed before.
func (m *Manager) lead(ctx context.Context) error {
	if err := m.Verify(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	if err := m.bootstrap(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	if err := m.complete(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	if err := m.unforce(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	if err := m.sealPlain(ctx); err != nil {
		return fmt.Errorf("begin to lead: %w", err)
	}
	m.log.Info("this node leads", "node", m.node)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.untilDeposed(ctx) })
	g.Go(func() error { return m.reconcile(ctx) })
	g.Go(func() error { return m.followRoles(ctx) })
	g.Go(func() error { return m.finishRotation(ctx) })
	g.Go(func() error { return m.followHistory(ctx) })
	if m.cfg.Life != nil {
		g.Go(func() error { return m.watchLife(ctx) })
	}
	for _, duty := range m.cfg.Duties {
		g.Go(func() error { return duty(ctx) })
	}
	err := g.Wait()
	m.log.Info("this node leads no more", "node", m.node, "why", err)
	return err
}

func (m *Manager) untilDeposed(ctx context.Context) error {
	for {
		changed := m.raft.LeaderChanged()
		if !m.raft.Leading() {
			return errDeposed
		}
		if !wait(ctx, changed, time.Time{}) {
			return ctx.Err()
		}
	}
}

// follow calls step whenever the state or the leadership changes, and again at
// once while it says that there is more to do. What fails is tried again.
func (m *Manager) follow(ctx context.Context, what string, step func(*state.Snapshot) (more bool, err error)) error {
	backoff := time.Duration(0)
	for {
		changed := m.store.Changed()
		more, err := step(m.store.Snapshot())
		var next time.Time
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			backoff = min(max(2*backoff, 100*time.Millisecond), 5*time.Second)
			m.log.Warn(what, "error", err, "retry", backoff)
			next = time.Now().Add(backoff)
		case more:
			backoff = 0
			next = time.Now()
		default:
			backoff = 0
		}
		if !wait(ctx, changed, next) {
			return ctx.Err()
		}
	}
}

// watchLife stores which nodes are down.
func (m *Manager) watchLife(ctx context.Context) error {
	v := vigil{self: m.node, leads: time.Now()}
	for {
		v.lease, v.heartbeat = m.cfg.Life.Terms()
		changed, life := m.store.Changed(), m.cfg.Life.Changed()
		again, err := m.judge(ctx, v)
		if err != nil {
			return err
		}
		if !waitFor(ctx, changed, life, again) {
			return ctx.Err()
		}
	}
}

func (m *Manager) judge(ctx context.Context, v vigil) (time.Time, error) {
	if err := m.turn(ctx); err != nil {
		return time.Time{}, err
	}
	defer m.write.Unlock()
	down, gone, again := v.judge(m.store.Snapshot().Nodes(), m.cfg.Life.Look(), time.Now())
	var changes []state.Change
	for _, n := range down {
		m.log.Warn("node is down", "node", n.ID, "host", n.Hostname, "why", n.Message, "fenced", n.Fenced)
		changes = append(changes, state.Change{Node: n})
	}
	for _, n := range gone {
		m.log.Warn("node has joined and never called: forgotten", "node", n.ID, "host", n.Hostname)
		changes = append(changes, state.Change{Delete: &state.Key{Table: state.TableNode, Name: n.ID}})
	}
	if _, err := m.propose(ctx, changes); err != nil {
		return again, err
	}
	for _, n := range down {
		if !n.Fenced { // a link that was gone for a moment only has not ended its session
			m.cfg.Life.Recall(n.ID)
		}
	}
	return again, nil
}

// waitFor is wait with two things that may change.
func waitFor(ctx context.Context, a, b <-chan struct{}, at time.Time) bool {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-a:
	case <-b:
	case <-timer:
	}
	return true
}
