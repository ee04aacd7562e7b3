package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

// Write writes the tree below dir to w. index, when not nil, gets a Record of
// every entry, in order. Other mounts below dir are not entered, sockets are
// left out, and what changes or goes while it is read is a warning.
func Write(ctx context.Context, w io.Writer, dir string, index func(*Record) error) (Summary, error) {
	root, err := fsx.OpenDir(dir)
	if err != nil {
		return Summary{}, err
	}
	defer root.Close()
	// The fastest level: on 1 GB of mixed data it is quicker than `tar | zstd`
	// with its default level and 4 % larger; the next level is at two thirds of its speed.
	p, err := newPipeline(ctx, w, zstd.SpeedFastest, index)
	if err != nil {
		return Summary{}, err
	}
	t := &treeWriter{p: p, links: map[inode]string{}}
	err = t.tree(root)
	if err == nil {
		err = p.write(zeros[:2*blockSize], nil) // the end of a tar stream
	}
	err = p.wait(err)
	t.sum.Stored, t.sum.Warnings = p.stored, t.warn.result()
	return t.sum, err
}

type inode struct{ dev, ino uint64 }

type treeWriter struct {
	p     *pipeline
	links map[inode]string // first name of a file with several
	sum   Summary
	warn  warnings
	hdr   []byte
}

func (t *treeWriter) tree(root *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &st); err != nil {
		return err
	}
	e := entryOf("", &st)
	var err error
	if e.Xattrs, err = fsx.Xattrs(fsx.ProcPath(root, "")); err != nil {
		return err
	}
	if err := t.plain(e); err != nil {
		return err
	}
	return t.dir(root, "")
}

// dir writes the entries of a directory in the order of their names.
func (t *treeWriter) dir(dir *os.File, prefix string) error {
	names, err := fsx.Names(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", prefix, err)
	}
	slices.Sort(names)
	for _, n := range names {
		if prefix == "" && swap.Reserved(n) {
			continue
		}
		if err := t.entry(dir, n, prefix+n); err != nil {
			return err
		}
	}
	return nil
}

func (t *treeWriter) entry(dir *os.File, base, name string) error {
	err := t.tryEntry(dir, base, name)
	if errors.Is(err, fs.ErrNotExist) {
		t.warn.add("vanished while it was read: " + name)
		return nil
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return err
}

func (t *treeWriter) tryEntry(dir *os.File, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e := entryOf(name, &st)
	if e == nil {
		t.warn.add("socket left out: " + name)
		return nil
	}
	if e.Kind != Dir && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := t.links[id]; ok {
			e.Kind, e.Target, e.Size = Link, first, 0
			return t.plain(e)
		}
		t.links[id] = name
	}
	var err error
	if e.Xattrs, err = fsx.Xattrs(fsx.ProcPath(dir, base)); err != nil {
		return err
	}
	switch e.Kind {
	case File:
		return t.file(dir, base, e)
	case Dir:
		return t.subdir(dir, base, e)
	case Symlink:
		to := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(dir.Fd()), base, to)
		if err != nil {
			return err
		}
		e.Target = string(to[:n])
	}
	return t.plain(e)
}

func (t *treeWriter) subdir(dir *os.File, base string, e *Entry) error {
	sub, err := fsx.OpenChild(dir, base)
	if errors.Is(err, unix.EXDEV) {
		t.warn.add("another file system is mounted here, left out: " + e.Name)
		return t.plain(e)
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := t.plain(e); err != nil {
		return err
	}
	return t.dir(sub, e.Name+"/")
}

// plain writes an entry without content.
func (t *treeWriter) plain(e *Entry) error {
	t.sum.Files++
	t.hdr, _ = appendHeader(t.hdr[:0], e)
	if err := t.p.write(t.hdr, nil); err != nil {
		return err
	}
	t.p.end(recordOf(e))
	return nil
}

func (t *treeWriter) file(dir *os.File, base string, e *Entry) error {
	f, err := openFile(dir, base)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrNotExist // it is something else by now
	}
	e.Size = st.Size
	parts := []fsx.Range{{Len: e.Size}}
	if st.Blocks*512 < st.Size {
		if e.Data, err = fsx.DataRanges(f, st.Size); err != nil {
			return err
		}
		if e.Holes = lacks(e.Data, e.Size); e.Holes {
			parts = e.Data
		}
	}
	rec := recordOf(e)
	hdr, holes := appendHeader(t.hdr[:0], e)
	t.hdr = hdr
	if err := t.p.write(hdr[:len(hdr)-len(holes)], nil); err != nil {
		return err
	}
	if err := t.p.write(holes, rec); err != nil {
		return err
	}
	for _, r := range parts {
		if err := t.content(f, r, e, rec); err != nil {
			return err
		}
	}
	t.p.end(rec)
	t.sum.Files++
	t.sum.Bytes += e.stored()
	return t.p.write(zeros[:padding(int64(len(holes))+e.stored())], nil)
}

// lacks says whether the parts leave something of size bytes out.
func lacks(parts []fsx.Range, size int64) bool {
	for _, r := range parts {
		size -= r.Len
	}
	return size > 0
}

// content reads one part of a file straight into the stream. A file that has
// become shorter is filled up with zeros: the header is written already.
func (t *treeWriter) content(f *os.File, r fsx.Range, e *Entry, rec *Record) error {
	for r.Len > 0 {
		room, err := t.p.room()
		if err != nil {
			return err
		}
		if int64(len(room)) > r.Len {
			room = room[:r.Len]
		}
		n, err := f.ReadAt(room, r.Off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			t.warn.add("became shorter while it was read: " + e.Name)
			return t.fill(r.Len, rec)
		}
		t.p.advance(n, rec)
		r.Off += int64(n)
		r.Len -= int64(n)
	}
	return nil
}

func (t *treeWriter) fill(n int64, rec *Record) error {
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if err := t.p.write(zeros[:k], rec); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

func openFile(dir *os.File, base string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), base, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = unix.Openat(int(dir.Fd()), base, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// entryOf returns nil for what a tar archive has no word for.
func entryOf(name string, st *unix.Stat_t) *Entry {
	e := &Entry{Name: name, Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), Mtime: st.Mtim, Atime: st.Atim}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Kind, e.Size = File, st.Size
	case unix.S_IFDIR:
		e.Kind = Dir
	case unix.S_IFLNK:
		e.Kind = Symlink
	case unix.S_IFCHR:
		e.Kind, e.Major, e.Minor = Char, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFBLK:
		e.Kind, e.Major, e.Minor = Block, unix.Major(st.Rdev), unix.Minor(st.Rdev)
	case unix.S_IFIFO:
		e.Kind = Fifo
	default:
		return nil
	}
	return e
}

func recordOf(e *Entry) *Record {
	r := &Record{Name: e.Name, Kind: string(rune(e.Kind)), Holes: e.Holes}
	if e.Kind == File {
		r.Size = e.Size
	}
	if !utf8.ValidString(e.Name) {
		r.Name, r.Raw = "", []byte(e.Name)
	}
	return r
}
