package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"golang.org/x/sys/unix"
)

// StatPath describes a file of a container, running or not. A link is
// described itself, unless the path ends in a slash.
func (e *Engine) StatPath(ctx context.Context, ref, name string) (*runtime.PathStat, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	var out *runtime.PathStat
	err = e.withRoot(ctx, c, func(r root) error {
		var err error
		out, err = r.stat(name)
		return err
	})
	return out, pathError(c, name, err)
}

func (r root) stat(name string) (*runtime.PathStat, error) {
	parent, base, err := r.entry(name)
	if err != nil {
		return nil, err
	}
	defer unix.Close(parent)
	var st unix.Stat_t
	if err := statAt(parent, base, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	out := &runtime.PathStat{
		Name: path.Base(path.Clean("/" + name)), Size: st.Size, Mode: uint32(fileMode(st.Mode)),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		link, err := readLinkAt(parent, base)
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(link) {
			link = path.Join(path.Dir(path.Clean("/"+name)), link)
		}
		out.LinkTarget = path.Clean(link)
	}
	return out, nil
}

// CopyFrom returns a tar archive of a file or directory of a container. The
// entries begin with the last part of the path ("." for a path that ends so).
// The reader must be closed.
func (e *Engine) CopyFrom(ctx context.Context, ref, name string) (io.ReadCloser, *runtime.PathStat, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	pr, pw := io.Pipe()
	type answer struct {
		st  *runtime.PathStat
		err error
	}
	first := make(chan answer, 1)
	go func() {
		err := e.withRoot(ctx, c, func(r root) error {
			st, err := r.stat(name)
			first <- answer{st, err}
			if err != nil {
				return err
			}
			return r.archive(name, pw)
		})
		select {
		case first <- answer{nil, err}: // it never came to the stat
		default:
		}
		pw.CloseWithError(pathError(c, name, err))
	}()
	a := <-first
	if a.err != nil {
		pr.Close()
		return nil, nil, pathError(c, name, a.err)
	}
	stop := context.AfterFunc(ctx, func() { pr.CloseWithError(ctx.Err()) })
	return readCloser{pr, func() error { stop(); return pr.Close() }}, a.st, nil
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

// archive writes one file or tree.
func (r root) archive(name string, w io.Writer) error {
	parent, base, err := r.entry(name)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	as := path.Base(path.Clean("/" + name))
	if as == "/" || strings.HasSuffix(name, "/.") {
		as = "."
	}
	a := &archiver{w: tar.NewWriter(w), links: map[[2]uint64]string{}}
	if err := a.add(parent, base, as); err != nil {
		return err
	}
	if err := a.tell(); err != nil {
		return err
	}
	return a.w.Close()
}

type archiver struct {
	w       *tar.Writer
	links   map[[2]uint64]string // device and inode of files with several names
	sockets int                  // an archive cannot hold them
}

// tell notes the sockets in a header that other readers pass over.
func (a *archiver) tell() error {
	if a.sockets == 0 {
		return nil
	}
	records := map[string]string{runtime.ArchiveSockets: strconv.Itoa(a.sockets)}
	return a.w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: records})
}

func (a *archiver) add(parent int, base, as string) error {
	var st unix.Stat_t
	if err := statAt(parent, base, &st); err != nil {
		return &os.PathError{Op: "stat", Path: as, Err: err}
	}
	h := header(as, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		a.sockets++
		return nil
	case unix.S_IFLNK:
		link, err := readLinkAt(parent, base)
		if err != nil {
			return err
		}
		h.Linkname = link
		return a.w.WriteHeader(h)
	case unix.S_IFDIR:
		return a.dir(parent, base, as, h)
	case unix.S_IFREG:
		return a.file(parent, base, &st, h)
	}
	return a.w.WriteHeader(h)
}

func (a *archiver) file(parent int, base string, st *unix.Stat_t, h *tar.Header) error {
	key := [2]uint64{st.Dev, st.Ino}
	if st.Nlink > 1 {
		if before, ok := a.links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, before, 0
			return a.w.WriteHeader(h)
		}
		a.links[key] = h.Name
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: h.Name, Err: err}
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	addXattrs(h, fd)
	if err := a.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(a.w, io.LimitReader(f, h.Size))
	if err != nil {
		return err
	}
	return pad(a.w, h.Size-n) // it shrank while it was read
}

func (a *archiver) dir(parent int, base, as string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: as, Err: err}
	}
	d := os.NewFile(uintptr(fd), as)
	defer d.Close()
	addXattrs(h, fd)
	if err := a.w.WriteHeader(h); err != nil {
		return err
	}
	for {
		names, err := d.Readdirnames(256)
		for _, n := range names {
			if err := a.add(fd, n, as+"/"+n); err != nil && !isGone(err) {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func isGone(err error) bool {
	var pe *os.PathError
	return errors.As(err, &pe) && errors.Is(pe.Err, unix.ENOENT)
}

func pad(w io.Writer, n int64) error {
	for n > 0 {
		chunk := min(n, 4096)
		if _, err := w.Write(make([]byte, chunk)); err != nil {
			return err
		}
		n -= chunk
	}
	return nil
}

func header(as string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Sec, st.Mtim.Nsec), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return h
}

func addXattrs(h *tar.Header, fd int) {
	size, err := unix.Flistxattr(fd, nil)
	if err != nil || size == 0 {
		return
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(fd, names); err != nil {
		return
	}
	for _, name := range strings.Split(strings.TrimRight(string(names[:size]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Fgetxattr(fd, name, nil)
		if err != nil {
			continue
		}
		value := make([]byte, n)
		if n, err = unix.Fgetxattr(fd, name, value); err != nil {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = string(value[:n])
	}
}

const xattrPrefix = "SCHILY.xattr."

func statAt(parent int, base string, st *unix.Stat_t) error {
	if base == "." {
		return unix.Fstatat(parent, "", st, unix.AT_EMPTY_PATH)
	}
	return unix.Fstatat(parent, base, st, unix.AT_SYMLINK_NOFOLLOW)
}

func readLinkAt(parent int, base string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(parent, base, buf)
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", base, err)
	}
	return string(buf[:n]), nil
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
