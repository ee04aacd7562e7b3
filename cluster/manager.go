package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster/consensus"
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

	// write is held from reading what a command builds on until it is applied,
	// so that no two commands build on the same past. Reports do not need it:
	// they write fields of their own.
	write sync.Mutex
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
	m := &Manager{cfg: cfg, log: cfg.Log, node: id.Node, store: state.New()}
	if m.raft, err = consensus.Open(consensus.Config{Dir: dir, ID: id.Node, Store: m.store, Log: cfg.Log}); err != nil {
		return nil, err
	}
	if err := m.bootstrap(); err != nil {
		return nil, fmt.Errorf("bootstrap cluster: %w", errors.Join(err, m.raft.Close()))
	}
	return m, nil
}

// bootstrap writes what the state lacks: the cluster's record, this node and
// the network of containers that name none.
func (m *Manager) bootstrap() error {
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
	_, err := m.propose(context.Background(), changes)
	return err
}

// self is this node's record when it is not as it should be.
func (m *Manager) self(snap *state.Snapshot, now int64) *stack.Node {
	n := m.cfg.Node
	n.ID, n.Role, n.Created = m.node, stack.RoleManager, now
	if old := snap.Node(m.node); old != nil {
		n.Created, n.Availability, n.Labels = old.Created, old.Availability, old.Labels
		if reflect.DeepEqual(n, *old) {
			return nil
		}
	}
	return &n
}

// propose stores changes as one command and returns its index. Without changes it does nothing.
func (m *Manager) propose(ctx context.Context, changes []state.Change) (uint64, error) {
	if len(changes) == 0 {
		return m.Index(), nil
	}
	return m.raft.Apply(ctx, state.Command{Time: time.Now().UnixNano(), Changes: changes})
}

// Close stops consensus. No method may be called afterwards.
func (m *Manager) Close() error { return m.raft.Close() }

// ID is the ID of the cluster; containers carry it as a label.
func (m *Manager) ID() string { return m.store.Snapshot().Cluster().ID }

// NodeID is the ID of this node.
func (m *Manager) NodeID() string { return m.node }

// Changed returns a channel that is closed at the next change of the state.
// Take it before reading, so that no change is missed.
func (m *Manager) Changed() <-chan struct{} { return m.store.Changed() }

// Index is the index of the last change of the state.
func (m *Manager) Index() uint64 { return m.store.Snapshot().Index() }

// Nodes returns all nodes, by ID.
func (m *Manager) Nodes() []stack.Node {
	var out []stack.Node
	for _, n := range m.store.Snapshot().Nodes() {
		out = append(out, *n)
	}
	return out
}
