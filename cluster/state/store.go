package state

import (
	"fmt"
	"sync"
)

// Store holds the state. Apply and Restore are called by one goroutine at a
// time; everything else may be called from any.
type Store struct {
	mu      sync.Mutex
	tables  tables        // guarded by mu
	feed    history       // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced at every change
}

// New returns an empty store.
func New() *Store {
	return &Store{tables: newTables(), changed: make(chan struct{})}
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
	return &Snapshot{tables: s.tables}
}

func (s *Store) notifyLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Apply does all changes of c as one, or none and says why. Index is that of
// the log entry; it is remembered also when nothing else changes.
func (s *Store) Apply(index uint64, c Command) error {
	t := &tx{tables: s.Snapshot().tables, edit: &edit{}, index: index, time: c.Time}
	for i, ch := range c.Changes {
		if err := t.apply(ch); err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
	}
	t.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = t.tables
	s.feed.add(index, t.touched)
	if len(t.touched) > 0 {
		s.notifyLocked()
	}
	return nil
}
