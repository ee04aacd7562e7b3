package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// flush syncs what has been written since the last call, all files of one
// round together so that the disk does it in few commits.
func (s *store) flush() {
	s.mu.Lock()
	ids := s.dirty
	s.dirty = map[string]bool{}
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	again := map[string]bool{}
	var failed error
	for id := range ids {
		if err := s.syncContainer(id); err != nil {
			again[id] = true
			failed = errors.Join(failed, err)
		}
	}
	if err := s.sync(s.dir); err != nil { // that they are there at all
		again = ids
		failed = errors.Join(failed, err)
	}
	s.synced(again, failed)
}

// syncContainer syncs the files of one container.
func (s *store) syncContainer(id string) error {
	var failed error
	for _, path := range []string{filepath.Join(s.path(id), recordFile), filepath.Join(s.path(id), stateFile), s.path(id)} {
		if err := s.sync(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// synced notes what has to be synced once more, and tells why, once.
func (s *store) synced(again map[string]bool, err error) {
	for id := range again {
		s.mark(id)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	told := s.told
	s.told = text
	s.mu.Unlock()
	switch {
	case text == told:
	case err != nil:
		s.log.Error("records of containers are not safely on disk: tried again every second", "err", err)
	default:
		s.log.Info("records of containers are safely on disk again")
	}
}

// syncPath waits until a file, or the entries of a directory, are on disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// flushLoop flushes at most once a second until done is closed, and then once more.
func (s *store) flushLoop(done <-chan struct{}) {
	defer s.flush()
	for {
		select {
		case <-done:
			return
		case <-s.wake:
		}
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		s.flush()
	}
}
