package consensus

import (
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
	loaded  uint64        // the store held the log up to here before raft began to apply
	applied atomic.Uint64 // the last command applied
}

func (f *fsm) Apply(l *raft.Log) any {
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

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{f.store.Snapshot()}, nil
}

// Restore replaces the store's state. Its commands before that do not come again.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := f.store.Restore(r); err != nil {
		return err
	}
	f.applied.Store(f.store.Snapshot().Index())
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
