package state

import (
	"fmt"
	"sync"

	"github.com/hashicorp/go-memdb"
)

// Store holds the state. Apply and Restore are called by one goroutine at a
// time; everything else may be called from any.
type Store struct {
	mu      sync.Mutex
	db      *memdb.MemDB  // guarded by mu; replaced by Restore
	feed    history       // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced at every change
}

// New returns an empty store.
func New() *Store {
	return &Store{db: newDB(), changed: make(chan struct{})}
}

func newDB() *memdb.MemDB {
	db, err := memdb.NewMemDB(schema())
	if err != nil { // the schema is a constant of this program
		panic(fmt.Sprintf("state: schema: %v", err))
	}
	return db
}

// Changed returns a channel that is closed at the next change. Taken before a
// Snapshot, it misses none.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Snapshot returns the state as it is now, at a cost that does not grow with it.
func (s *Store) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Snapshot{txn: s.db.Txn(false)}
}

func (s *Store) current() *memdb.MemDB {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notifyLocked()
}

func (s *Store) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Apply does all changes of c as one, or none and says why. Index is that of
// the log entry; it is remembered also when nothing else changes.
func (s *Store) Apply(index uint64, c Command) error {
	t := &tx{txn: s.current().Txn(true), index: index, time: c.Time}
	defer t.txn.Abort() // does nothing after Commit
	for i, ch := range c.Changes {
		if err := t.apply(ch); err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
	}
	if err := t.finish(); err != nil {
		return err
	}
	t.txn.Commit()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.add(index, t.touched)
	if len(t.touched) > 0 {
		s.notifyLocked()
	}
	return nil
}
