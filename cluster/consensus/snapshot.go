package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hashicorp/raft"

	"github.com/dhow-project/dhow/cluster/state"
)

// Snapshot writes a snapshot now and compacts the log.
func (l *Log) Snapshot() error {
	if err := l.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// SetSnapshotThreshold sets after how many commands the log is compacted; 0: the default.
func (l *Log) SetSnapshotThreshold(commands uint64) error {
	if commands == 0 {
		commands = l.cfg.SnapshotThreshold
	}
	rc := l.raft.ReloadableConfig()
	if rc.SnapshotThreshold == commands {
		return nil
	}
	rc.SnapshotThreshold = commands
	return l.raft.ReloadConfig(rc)
}

// Save writes an archive of the state as this manager has it; after Verify it
// is the cluster's. It needs no disk. Extra goes into the header as it is.
func (l *Log) Save(w io.Writer, extra map[string][]byte) (Header, error) {
	snap := l.cfg.Store.Snapshot()
	h := Header{Format: archiveFormat, Index: snap.Index(), Term: l.raft.CurrentTerm(), Time: time.Now().UTC(), Extra: extra}
	if c := snap.Cluster(); c != nil {
		h.Cluster = c.ID
	}
	if err := writeArchive(w, &h, snap.Persist); err != nil {
		return Header{}, fmt.Errorf("save snapshot: %w", err)
	}
	return h, nil
}

// Restore replaces the state of the whole cluster by an archive, on the leader.
// Edit, when there is one, changes it before anybody has it; its commands have
// the index of the header. Restore returns when a majority has the outcome. A
// damaged archive is refused before anything changes.
func (l *Log) Restore(ctx context.Context, r io.Reader, edit func(*state.Store, Header) error) (Header, error) {
	if !l.Leading() {
		return Header{}, fmt.Errorf("restore snapshot: %w", l.notLeader())
	}
	h, err := l.restore(ctx, r, edit)
	if err != nil {
		return Header{}, fmt.Errorf("restore snapshot: %w", err)
	}
	return h, nil
}

func (l *Log) restore(ctx context.Context, r io.Reader, edit func(*state.Store, Header) error) (Header, error) {
	f, err := os.CreateTemp(l.cfg.Dir, "restore-*.tmp")
	if err != nil {
		return Header{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h, err := readArchive(r, f)
	if err != nil {
		return Header{}, err
	}
	// Raft panics when a state that it has accepted cannot be loaded: it is tried first.
	loaded := state.New()
	if err := rewound(f, loaded.Restore); err != nil {
		return Header{}, err
	}
	if edit != nil {
		if h.Size, err = edited(f, loaded, h, edit); err != nil {
			return Header{}, err
		}
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: h.Index, Term: h.Term, Size: h.Size}
	give := func(r io.Reader) error {
		timeout := time.Duration(0)
		if at, ok := ctx.Deadline(); ok {
			timeout = max(time.Until(at), 1)
		}
		return l.raft.Restore(meta, r, timeout)
	}
	if err := l.settledMembers(ctx, func() error { return rewound(f, give) }); err != nil {
		return Header{}, l.outcome(err)
	}
	// The state speaks of its own old index until the next command: readers wait for indexes to grow.
	if _, err := l.Apply(ctx, state.Command{Time: time.Now().UnixNano()}); err != nil {
		return Header{}, err
	}
	return h, nil
}

// settledMembers does what raft refuses while a change of who takes part is not
// committed. A manager that has just joined gets its vote in the background.
func (l *Log) settledMembers(ctx context.Context, do func() error) error {
	done, err := l.holdMembers(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := wait(ctx, l, l.barrier); err != nil {
		return err
	}
	return do()
}

// edited replaces what is in f by loaded as edit leaves it, and returns its size.
func edited(f *os.File, loaded *state.Store, h Header, edit func(*state.Store, Header) error) (int64, error) {
	if err := edit(loaded, h); err != nil {
		return 0, err
	}
	if err := f.Truncate(0); err != nil {
		return 0, err
	}
	size := counter(0)
	write := func(io.Reader) error {
		b := bufio.NewWriter(f)
		return errors.Join(loaded.Snapshot().Persist(io.MultiWriter(b, &size)), b.Flush())
	}
	err := rewound(f, write)
	return int64(size), err
}

func rewound(f *os.File, use func(io.Reader) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return use(f)
}
