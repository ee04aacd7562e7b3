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
	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Recover makes the manager that keeps its state in dataDir the only one, after
// most of the managers were lost for good. No Manager may be open. After a
// crash it may be done again. Everything
// it has stays; the others become workers when they come back.
func Recover(dataDir, node string, log *slog.Logger) error {
	dir := filepath.Join(dataDir, "cluster")
	if err := consensus.Recover(consensus.Config{Dir: dir, ID: node, Store: state.New(), Log: log}); err != nil {
		return err
	}
	return durable.WriteFile(forcedFile(dataDir), nil, 0o600)
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
	return durable.Remove(path)
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

// InspectSnapshot reads and checks an archive, and counts what is in it.
func InspectSnapshot(r io.Reader) (SnapshotInfo, error) {
	pr, pw := io.Pipe()
	var n map[state.Table]int
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		var err error
		n, err = state.Count(pr)
		_ = pr.CloseWithError(err) // the writer meets it
	}()
	h, err := consensus.InspectState(r, pw)
	_ = pw.CloseWithError(err) // nil is the end
	<-counted
	switch {
	case err != nil:
		return SnapshotInfo{}, fmt.Errorf("snapshot: %w: %w", runtime.ErrInvalid, err)
	case n == nil:
		return SnapshotInfo{}, fmt.Errorf("snapshot: the state in it is cut off: %w", runtime.ErrInvalid)
	}
	return SnapshotInfo{
		Cluster: h.Cluster, Index: h.Index, Term: h.Term, Size: h.Size, Created: h.Time, Checksum: h.SHA256,
		Nodes: n[state.TableNode], Stacks: n[state.TableStack], Services: n[state.TableService], Tasks: n[state.TableTask],
	}, nil
}
