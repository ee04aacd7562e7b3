package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// store keeps records and states, one small file each.
//
// Every write is a new file renamed over the old one, so that a kill -9 leaves
// one of the two. It does not wait for the disk: after a power cut the
// processes are gone anyway, and what must not be lost, that a container
// exists, is synced by flush within a second (see docs/adr/0007).
type store struct {
	dir  string
	seal *sealer
	log  *slog.Logger
	sync func(path string) error

	mu    sync.Mutex
	dirty map[string]bool // guarded by mu; directories of containers to sync
	told  string          // guarded by mu; the last error of a sync, which comes again every second
	wake  chan struct{}   // buffered; tells flush that there is something
}

const (
	recordFile = "record.json"
	stateFile  = "state.json"
)

func openStore(dataDir string, log *slog.Logger) (*store, error) {
	s := &store{
		dir: filepath.Join(dataDir, "containers"), log: log, sync: syncPath, dirty: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	if err := os.MkdirAll(s.dir, 0o710); err != nil {
		return nil, err
	}
	var err error
	s.seal, err = openSealer(filepath.Join(dataDir, "container-key"), s.sealedSomething)
	return s, err
}

// sealedSomething tells whether a record needs the key that is there.
func (s *store) sealedSomething() bool {
	paths, _ := filepath.Glob(filepath.Join(s.dir, "*", recordFile)) // the pattern is a good one
	for _, path := range paths {
		var rec record
		if err := readJSON(path, &rec); err != nil {
			return true // it may
		}
		for _, f := range append(rec.Spec.Secrets, rec.Spec.Configs...) {
			if f.Data != nil {
				return true
			}
		}
	}
	return false
}

func (s *store) path(id string) string    { return filepath.Join(s.dir, id) }
func (s *store) logPath(id string) string { return filepath.Join(s.dir, id, id+".log") }

// create makes a container's directory with its record and state. The
// directory appears by one rename, complete.
func (s *store) create(rec record, st state) error {
	tmp := s.path(".new-" + rec.ID)
	if err := os.Mkdir(tmp, 0o710); err != nil {
		return err
	}
	err := s.writeRecord(tmp, rec)
	if err == nil {
		err = writeJSON(filepath.Join(tmp, stateFile), st)
	}
	if err == nil {
		err = os.Rename(tmp, s.path(rec.ID))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	s.mark(rec.ID)
	return nil
}

func (s *store) saveRecord(rec record) error {
	if err := s.writeRecord(s.path(rec.ID), rec); err != nil {
		return fmt.Errorf("save record: %w", err)
	}
	s.mark(rec.ID)
	return nil
}

func (s *store) writeRecord(dir string, rec record) error {
	if rec.locked != nil {
		return rec.locked // what is on disk can still be read with the right key
	}
	sealed, err := s.seal.sealSpec(rec.Spec)
	if err != nil {
		return err
	}
	rec.Spec = sealed
	return writeJSON(filepath.Join(dir, recordFile), rec)
}

func (s *store) saveState(id string, st state) error {
	if err := writeJSON(filepath.Join(s.path(id), stateFile), st); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	s.mark(id)
	return nil
}

// noteState writes a state that may be lost when the machine goes down: nobody
// waits for the disk because of it.
func (s *store) noteState(id string, st state) error {
	if err := writeJSON(filepath.Join(s.path(id), stateFile), st); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// remove forgets a container; its directory disappears by one rename.
func (s *store) remove(id string) error {
	trash := s.path(".gone-" + id)
	if err := os.Rename(s.path(id), trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(trash)
}

// load reads all containers and removes what was being made or removed.
func (s *store) load(report func(id string, err error)) ([]*container, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var out []*container
	for _, entry := range entries {
		id := entry.Name()
		if id[0] == '.' {
			if err := os.RemoveAll(s.path(id)); err != nil {
				return nil, err
			}
			continue
		}
		var rec record
		if err := readJSON(filepath.Join(s.path(id), recordFile), &rec); err != nil {
			report(id, fmt.Errorf("unreadable record: %w", err))
			continue
		}
		if rec.ID != id {
			report(id, fmt.Errorf("the record in %s is that of another container: %q", s.path(id), rec.ID))
			continue
		}
		if rec.Spec, rec.locked = s.seal.openSpec(rec.Spec); rec.locked != nil {
			report(id, rec.locked)
		}
		var st state
		unsure := false
		if err := readJSON(filepath.Join(s.path(id), stateFile), &st); err != nil {
			report(id, fmt.Errorf("unreadable state, taken as stopped unless it runs: %w", err))
			st, unsure = stoppedState(), true
		}
		c := newContainer(rec, st)
		c.unsure = unsure
		out = append(out, c)
	}
	return out, nil
}

// has tells whether there is a record, readable or not.
func (s *store) has(id string) bool {
	_, err := os.Lstat(s.path(id))
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *store) mark(id string) {
	s.mu.Lock()
	s.dirty[id] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}

// writeFile replaces path by one rename.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, mode); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

// writeDurable does the same and waits for the disk.
func writeDurable(path string, data []byte, mode os.FileMode) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncPath(filepath.Dir(path))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
