package dirrepo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

const (
	formatName = "dhow-repo.json"
	lockName   = "lock"
	format     = 1
)

// Repo implements backup.Engine.
type Repo struct{ dir string }

var (
	_ backup.Engine = (*Repo)(nil)
	_ backup.Opener = Open
)

// Open opens the repository at a path or file:// URL.
func Open(_ context.Context, where string, create bool) (backup.Engine, error) {
	dir, err := pathOf(where)
	if err != nil {
		return nil, err
	}
	r := &Repo{dir: dir}
	err = r.check()
	if errors.Is(err, fs.ErrNotExist) && create {
		err = r.init()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("no backups are there: %w", runtime.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", dir, err)
	}
	return r, nil
}

func pathOf(where string) (string, error) {
	bad := func(why string) error {
		return fmt.Errorf("repository %q: %s: %w", where, why, runtime.ErrInvalid)
	}
	path := where
	if strings.Contains(where, "://") {
		u, err := url.Parse(where)
		switch {
		case err != nil || u.Scheme != "file":
			return "", bad("not a path or file:// URL")
		case u.Host != "" && u.Host != "localhost":
			return "", bad("a file:// URL names no other host")
		}
		path = u.Path
	}
	if !filepath.IsAbs(path) {
		return "", bad("the path is not absolute")
	}
	return filepath.Clean(path), nil
}

func (r *Repo) check() error {
	data, err := os.ReadFile(filepath.Join(r.dir, formatName))
	if err != nil {
		return err
	}
	var f struct{ Format int }
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: %w", formatName, err)
	}
	if f.Format != format {
		return fmt.Errorf("format %d is not known, %d is: %w", f.Format, format, runtime.ErrInvalid)
	}
	return nil
}

// init makes the repository in a missing or empty directory: never among other files.
func (r *Repo) init() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	ours := []string{"lost+found", lockName, "tmp", "volumes", formatName, formatName + fsx.TempSuffix}
	for _, e := range entries {
		if !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("the directory holds other files (%s): %w", e.Name(), runtime.ErrInvalid)
		}
	}
	for _, d := range []string{"tmp", "volumes"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), 0o700); err != nil {
			return err
		}
	}
	l, err := lock(filepath.Join(r.dir, lockName), true) // somebody else may begin, too
	if err != nil {
		return err
	}
	defer l.Close()
	if err := r.check(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsx.WriteFile(filepath.Join(r.dir, formatName), []byte("{\"format\":1}\n"), true)
}

// lock takes the repository's lock, or that of one backup being written.
func lock(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// begin makes the directory of a new backup and sweeps those whose writers died.
func (r *Repo) begin(id string) (dir string, held *os.File, err error) {
	l, err := lock(filepath.Join(r.dir, lockName), true)
	if err != nil {
		return "", nil, err
	}
	defer l.Close()
	tmp := filepath.Join(r.dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		sweep(filepath.Join(tmp, e.Name()))
	}
	dir = filepath.Join(tmp, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	held, err = lock(filepath.Join(dir, "lock"), false)
	if err != nil {
		return "", nil, errors.Join(err, fsx.RemoveTree(dir))
	}
	return dir, held, nil
}

// sweep removes a backup that nobody writes any more.
func sweep(dir string) {
	if l, err := lock(filepath.Join(dir, "lock"), false); err == nil {
		_ = fsx.RemoveTree(dir) // the next backup tries again
		l.Close()
	}
}

func (r *Repo) volumeDir(volume string) string { return filepath.Join(r.dir, "volumes", volume) }

// backupDir refuses names that are none: they come from outside.
func (r *Repo) backupDir(b backup.Info) (string, error) {
	if err := volumes.CheckName(b.Volume); err != nil {
		return "", err
	}
	if err := checkID(b.ID); err != nil {
		return "", err
	}
	return filepath.Join(r.volumeDir(b.Volume), b.ID), nil
}
