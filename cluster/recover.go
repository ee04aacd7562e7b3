package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/cluster/consensus"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Recover makes the manager that keeps its state in dataDir the only one, after
// most of the managers were lost for good. No Manager may be open. Everything
// it has stays; the others become workers when they come back.
func Recover(dataDir, node string, log *slog.Logger) error {
	dir := filepath.Join(dataDir, "cluster")
	if err := os.WriteFile(forcedFile(dataDir), nil, 0o600); err != nil {
		return err
	}
	return consensus.Recover(consensus.Config{Dir: dir, ID: node, Store: state.New(), Log: log})
}

// forcedFile stands from a Recover until the state says so too.
func forcedFile(dataDir string) string { return filepath.Join(dataDir, "cluster", "forced") }

// unforce stores what a Recover means for the other managers.
func (m *Manager) unforce(ctx context.Context) error {
	path := forcedFile(m.cfg.DataDir)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var changes []state.Change
	for _, n := range m.store.Snapshot().Nodes() {
		if n.ID != m.node && n.Role == stack.RoleManager {
			w := *n
			w.Role = stack.RoleWorker
			w.Edits++
			changes = append(changes, state.Change{Node: &w})
		}
	}
	if _, err := m.propose(ctx, changes); err != nil {
		return err
	}
	m.log.Warn("this manager goes on alone", "demoted", len(changes))
	return os.Remove(path)
}

// HandOver gives the lead to another manager.
func (m *Manager) HandOver(ctx context.Context) error { return leadership(m.raft.Transfer(ctx)) }

// sealKeys is what an archive calls the keys that open what is sealed in it.
const sealKeys = "seal"

// SaveSnapshot writes the state that this manager has as an archive; after
// Verify it is the cluster's. It holds the keys of what is sealed in it: whoever
// has the archive can read the secrets.
func (m *Manager) SaveSnapshot(_ context.Context, w io.Writer) error {
	extra := map[string][]byte{}
	if m.cfg.SealKeys != nil {
		keys, err := m.cfg.SealKeys()
		if err != nil {
			return err
		}
		extra[sealKeys] = keys
	}
	_, err := m.raft.Save(w, extra)
	return err
}

// RestoreSnapshot replaces the state of the whole cluster by an archive. Nodes
// that are members now stay members, and those that the archive alone knows
// are left out.
func (m *Manager) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	m.write.Lock()
	defer m.write.Unlock()
	before := m.store.Snapshot()
	h, err := m.raft.Restore(ctx, r)
	if err != nil {
		return leadership(err)
	}
	if keys := h.Extra[sealKeys]; len(keys) > 0 && m.cfg.AddSealKeys != nil {
		if err := m.cfg.AddSealKeys(keys); err != nil {
			return fmt.Errorf("keys of the archive: %w", err)
		}
	}
	var changes []state.Change
	if c := before.Cluster(); c != nil { // the authority, tokens and ID stay: nodes hold certificates of them
		changes = append(changes, state.Change{Cluster: c})
	}
	after := m.store.Snapshot()
	for _, n := range after.Nodes() {
		if before.Node(n.ID) == nil {
			changes = append(changes, state.Change{Delete: &state.Key{Table: state.TableNode, Name: n.ID}})
		}
	}
	for _, n := range before.Nodes() {
		changes = append(changes, state.Change{Node: n})
	}
	_, err = m.propose(ctx, changes)
	return err
}

// InspectSnapshot reads and checks an archive.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) {
	h, err := consensus.Inspect(r)
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("snapshot: %w: %w", runtime.ErrInvalid, err)
	}
	return SnapshotInfo{Cluster: h.Cluster, Index: h.Index, Term: h.Term, Size: h.Size, Created: h.Time, Checksum: h.SHA256}, nil
}
