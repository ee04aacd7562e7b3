package consensus

import (
	"io"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// fsm decodes and applies. Its answer to a command is an error or nil; a
// command that is refused is refused on every manager alike.
type fsm struct {
	store *state.Store
	mark  *mark
}

func (f *fsm) Apply(l *raft.Log) any {
	cmd, err := state.Decode(l.Data)
	if err == nil {
		err = f.store.Apply(l.Index, cmd)
	}
	f.mark.set(l.Index)
	if err != nil {
		return err
	}
	return nil
}

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{f.store.Snapshot()}, nil
}

func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	return f.store.Restore(r)
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
