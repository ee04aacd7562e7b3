package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hashicorp/raft"
)

// files is what a log has on disk.
type files struct {
	lock  *os.File
	mark  *mark
	store *store
	vote  *vote
	guard *guard // over store and vote: what raft uses
	snaps raft.SnapshotStore
}

// open opens all, or makes what is new. After an error, close closes what is open.
func (f *files) open(cfg Config) error {
	var err error
	if f.lock, err = lockDir(cfg.Dir); err != nil {
		return err
	}
	if f.mark, err = openMark(filepath.Join(cfg.Dir, "mark")); err != nil {
		return err
	}
	dir := filepath.Join(cfg.Dir, "raft")
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && f.mark.index > 0 {
		return fmt.Errorf("directory raft is missing although %d commands have been stored in it; put it back, or remove %s to start with nothing", f.mark.index, cfg.Dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	logger := newLogger(cfg.Log)
	if f.store, err = openStore(dir, cfg.Log); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if f.vote, err = openVote(dir, f.store); err != nil {
		return fmt.Errorf("vote: %w; %s", err, wayOut)
	}
	var logs raft.LogStore = f.store
	if cfg.WrapLog != nil {
		logs = cfg.WrapLog(logs)
	}
	f.guard = newGuard(logs, f.vote, cfg.Log)
	if err := sweepSnapshots(filepath.Join(dir, "snapshots")); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	if f.snaps, err = raft.NewFileSnapshotStoreWithLogger(dir, 2, logger); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	return nil
}

// sweepSnapshots removes what a crash left of unfinished snapshots.
func sweepSnapshots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockDir makes dir and keeps a second process out of it.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another daemon uses it")
	}
	return f, nil
}

func (f *files) close() error {
	var errs []error
	if f.store != nil {
		errs = append(errs, f.store.Close())
	}
	if f.vote != nil {
		errs = append(errs, f.vote.Close())
	}
	if f.mark != nil {
		errs = append(errs, f.mark.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}
