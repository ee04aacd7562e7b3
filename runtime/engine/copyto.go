package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/dhow-project/dhow/internal/sparse"
	"github.com/dhow-project/dhow/runtime"
	"golang.org/x/sys/unix"
)

// CopyTo extracts a tar archive into a directory of a container, running or
// not. With noOverwriteDirNonDir a directory is never replaced by something
// else, nor the other way round.
func (e *Engine) CopyTo(ctx context.Context, ref, dir string, r io.Reader, noOverwriteDirNonDir bool) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if err := c.writable(dir); err != nil {
		return err
	}
	err = e.withRoot(ctx, c, func(rt root) error {
		at, err := rt.open(dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(at)
		return (&extractor{root: rt, dir: dir, at: at, strict: noOverwriteDirNonDir}).all(ctx, r)
	})
	return pathError(c, dir, err)
}

// writable refuses what a running container could not write itself; the kernel
// does that for one that runs.
func (c *container) writable(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rec.Spec.ReadOnly || c.run != nil {
		return nil
	}
	clean := path.Clean("/" + dir)
	for _, m := range c.rec.Spec.Mounts {
		target := path.Clean(m.Target)
		if !m.ReadOnly && (clean == target || strings.HasPrefix(clean, target+"/")) {
			return nil
		}
	}
	return fmt.Errorf("container %s: its root file system is read-only: %w", c.rec.Name, runtime.ErrForbidden)
}

type extractor struct {
	root   root
	dir    string // destination directory, in the container
	at     int    // the same, open
	strict bool
	dirs   []dirTime // set at the end, after their content
}

type dirTime struct {
	name string
	at   time.Time
}

func (x *extractor) all(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for ctx.Err() == nil {
		h, err := tr.Next()
		if err == io.EOF {
			return x.finish()
		}
		if err != nil {
			return fmt.Errorf("archive: %w: %w", err, runtime.ErrInvalid)
		}
		if err := x.entry(h, tr); err != nil {
			return fmt.Errorf("extract %s: %w", h.Name, err)
		}
	}
	return ctx.Err()
}

// parent opens the directory of an entry; links lead at most to the
// container's root. Missing directories are made.
func (x *extractor) parent(name string) (int, string, error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		fd, err := unix.FcntlInt(uintptr(x.at), unix.F_DUPFD_CLOEXEC, 0)
		return fd, ".", err
	}
	fd, err := x.descend(path.Dir(clean))
	return fd, path.Base(clean), err
}

// descend opens a directory below the destination and makes what is missing.
// The kernel resolves the whole path in the container's root, so links lead
// where they lead the container's own processes, and never out. dir is clean
// and begins with "/".
func (x *extractor) descend(dir string) (int, error) {
	if dir == "/" {
		return unix.FcntlInt(uintptr(x.at), unix.F_DUPFD_CLOEXEC, 0)
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY
	fd, err := x.root.open(x.dir+dir, flags)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, err := x.descend(path.Dir(dir))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := unix.Mkdirat(parent, path.Base(dir), 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return x.root.open(x.dir+dir, flags)
}

func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	parent, base, err := x.parent(h.Name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if base == "." {
		return nil // the destination itself stays as it is
	}
	if err := x.clear(parent, base, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = unix.Mkdirat(parent, base, 0o700)
		if errors.Is(err, unix.EEXIST) {
			err = nil
		}
		x.dirs = append(x.dirs, dirTime{h.Name, h.ModTime})
	case tar.TypeReg:
		err = writeAt(parent, base, h, content)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, parent, base)
	case tar.TypeLink:
		return x.hardLink(parent, base, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		err = mknodAt(parent, base, h)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		return fmt.Errorf("type %q: %w", h.Typeflag, runtime.ErrInvalid)
	}
	if err != nil {
		return err
	}
	return setMeta(parent, base, h)
}

// clear makes room for an entry.
func (x *extractor) clear(parent int, base string, h *tar.Header) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return err
	}
	isDir, wantDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case isDir && wantDir:
		return nil
	case x.strict && isDir:
		return fmt.Errorf("cannot overwrite a directory with something else: %w", runtime.ErrInvalid)
	case x.strict && wantDir:
		return fmt.Errorf("cannot overwrite something else with a directory: %w", runtime.ErrInvalid)
	case isDir:
		return os.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", parent, base))
	}
	return unix.Unlinkat(parent, base, 0)
}

func writeAt(parent int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	return errors.Join(sparse.Copy(f, content), f.Close())
}

func (x *extractor) hardLink(parent int, base, target string) error {
	from, name, err := x.parent(target)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return unix.Linkat(from, name, parent, base, 0)
}

func mknodAt(parent int, base string, h *tar.Header) error {
	mode := uint32(unix.S_IFIFO)
	switch h.Typeflag {
	case tar.TypeChar:
		mode = unix.S_IFCHR
	case tar.TypeBlock:
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(parent, base, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
}

// setMeta sets owner, mode, extended attributes and time; a link has the
// first and the last only.
func setMeta(parent int, base string, h *tar.Header) error {
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		self := fmt.Sprintf("/proc/self/fd/%d", fd)
		if err := unix.Chmod(self, uint32(h.Mode)&0o7777); err != nil {
			return err
		}
		for key, value := range h.PAXRecords {
			if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
				if err := unix.Setxattr(self, name, []byte(value), 0); err != nil && err != unix.EOPNOTSUPP {
					return fmt.Errorf("extended attribute %s: %w", name, err)
				}
			}
		}
	}
	return setTime(parent, base, h.ModTime)
}

func setTime(parent int, base string, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(parent, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func (x *extractor) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		parent, base, err := x.parent(x.dirs[i].name)
		if err != nil {
			return err
		}
		err = setTime(parent, base, x.dirs[i].at)
		unix.Close(parent)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
