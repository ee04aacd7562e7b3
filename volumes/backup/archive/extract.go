package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

// extractor makes entries below a directory. It never follows a symbolic link
// and never leaves the tree, whatever the names say.
type extractor struct {
	root  *os.File
	dir   *os.File // the directory of the last entry; may be root
	dirAt string   // its name
	dirs  []*Entry // get their attributes at the end, when nothing changes them any more
	buf   []byte
	sum   Summary
	warn  warnings
	left  int64 // bytes that may still be written; a bound on what a stream can do to the disk
}

func newExtractor(dir string) (*extractor, error) {
	root, err := fsx.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &st); err != nil {
		root.Close()
		return nil, err
	}
	return &extractor{root: root, dir: root, buf: make([]byte, 1<<20), left: int64(st.Bavail) * st.Bsize}, nil
}

func (x *extractor) close() {
	x.leave()
	x.root.Close()
}

func (x *extractor) leave() {
	if x.dir != x.root {
		x.dir.Close()
	}
	x.dir, x.dirAt = x.root, ""
}

// add makes one entry; content gives a File's stored bytes.
func (x *extractor) add(ctx context.Context, e *Entry, content io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if first, _, _ := strings.Cut(e.Name, "/"); strings.HasPrefix(first, swap.Prefix) {
		return corrupt("name %q is reserved", e.Name)
	}
	err := x.make(e, content)
	if err != nil {
		return fmt.Errorf("write %s: %w", e.Name, err)
	}
	x.sum.Files++
	return nil
}

func (x *extractor) make(e *Entry, content io.Reader) error {
	if e.Name == "" {
		if e.Kind != Dir {
			return corrupt("the root is no directory")
		}
		x.dirs = append(x.dirs, e)
		return nil
	}
	parent, base := path.Split(e.Name)
	if err := x.enter(strings.TrimSuffix(parent, "/")); err != nil {
		return err
	}
	if e.Kind == Dir {
		err := unix.Mkdirat(int(x.dir.Fd()), base, 0o700)
		if errors.Is(err, unix.EEXIST) {
			err = x.replace(base, true)
			if err == nil {
				err = unix.Mkdirat(int(x.dir.Fd()), base, 0o700)
			}
			if errors.Is(err, unix.EEXIST) {
				err = nil
			}
		}
		x.dirs = append(x.dirs, e)
		return err
	}
	err := x.create(e, base, content)
	if errors.Is(err, unix.EEXIST) { // a later entry of one name wins
		if err = x.replace(base, false); err == nil {
			err = x.create(e, base, content)
		}
	}
	if err != nil || e.Kind == Link {
		return err
	}
	return x.meta(x.dir, base, e)
}

// replace removes what is in the way, but not a directory that stays one.
func (x *extractor) replace(base string, dir bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(x.dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.Unlinkat(int(x.dir.Fd()), base, 0)
	}
	if dir {
		return nil
	}
	return unix.Unlinkat(int(x.dir.Fd()), base, unix.AT_REMOVEDIR)
}

// enter makes dir the current directory, making what is missing on the way.
func (x *extractor) enter(dir string) error {
	if dir == x.dirAt {
		return nil
	}
	at, rest := x.root, dir
	if x.dirAt != "" && strings.HasPrefix(dir, x.dirAt+"/") {
		at, rest = x.dir, dir[len(x.dirAt)+1:]
	} else {
		x.leave()
	}
	for rest != "" {
		name, tail, _ := strings.Cut(rest, "/")
		next, err := openDirAt(at, name)
		if err != nil {
			return err
		}
		if at != x.root {
			at.Close()
		}
		x.dir, x.dirAt = next, strings.TrimSuffix(dir[:len(dir)-len(tail)], "/")
		at, rest = next, tail
	}
	return nil
}

func openDirAt(at *os.File, name string) (*os.File, error) {
	next, err := fsx.OpenChild(at, name)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(int(at.Fd()), name, 0o755); err != nil {
			return nil, err
		}
		next, err = fsx.OpenChild(at, name)
	}
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, corrupt("%q, on the way, is no directory", name)
	}
	return next, err
}

func (x *extractor) create(e *Entry, base string, content io.Reader) error {
	fd := int(x.dir.Fd())
	switch e.Kind {
	case File:
		return x.file(e, base, content)
	case Symlink:
		return unix.Symlinkat(e.Target, fd, base)
	case Link:
		return x.link(e, base)
	case Char:
		return unix.Mknodat(fd, base, unix.S_IFCHR|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case Block:
		return unix.Mknodat(fd, base, unix.S_IFBLK|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case Fifo:
		return unix.Mknodat(fd, base, unix.S_IFIFO|0o600, 0)
	}
	return corrupt("entry type %q", e.Kind)
}

// link opens the directory of the target apart, so that the target's name is
// looked up without following anything.
func (x *extractor) link(e *Entry, base string) error {
	parent, name := path.Split(e.Target)
	dir := x.root
	for _, p := range strings.Split(strings.TrimSuffix(parent, "/"), "/") {
		if p == "" {
			continue
		}
		next, err := fsx.OpenChild(dir, p)
		if dir != x.root {
			dir.Close()
		}
		if err != nil {
			return corrupt("hard link to %q: %v", e.Target, err)
		}
		dir = next
	}
	if dir != x.root {
		defer dir.Close()
	}
	err := unix.Linkat(int(dir.Fd()), name, int(x.dir.Fd()), base, 0)
	if err == unix.ENOENT || err == unix.EPERM && name == "" {
		return corrupt("hard link to %q, which is not there", e.Target)
	}
	return err
}

func (x *extractor) file(e *Entry, base string, content io.Reader) error {
	fd, err := unix.Openat(int(x.dir.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	parts := e.Data
	if !e.Holes {
		parts = []fsx.Range{{Len: e.Size}}
	}
	for _, r := range parts {
		if err := x.copy(f, r, content); err != nil {
			return err
		}
	}
	if e.Holes {
		if err := f.Truncate(e.Size); err != nil {
			return err
		}
	}
	return f.Close()
}

// copy writes one part of a file.
func (x *extractor) copy(f *os.File, r fsx.Range, content io.Reader) error {
	if r.Len > x.left {
		return fmt.Errorf("%d bytes do not fit on the disk: %w", r.Len, unix.ENOSPC)
	}
	for r.Len > 0 {
		b := x.buf[:min(int64(len(x.buf)), r.Len)]
		if _, err := io.ReadFull(content, b); err != nil {
			return cut(err)
		}
		if _, err := f.WriteAt(b, r.Off); err != nil {
			return err
		}
		n := int64(len(b))
		r.Off, r.Len = r.Off+n, r.Len-n
		x.left -= n
		x.sum.Bytes += n
	}
	return nil
}

// meta gives an entry its owner, mode, attributes and times, in the order in
// which the kernel lets them stand.
func (x *extractor) meta(dir *os.File, base string, e *Entry) error {
	at, flags := int(dir.Fd()), unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		base = "."
	}
	if err := unix.Fchownat(at, base, e.UID, e.GID, flags); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	if e.Kind != Symlink {
		if err := fsx.Chmod(dir, base, e.Mode); err != nil {
			return err
		}
	}
	for name, val := range e.Xattrs {
		err := fsx.SetXattr(fsx.ProcPath(dir, base), name, val)
		switch {
		case errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL):
			x.warn.add(fmt.Sprintf("attribute %s cannot be set on %s: %v", name, e.Name, errors.Unwrap(err)))
		case err != nil:
			return err
		}
	}
	if err := unix.UtimesNanoAt(at, base, []unix.Timespec{e.Atime, e.Mtime}, flags); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// finish gives the directories their attributes, inner ones first.
func (x *extractor) finish() (Summary, error) {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		e := x.dirs[i]
		parent, base := path.Split(e.Name)
		if err := x.enter(strings.TrimSuffix(parent, "/")); err != nil {
			return x.sum, err
		}
		var st unix.Stat_t
		if base != "" {
			err := unix.Fstatat(int(x.dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
			if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
				continue // a later entry took its place
			}
		}
		if err := x.meta(x.dir, base, e); err != nil {
			return x.sum, fmt.Errorf("write %s: %w", e.Name, err)
		}
	}
	x.sum.Warnings = x.warn.result()
	return x.sum, nil
}
