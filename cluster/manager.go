package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/consensus"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Manager is one manager of the cluster.
type Manager struct {
	cfg   Config
	log   *slog.Logger
	node  string
	store *state.Store
	raft  *consensus.Log

	logins   loginCache
	contents contentCache

	// write is held from reading what a command builds on until it is applied,
	// so that no two commands build on the same past: turn takes it. Reports do
	// not need it: they write fields of their own.
	write gate
	books *address.Books // guarded by write; nil: this manager does not lead
}

// Open opens or bootstraps the replicated state. It returns when the state is
// complete, so that nothing decided from it rests on a part of the past.
func Open(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	dir := filepath.Join(cfg.DataDir, "cluster")
	id, err := loadIdentity(dir, cfg.NodeID)
	if err != nil {
		return nil, fmt.Errorf("open cluster state: %w", err)
	}
	if cfg.Seal == nil {
		ring, err := seal.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open cluster state: %w", err)
		}
		cfg.Seal, cfg.SealKeys = ring, ring.Export
	}
	m := &Manager{cfg: cfg, log: cfg.Log, node: id.Node, store: state.New(), write: make(gate, 1)}
	if m.raft, err = consensus.Open(consensus.Config{Dir: dir, ID: id.Node, Store: m.store, Log: cfg.Log, Stream: cfg.Stream, Join: cfg.Join}); err != nil {
		return nil, err
	}
	if !m.raft.Leading() {
		return m, nil // the leader, once there is one, writes what is missing
	}
	if err := m.bootstrap(context.Background()); err != nil && !errors.Is(err, ErrNotLeader) {
		return nil, fmt.Errorf("bootstrap cluster: %w", errors.Join(err, m.raft.Close()))
	}
	return m, nil
}

// bootstrap writes what the state lacks: the cluster's record, this node and
// the network of containers that name none.
func (m *Manager) bootstrap(ctx context.Context) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	now := time.Now().UnixNano()
	var changes []state.Change
	if snap.Cluster() == nil {
		changes = append(changes, state.Change{Cluster: &state.Cluster{ID: newID(), Created: now}})
	}
	if n := m.self(snap, now); n != nil {
		changes = append(changes, state.Change{Node: n})
	}
	if snap.Network(DefaultNetwork) == nil && m.cfg.Subnets != nil {
		n, err := m.resolve(snap, stack.Network{Name: DefaultNetwork, Driver: "bridge"}, now)
		if err != nil {
			return err
		}
		changes = append(changes, state.Change{Network: n})
	}
	_, err := m.propose(ctx, changes)
	return err
}

// self is this node's record when it is not as it should be.
func (m *Manager) self(snap *state.Snapshot, now int64) *stack.Node {
	old := snap.Node(m.node)
	if old == nil {
		n := m.cfg.Node
		n.ID, n.Role, n.Created, n.Edits = m.node, stack.RoleManager, now, 1
		return &n
	}
	n := withFacts(*old, m.cfg.Node)
	n.Down, n.Fenced, n.Message = false, false, ""
	n.Addr, n.Gossip, n.Issuer = old.Addr, old.Gossip, old.Issuer // its session tells them
	n.DataAddr, n.MTU, n.Ranges, n.Addrs, n.Problems = old.DataAddr, old.MTU, old.Ranges, old.Addrs, old.Problems
	if sameNode(old, &n) {
		return nil
	}
	return &n
}

// gate is a lock whose waiters may give up.
type gate chan struct{}

func (g gate) Lock()   { g <- struct{}{} }
func (g gate) Unlock() { <-g }

// turn takes write when the state here is all that a command may be built on:
// a leader that has just been elected may not have applied yet what the one
// before it has acknowledged, and a command whose client has gone may be on its
// way still. Whoever got no error unlocks write.
func (m *Manager) turn(ctx context.Context) error {
	select {
	case m.write <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("the command before this one is not stored yet, as the leader's disk or the other managers are slow: %w", ctx.Err())
	}
	if err := m.raft.Settle(ctx); err != nil {
		m.write.Unlock()
		return leadership(err)
	}
	return nil
}

// propose stores changes as one command and returns its index. Without changes it does nothing.
func (m *Manager) propose(ctx context.Context, changes []state.Change) (uint64, error) {
	if len(changes) == 0 {
		return m.Index(), nil
	}
	index, err := m.raft.Apply(ctx, state.Command{Time: time.Now().UnixNano(), Changes: changes})
	return index, leadership(err)
}

// leadership tells in this package's words that a command needs another leader.
func leadership(err error) error {
	switch {
	case errors.Is(err, consensus.ErrOutcomeUnknown):
		return fmt.Errorf("%w: %w", ErrLeaderLost, err)
	case errors.Is(err, consensus.ErrNotLeader):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return err
}

// Leading reports whether this manager leads, as far as it knows.
func (m *Manager) Leading() bool { return m.raft.Leading() }

// Leader is the ID of the node that leads; "" when it is not known.
func (m *Manager) Leader() string { return m.raft.Leader() }

// LeaderChanged is closed when Leader or Leading answer otherwise.
func (m *Manager) LeaderChanged() <-chan struct{} { return m.raft.LeaderChanged() }

// Known reports whether this manager has a copy of the state at all: one that
// has just joined waits for it.
func (m *Manager) Known() bool { return m.store.Snapshot().Cluster() != nil }

// RoleOf is a node's role; false when it is not of this cluster, or not any more.
func (m *Manager) RoleOf(node string) (stack.Role, bool) {
	n := m.store.Snapshot().Node(node)
	if n == nil {
		return "", false
	}
	return n.Role, true
}

// Close stops consensus. No method may be called afterwards.
func (m *Manager) Close() error { return m.raft.Close() }

// ID is the ID of the cluster; containers carry it as a label.
func (m *Manager) ID() string {
	if c := m.store.Snapshot().Cluster(); c != nil {
		return c.ID
	}
	return ""
}

// NodeID is the ID of this node.
func (m *Manager) NodeID() string { return m.node }

// Changed returns a channel that is closed at the next change of the state.
// Take it before reading, so that no change is missed.
func (m *Manager) Changed() <-chan struct{} { return m.store.Changed() }

// Index is the index of the last change of the state.
func (m *Manager) Index() uint64 { return m.store.Snapshot().Index() }
