package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// segmentSize of the log's files, bytes. They are allocated in full, so small
// enough for a laptop; a command may be larger.
const segmentSize = 8 << 20

// store keeps log entries in raft-wal. After a write that failed, as on a full
// disk, raft-wal is no longer of one mind with its files: it refuses every
// further write, or would write to a segment that its own index has closed. So
// it is opened again from what the disk has, before the next write; until that
// succeeds the old one is read from.
type store struct {
	dir  string
	log  *slog.Logger
	meta *metadb.BoltMetaDB // shared by the log and the one that replaces it

	write  sync.Mutex // one write at a time
	last   uint64     // guarded by write; the last entry of which raft was told that it is stored
	broken error      // guarded by write; of the last write

	mu  sync.RWMutex // held for writing while wal is replaced
	wal *wal.WAL     // guarded by mu
}

func openStore(dir string, log *slog.Logger) (*store, error) {
	s := &store{dir: dir, log: log, meta: &metadb.BoltMetaDB{}}
	w, err := s.open()
	if err != nil {
		return nil, errors.Join(err, s.meta.Close())
	}
	s.wal = w
	if s.last, err = w.LastIndex(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *store) open() (*wal.WAL, error) {
	return wal.Open(s.dir, wal.WithMetaStore(kept{s.meta}), wal.WithSegmentSize(segmentSize), wal.WithLogger(newLogger(s.log)))
}

// kept is a meta store that a log does not close when another replaces it.
type kept struct{ *metadb.BoltMetaDB }

func (kept) Close() error { return nil }

// current returns the log to read; done must be called after.
func (s *store) current() (w *wal.WAL, done func()) {
	s.mu.RLock()
	return s.wal, s.mu.RUnlock
}

// change does one write, and once more after opening the log again when it failed.
func (s *store) change(do func(*wal.WAL) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	if s.broken == nil {
		if s.broken = s.try(do); s.broken == nil {
			return nil
		}
	}
	if err := s.reopenLocked(); err != nil {
		s.broken = err
		return err
	}
	s.broken = s.try(do)
	return s.broken
}

func (s *store) try(do func(*wal.WAL) error) error {
	w, done := s.current()
	defer done()
	return do(w)
}

// reopenLocked makes the log what raft believes it to be: of a write that failed,
// nothing is left.
func (s *store) reopenLocked() error {
	w, err := s.open()
	if err != nil {
		return fmt.Errorf("open log again: %w", err)
	}
	last, err := w.LastIndex()
	switch {
	case err != nil:
	case last < s.last:
		err = fmt.Errorf("it ends at %d instead of %d", last, s.last)
	case last > s.last:
		err = w.DeleteRange(s.last+1, last)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open log again: %w", err), w.Close())
	}
	s.mu.Lock()
	old := s.wal
	s.wal = w
	s.mu.Unlock()
	s.log.Warn("log opened again", "after", s.broken, "last", s.last)
	return old.Close()
}

// StoreLog stores an entry durably.
func (s *store) StoreLog(e *raft.Log) error { return s.StoreLogs([]*raft.Log{e}) }

// StoreLogs stores entries durably, all or none.
func (s *store) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	return s.change(func(w *wal.WAL) error {
		err := w.StoreLogs(entries)
		if err == nil {
			s.last = entries[len(entries)-1].Index
		}
		return err
	})
}

// DeleteRange deletes entries at the beginning or at the end. One that fails
// is made up for when the log is opened again.
func (s *store) DeleteRange(from, to uint64) error {
	return s.change(func(w *wal.WAL) error {
		first, err := w.FirstIndex()
		if err != nil {
			return err
		}
		switch {
		case to < s.last || from > to: // the beginning
		case from <= first:
			s.last = 0
		case from <= s.last:
			s.last = from - 1
		}
		return w.DeleteRange(from, to)
	})
}

// FirstIndex of the log; 0: it is empty.
func (s *store) FirstIndex() (uint64, error) {
	w, done := s.current()
	defer done()
	return w.FirstIndex()
}

// LastIndex of the log; 0: it is empty.
func (s *store) LastIndex() (uint64, error) {
	w, done := s.current()
	defer done()
	return w.LastIndex()
}

// GetLog reads an entry; raft.ErrLogNotFound when there is none.
func (s *store) GetLog(index uint64, e *raft.Log) error {
	w, done := s.current()
	defer done()
	return w.GetLog(index, e)
}

// IsMonotonic tells raft that entries have no gaps.
func (s *store) IsMonotonic() bool { return true }

// Close closes the files.
func (s *store) Close() error {
	w, done := s.current()
	defer done()
	if w == nil {
		return s.meta.Close()
	}
	return errors.Join(w.Close(), s.meta.Close())
}

// GetUint64 and Get read terms and votes from where they were kept before they
// had a file of their own.

// GetUint64 returns a term.
func (s *store) GetUint64(key []byte) (uint64, error) {
	w, done := s.current()
	defer done()
	return w.GetUint64(key)
}

// Get returns a candidate.
func (s *store) Get(key []byte) ([]byte, error) {
	w, done := s.current()
	defer done()
	return w.Get(key)
}
