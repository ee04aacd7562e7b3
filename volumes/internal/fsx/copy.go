package fsx

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

type inode struct{ dev, ino uint64 }

type copier struct {
	links map[inode]string // first copy of a file with several links, relative to the root
	root  *os.File
	buf   []byte
}

// CopyTree copies everything in src into the empty directory dst: owners,
// modes, times, extended attributes, hard and symbolic links, devices, holes.
// dst itself becomes like src, too. Other mounts below src are not entered.
func CopyTree(dst, src *os.File) error {
	c := &copier{links: map[inode]string{}, root: dst}
	return c.dir(dst, src, "")
}

func (c *copier) dir(dst, src *os.File, rel string) error {
	names, err := Names(src)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := c.entry(dst, src, n, rel+n); err != nil {
			return fmt.Errorf("%s: %w", rel+n, err)
		}
	}
	return CopyMeta(dst, "", src, "")
}

func (c *copier) entry(dst, src *os.File, name, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(dst, src, name, rel)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return unix.Linkat(int(c.root.Fd()), first, int(dst.Fd()), name, 0)
		}
		c.links[id] = rel
	}
	if err := c.make(dst, src, name, &st); err != nil {
		return err
	}
	return CopyMeta(dst, name, src, name)
}

func (c *copier) make(dst, src *os.File, name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(dst, src, name)
	case unix.S_IFLNK:
		to := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(src.Fd()), name, to)
		if err != nil {
			return err
		}
		return unix.Symlinkat(string(to[:n]), int(dst.Fd()), name)
	}
	return unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev))
}

func (c *copier) subdir(dst, src *os.File, name, rel string) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	d, err := OpenChild(dst, name)
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := OpenChild(src, name)
	if errors.Is(err, unix.EXDEV) {
		return nil // another mount: the empty directory stands for it
	}
	if err != nil {
		return err
	}
	defer s.Close()
	return c.dir(d, s, rel+"/")
}

func (c *copier) file(dst, src *os.File, name string) error {
	in, err := open(int(src.Fd()), name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NOFOLLOW})
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := open(int(dst.Fd()), name, &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, Mode: 0o600})
	if err != nil {
		return err
	}
	defer out.Close()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return out.Close()
	}
	if err := c.data(out, in); err != nil {
		return err
	}
	return out.Close()
}

// data copies the parts of a file that are not holes.
func (c *copier) data(out, in *os.File) error {
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	holes, err := DataRanges(in, fi.Size())
	if err != nil {
		return err
	}
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	for _, r := range holes {
		if _, err := out.Seek(r.Off, io.SeekStart); err != nil {
			return err
		}
		// The wrappers keep io.CopyBuffer from choosing its own small buffer.
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{io.NewSectionReader(in, r.Off, r.Len)}, c.buf)
		if err != nil {
			return err
		}
	}
	return out.Truncate(fi.Size())
}

// CopyMeta gives one file the owner, mode, times and extended attributes of another.
func CopyMeta(dst *os.File, dname string, src *os.File, sname string) error {
	from, to := ProcPath(src, sname), ProcPath(dst, dname)
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	attrs, err := Xattrs(from)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := Chmod(dst, dname, st.Mode&0o7777); err != nil {
			return err
		}
	}
	for name, val := range attrs { // after chown, which drops capabilities
		if IsOverlayXattr(name) {
			continue
		}
		if err := SetXattr(to, name, val); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// IsOverlayXattr says whether an attribute belongs to overlayfs and means
// nothing elsewhere.
func IsOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}
