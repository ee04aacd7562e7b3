package swap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// Prefix of the names that a swap under way uses inside of a root. They are
// no part of the content.
const Prefix = ".dhow-swap-"

// Swap is one exchange under way.
type Swap struct {
	journal string
	state   state
}

// Reserved says whether an entry of a root is not content: a swap's own
// directory, or the lost+found of a file system.
func Reserved(name string) bool {
	return strings.HasPrefix(name, Prefix) || name == "lost+found"
}

// Begin prepares to replace the content of root; journal is a file path
// outside of it. Stage then takes the new content. inside puts the staging
// directory into root, which is needed when root is a file system of its own.
// durable makes the exchange safe against a power cut, too, not only kill -9.
func Begin(root, journal string, inside, durable bool) (*Swap, error) {
	if err := Recover(journal); err != nil {
		return nil, err
	}
	base := filepath.Dir(root)
	if inside {
		base = root
	}
	s := &Swap{journal: journal, state: state{Phase: phaseStage, Root: root, Base: base, Durable: durable}}
	var before unix.Stat_t
	if err := unix.Stat(root, &before); err != nil {
		return nil, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	if err := s.state.create(journal); err != nil {
		return nil, err
	}
	for _, dir := range []string{s.state.stage(), s.state.old(), s.state.newMeta(), s.state.oldMeta()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, errors.Join(err, s.Abort())
		}
	}
	if err := copyMeta(s.state.oldMeta(), root); err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	// Making the directories may have touched the root itself.
	if err := setTimes(s.state.oldMeta(), &before); err != nil {
		return nil, errors.Join(err, s.Abort())
	}
	return s, nil
}

// Stage is the directory for the new content; its own owner, mode, times and
// attributes become those of the root.
func (s *Swap) Stage() string { return s.state.stage() }

// Abort throws the staged content away. The root is as before.
func (s *Swap) Abort() error { return s.state.clean(s.journal) }

// Commit exchanges the content. On an error the old content is in place, or
// else the error says so: then Recover, at the next use, goes on.
func (s *Swap) Commit() error {
	st := &s.state
	if err := st.prepare(); err != nil {
		return errors.Join(err, s.Abort())
	}
	err := st.write(s.journal, phaseOut)
	if err == nil {
		err = st.forward(s.journal)
	}
	if err != nil {
		if uerr := st.undo(s.journal); uerr != nil {
			return errors.Join(err, fmt.Errorf("the exchange is half done and goes on at the next use; the old content is in %s and %s: %w", st.Root, st.old(), uerr))
		}
		return errors.Join(err, st.clean(s.journal))
	}
	if err := st.clean(s.journal); err != nil {
		return fmt.Errorf("the new content is in place, but the old one cannot be removed: %w", err)
	}
	return nil
}

// prepare notes the new root's attributes, which the renames disturb, and
// makes the staged content durable.
func (st *state) prepare() error {
	if err := copyMeta(st.newMeta(), st.stage()); err != nil {
		return err
	}
	if st.Durable {
		return fsx.SyncFS(st.stage())
	}
	return nil
}

// Recover finishes or undoes what a journal describes; a missing journal is fine.
func Recover(journal string) error {
	st, err := read(journal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch st.Phase {
	case phaseOut, phaseIn:
		err = st.forward(journal)
	case phaseUndoIn, phaseUndoOut:
		err = st.undo(journal)
	}
	if err != nil {
		return fmt.Errorf("finish swap of %s: %w", st.Root, err)
	}
	return st.clean(journal)
}

// forward moves the old entries out and the new ones in.
func (st *state) forward(journal string) error {
	if st.Phase == phaseOut {
		if _, err := os.Lstat(st.stage()); err != nil {
			return err // without the new content the old one stays
		}
		if err := moveAll(st.Root, st.old()); err != nil {
			return err
		}
		if err := st.write(journal, phaseIn); err != nil {
			return err
		}
	}
	return st.bring(st.stage(), st.newMeta())
}

// undo brings the old content back. It moves nothing before the journal says
// so: a recovery that read an earlier phase would go the other way from there
// and mix old and new.
func (st *state) undo(journal string) error {
	if st.Phase == phaseIn || st.Phase == phaseUndoIn {
		if err := st.write(journal, phaseUndoIn); err != nil {
			return err
		}
		if err := moveAll(st.Root, st.stage()); err != nil {
			return err
		}
	}
	if err := st.write(journal, phaseUndoOut); err != nil {
		return err
	}
	return st.bring(st.old(), st.oldMeta())
}

// bring moves the entries of from in and gives the root their metadata.
func (st *state) bring(from, meta string) error {
	err := moveAll(from, st.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // all was done, and cleaning had begun
	}
	if err != nil {
		return err
	}
	return copyMeta(st.Root, meta)
}

// clean removes the directories, then the journal. The first two tell a
// recovery that the renames are over.
func (st *state) clean(journal string) error {
	kept := st.oldMeta()
	if st.Phase == phaseIn {
		kept = st.newMeta()
	}
	var times unix.Stat_t
	known := unix.Stat(kept, &times) == nil
	for _, dir := range []string{st.stage(), st.old(), st.newMeta(), st.oldMeta()} {
		if err := fsx.RemoveTree(dir); err != nil {
			return err
		}
	}
	if known && st.Base == st.Root {
		if err := setTimes(st.Root, &times); err != nil {
			return err
		}
	}
	if err := os.Remove(journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func setTimes(path string, st *unix.Stat_t) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0)
	if err != nil {
		return &os.PathError{Op: "set times", Path: path, Err: err}
	}
	return nil
}

// moveAll renames the entries of one directory into another.
func moveAll(from, to string) error {
	return withDirs(from, to, func(src, dst *os.File) error {
		names, err := fsx.Names(src)
		if err != nil {
			return err
		}
		for _, n := range names {
			if Reserved(n) {
				continue
			}
			if err := unix.Renameat(int(src.Fd()), n, int(dst.Fd()), n); err != nil {
				return &os.PathError{Op: "rename", Path: filepath.Join(from, n), Err: err}
			}
		}
		return nil
	})
}

func copyMeta(to, from string) error {
	return withDirs(from, to, func(src, dst *os.File) error { return fsx.CopyMeta(dst, "", src, "") })
}

// withDirs opens two directories for do.
func withDirs(from, to string, do func(src, dst *os.File) error) error {
	src, err := fsx.OpenDir(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := fsx.OpenDir(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	return do(src, dst)
}
