package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// verify reads all of the log and the newest snapshot before raft does, which
// would panic on damage or pass over it. On the way it brings the store to the
// mark: what was applied once is committed, and need not wait for a leader to
// say so.
func (f *files) verify(m *fsm) error {
	snapIndex, err := f.restore(m)
	if err != nil {
		return err
	}
	first, err := f.guard.FirstIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	last, err := f.guard.LastIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if last > 0 && first > snapIndex+1 {
		return fmt.Errorf("log begins at %d but the newest snapshot ends at %d: a snapshot is missing; %s", first, snapIndex, wayOut)
	}
	if end := max(last, snapIndex); end < f.mark.index {
		return fmt.Errorf("log ends at %d although %d was stored: its end is damaged; %s", end, f.mark.index, wayOut)
	}
	m.loaded = snapIndex
	if last > 0 && last < snapIndex {
		// A crash came between a snapshot from elsewhere and the removal of the
		// log that it replaces; behind the gap nothing could be stored.
		if err := f.guard.DeleteRange(first, last); err != nil {
			return fmt.Errorf("log: remove what the snapshot replaces: %w", err)
		}
		return nil
	}
	for i := first; i > 0 && i <= last; i++ {
		if err := f.verifyEntry(i, m, snapIndex); err != nil {
			return fmt.Errorf("log entry %d is damaged: %w; %s", i, err, wayOut)
		}
	}
	return nil
}

const wayOut = "put back a copy of this directory, or remove it to start with nothing: containers run on until `dhow up` of their stacks replaces them"

func (f *files) verifyEntry(index uint64, m *fsm, snapIndex uint64) error {
	var e raft.Log
	if err := f.guard.GetLog(index, &e); err != nil {
		return err
	}
	if e.Index != index {
		return fmt.Errorf("it says it is %d", e.Index)
	}
	if e.Type != raft.LogCommand {
		return nil
	}
	cmd, err := state.Decode(e.Data)
	if err != nil {
		return err
	}
	if index > snapIndex && index <= f.mark.index {
		_ = m.store.Apply(index, cmd) // a refused command was refused then too
		m.loaded = index
		m.applied.Store(index)
	}
	return nil
}

// restore gives the newest snapshot to the store and returns its index, 0 when there is none.
func (f *files) restore(m *fsm) (uint64, error) {
	metas, err := f.snaps.List()
	if err != nil {
		return 0, fmt.Errorf("snapshots: %w", err)
	}
	if len(metas) == 0 {
		return 0, nil
	}
	_, r, err := f.snaps.Open(metas[0].ID) // checks the checksum
	if err == nil {
		err = m.Restore(r)
	}
	if err != nil {
		return 0, fmt.Errorf("snapshot %s is damaged: %w; %s", metas[0].ID, err, wayOut)
	}
	return metas[0].Index, nil
}
