package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// resumeTimeout bounds what is done for one container after the caller has gone.
const resumeTimeout = 2 * time.Minute

// journal keeps a file per operation that has quieted containers. It is on the
// disk before the first one is touched and goes when all are resumed.
type journal struct{ dir string }

type quieted struct {
	Volume string   `json:"volume"`
	Mode   Mode     `json:"mode"`
	IDs    []string `json:"ids"`
}

func (j journal) write(q quieted) (path string, err error) {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return "", err
	}
	data, err := json.Marshal(q)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(j.dir, ".new-*")
	if err != nil {
		return "", err
	}
	path = filepath.Join(j.dir, strings.TrimPrefix(filepath.Base(f.Name()), ".new-")+".json")
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return "", err
	}
	return path, fsx.WriteFile(path, data, true)
}

// quiet pauses or stops the containers that use a volume and run, when no other
// operation has them quiet any more. The function that it returns is never nil,
// resumes them, also after the context has ended, and may be called once.
func (s *Service) quiet(ctx context.Context, volume string, mode Mode) (resume func() error, err error) {
	nothing := func() error { return nil }
	if mode == Live {
		return nothing, nil
	}
	users := s.cfg.Volumes.Users(volume)
	if len(users) == 0 {
		return nothing, nil
	}
	if s.cfg.Users == nil {
		return nothing, fmt.Errorf("its users cannot be reached to %s them: %w", mode, runtime.ErrConflict)
	}
	done, err := s.turns.take(ctx, users)
	if err != nil {
		return nothing, err
	}
	over := func() error { done(); return nil }
	q := quieted{Volume: volume, Mode: mode}
	for _, id := range users {
		running, err := s.cfg.Users.Running(ctx, id)
		if err != nil {
			return over, err
		}
		if running {
			q.IDs = append(q.IDs, id)
		}
	}
	if len(q.IDs) == 0 {
		return over, nil
	}
	path, err := s.journal.write(q)
	if err != nil {
		return over, fmt.Errorf("journal: %w", err)
	}
	resume = func() error {
		defer done()
		return s.resume(context.WithoutCancel(ctx), path, q)
	}
	for _, id := range q.IDs {
		if err := s.still(ctx, id, mode); err != nil {
			return resume, err
		}
	}
	return resume, nil
}

func (s *Service) still(ctx context.Context, id string, mode Mode) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if mode == Stop {
		return s.cfg.Users.Stop(ctx, id)
	}
	return s.cfg.Users.Pause(ctx, id)
}

// resume brings all containers of q back, in reverse order; one that fails
// does not keep the others waiting, and keeps its entry in the journal.
func (s *Service) resume(ctx context.Context, path string, q quieted) error {
	var errs []error
	for i := len(q.IDs) - 1; i >= 0; i-- {
		if err := s.resumeOne(ctx, q.IDs[i], q.Mode); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *Service) resumeOne(ctx context.Context, id string, mode Mode) error {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	if mode == Stop {
		return s.cfg.Users.Start(ctx, id)
	}
	return s.cfg.Users.Unpause(ctx, id)
}

// Interrupted is what had quieted containers when the daemon died.
type Interrupted struct {
	s    *Service
	ops  []interrupted
	done func() // ends the containers' turns
}

type interrupted struct {
	path string // of its entry in the journal
	quieted
}

// Interrupted reads the journal that a dead daemon left. Call it before new
// backups can begin: their entries are not to be taken for old ones, and those
// of the same containers wait until they have been resumed. Entries that cannot
// be read are the error; the others are returned all the same.
func (s *Service) Interrupted() (Interrupted, error) {
	left := Interrupted{s: s, done: func() {}}
	entries, err := os.ReadDir(s.journal.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return left, nil
	}
	if err != nil {
		return left, fmt.Errorf("backup journal: %w", err)
	}
	var errs []error
	var ids []string
	for _, e := range entries {
		op := interrupted{path: filepath.Join(s.journal.dir, e.Name())}
		if filepath.Ext(op.path) != ".json" {
			os.Remove(op.path) // was never whole
			continue
		}
		data, err := os.ReadFile(op.path)
		if err == nil {
			err = json.Unmarshal(data, &op.quieted)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("backup journal %s (look for paused and stopped containers, then remove it): %w", op.path, err))
			continue
		}
		left.ops = append(left.ops, op)
		ids = append(ids, op.IDs...)
	}
	left.done, err = s.turns.take(context.Background(), ids) // nobody else is there yet
	return left, errors.Join(append(errs, err)...)
}

// Resume brings the containers back, once they can be reached. Call it once.
func (i Interrupted) Resume(ctx context.Context) error {
	defer i.done()
	if len(i.ops) > 0 && i.s.cfg.Users == nil {
		return errors.New("resume containers of interrupted backups: containers cannot be reached")
	}
	var errs []error
	for _, op := range i.ops {
		i.s.cfg.Log.Info("resuming containers of an interrupted backup", "volume", op.Volume, "mode", string(op.Mode), "containers", op.IDs)
		errs = append(errs, i.s.resume(ctx, op.path, op.quieted))
	}
	return errors.Join(errs...)
}
