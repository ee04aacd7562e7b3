package consensus

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// fsm decodes and applies. Its answer to a command is an error or nil; a
// command that is refused is refused on every manager alike.
type fsm struct {
	store   *state.Store
	mark    *mark
	loaded  uint64        // the store held the commands up to here before raft began to apply
	seen    uint64        // the last command that raft applied
	applied atomic.Uint64 // the last command applied
}

func (f *fsm) Apply(l *raft.Log) any {
	f.seen = l.Index
	if l.Index <= f.loaded {
		return nil
	}
	cmd, err := state.Decode(l.Data)
	if err == nil {
		err = f.store.Apply(l.Index, cmd)
	}
	f.mark.set(l.Index)
	f.applied.Store(l.Index)
	if err != nil {
		return err
	}
	return nil
}

// Snapshot returns the state. Raft would take it for that of the last command
// it applied, which it is not before raft has come to where the store is.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.seen < f.loaded {
		return nil, errors.New("the log is still being replayed")
	}
	return snapshot{f.store.Snapshot()}, nil
}

// Restore replaces the store's state. Its commands before that do not come again.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.store.Restore(r); err != nil {
		return err
	}
	f.applied.Store(f.store.Snapshot().Index())
	f.loaded = 0
	return nil
}

type snapshot struct{ *state.Snapshot }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.Snapshot.Persist(sink); err != nil {
		_ = sink.Cancel() // the first error says why
		return err
	}
	return sink.Close()
}

func (snapshot) Release() {}
