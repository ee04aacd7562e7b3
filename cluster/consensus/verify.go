package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// lockDir makes dir and keeps a second process out of it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another daemon uses it")
	}
	return f, nil
}

// verify reads all of the log and the newest snapshot before raft does, which
// would panic on damage or pass over it.
func (l *Log) verify(snaps raft.SnapshotStore) error {
	snapIndex, err := verifySnapshot(snaps)
	if err != nil {
		return err
	}
	first, err := l.wal.FirstIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if last > 0 && first > snapIndex+1 {
		return fmt.Errorf("log begins at %d but the newest snapshot ends at %d: a snapshot is missing; %s", first, snapIndex, wayOut)
	}
	if end := max(last, snapIndex); end < l.mark.index {
		return fmt.Errorf("log ends at %d although %d was stored: its end is damaged; %s", end, l.mark.index, wayOut)
	}
	for i := first; i > 0 && i <= last; i++ {
		if err := l.verifyEntry(i); err != nil {
			return fmt.Errorf("log entry %d is damaged: %w; %s", i, err, wayOut)
		}
	}
	return nil
}

const wayOut = "put back a copy of this directory, or remove it to start with nothing: containers run on until `dhow up` of their stacks replaces them"

func (l *Log) verifyEntry(index uint64) error {
	var e raft.Log
	if err := l.wal.GetLog(index, &e); err != nil {
		return err
	}
	if e.Index != index {
		return fmt.Errorf("it says it is %d", e.Index)
	}
	if e.Type != raft.LogCommand {
		return nil
	}
	_, err := state.Decode(e.Data)
	return err
}

// verifySnapshot returns the index of the newest snapshot, 0 when there is none.
func verifySnapshot(snaps raft.SnapshotStore) (uint64, error) {
	metas, err := snaps.List()
	if err != nil {
		return 0, fmt.Errorf("snapshots: %w", err)
	}
	if len(metas) == 0 {
		return 0, nil
	}
	_, r, err := snaps.Open(metas[0].ID) // checks the checksum
	if err != nil {
		return 0, fmt.Errorf("snapshot %s is damaged: %w; %s", metas[0].ID, err, wayOut)
	}
	return metas[0].Index, r.Close()
}
