package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/internal/sparse"
)

// extractor unpacks a tar with its top entry renamed. What is in a container is
// its processes' word: files that act with their owner's rights and devices
// would be a way to the rights of whoever copies, so only archive makes them.
type extractor struct {
	top, name string // what the top entry is called, and shall be
	archive   bool   // keep owners (as root) and special bits, make devices and FIFOs
	root      *os.Root
	left      leftOut
	made      int // entries
}

// extract unpacks below dir. It goes through os.Root, so that nothing in the
// archive can reach outside of dir.
func (x *extractor) extract(r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	x.root = root
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.entry(tr, h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// place is where an entry goes.
func (x *extractor) place(name string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(filepath.Clean("/"+name), "/"), x.top)
	return filepath.Join(x.name, rel)
}

func (x *extractor) entry(r io.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		x.left.sockets(h.PAXRecords)
		return nil
	}
	path := x.place(h.Name)
	mode := x.mode(h)
	if kind := unwanted(h.Typeflag, x.archive); kind != "" {
		x.left.add(kind)
		return nil
	}
	x.made++
	switch h.Typeflag {
	case tar.TypeDir:
		if path == "." {
			return nil
		}
		if err := x.dir(path, h, mode); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := x.clear(path); err != nil {
			return err
		}
		return x.root.Symlink(h.Linkname, path)
	case tar.TypeLink:
		if err := x.clear(path); err != nil {
			return err
		}
		return x.root.Link(x.place(h.Linkname), path)
	case tar.TypeReg:
		if regular, err := x.file(path, r, h, mode); err != nil || !regular {
			return err // what was written into is not ours to change
		}
	default:
		if made, err := x.node(path, h); err != nil || !made {
			return err
		}
	}
	return x.root.Chtimes(path, time.Time{}, h.ModTime)
}

func (x *extractor) clear(path string) error {
	if err := x.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// special are the bits beside the permissions.
const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// mode is what the file gets: the permissions, in an archive also the special bits.
func (x *extractor) mode(h *tar.Header) fs.FileMode {
	mode := h.FileInfo().Mode() & (fs.ModePerm | special)
	if x.archive || mode&special == 0 || (h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir) {
		return mode
	}
	x.left.add(kindBits)
	return mode.Perm()
}

// own gives the file to its owner in the container, which only root can.
func (x *extractor) own(path string, h *tar.Header) error {
	if !x.archive || os.Geteuid() != 0 {
		return nil
	}
	return x.root.Lchown(path, h.Uid, h.Gid)
}

func (x *extractor) dir(path string, h *tar.Header, mode fs.FileMode) error {
	if err := x.root.MkdirAll(path, mode.Perm()|0o700); err != nil {
		return err
	}
	if err := x.own(path, h); err != nil || mode&special == 0 {
		return err
	}
	return x.root.Chmod(path, mode|0o700)
}

// file writes the content and reports whether it went into a regular file: the
// target may also be a device or FIFO that is there already.
func (x *extractor) file(path string, r io.Reader, h *tar.Header, mode fs.FileMode) (regular bool, err error) {
	if err := x.root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	f, err := x.root.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode.Perm())
	if err != nil {
		return false, err
	}
	st, err := f.Stat()
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	if regular = st.Mode().IsRegular(); !regular {
		_, err = io.Copy(f, r)
		return false, errors.Join(err, f.Close())
	}
	err = sparse.Copy(f, r)
	if err == nil {
		err = x.own(path, h)
	}
	if err == nil && mode&special != 0 { // last: writing and a new owner take these bits away
		err = f.Chmod(mode)
	}
	return true, errors.Join(err, f.Close())
}

// node makes a FIFO, or a device where the caller may.
func (x *extractor) node(path string, h *tar.Header) (made bool, err error) {
	if err := x.clear(path); err != nil {
		return false, err
	}
	dir, err := x.root.Open(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeFifo:
		mode |= unix.S_IFIFO
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	default:
		mode |= unix.S_IFBLK
	}
	err = unix.Mknodat(int(dir.Fd()), filepath.Base(path), mode, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	if errors.Is(err, unix.EPERM) && h.Typeflag != tar.TypeFifo {
		x.made--
		x.left.add(kindRootOnly)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, x.own(path, h)
}
