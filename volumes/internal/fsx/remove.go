package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveTree removes path and everything below it, and refuses to enter
// another mount: os.RemoveAll would empty whatever is mounted there. A missing
// path is no error.
func RemoveTree(path string) error {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeAt(parent, filepath.Base(path)); err != nil {
		return &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// Empty removes everything in dir except the names to keep.
func Empty(dir *os.File, keep ...string) error {
	names, err := Names(dir)
	if err != nil {
		return err
	}
next:
	for _, n := range names {
		for _, k := range keep {
			if n == k {
				continue next
			}
		}
		if err := removeAt(dir, n); err != nil {
			return &os.PathError{Op: "remove", Path: n, Err: err}
		}
	}
	return nil
}

func removeAt(parent *os.File, name string) error {
	err := unix.Unlinkat(int(parent.Fd()), name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return err
	}
	dir, oerr := OpenChild(parent, name)
	if errors.Is(oerr, unix.ENOTDIR) {
		return err
	}
	if oerr != nil {
		return oerr
	}
	err = Empty(dir)
	dir.Close()
	if err != nil {
		return err
	}
	err = unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Size returns the bytes that the tree below path occupies on disk; files
// with several links count once. It stays on one mount.
func Size(path string) (int64, error) {
	dir, err := OpenDir(path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	var total int64
	err = sizeAt(dir, map[uint64]bool{}, &total)
	return total, err
}

func sizeAt(dir *os.File, seen map[uint64]bool, total *int64) error {
	names, err := Names(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // gone meanwhile
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[st.Ino] {
				continue
			}
			seen[st.Ino] = true
		}
		*total += st.Blocks * 512
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			sub, err := OpenChild(dir, n)
			if err != nil {
				continue
			}
			err = sizeAt(sub, seen, total)
			sub.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}
