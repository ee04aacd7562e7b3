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

// extractor unpacks a tar with its top entry renamed.
type extractor struct {
	top, name string                 // what the top entry is called, and shall be
	warn      func(path, why string) // something is left out
	root      *os.Root
}

// extract unpacks below dir. It goes through os.Root, so that nothing in the
// archive can reach outside of dir.
func (x extractor) extract(r io.Reader, dir string) error {
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
func (x extractor) place(name string) string {
	rel := strings.TrimPrefix(strings.TrimPrefix(filepath.Clean("/"+name), "/"), x.top)
	return filepath.Join(x.name, rel)
}

func (x extractor) entry(r io.Reader, h *tar.Header) error {
	path := x.place(h.Name)
	mode := h.FileInfo().Mode() & (fs.ModePerm | special)
	switch h.Typeflag {
	case tar.TypeDir:
		if path == "." {
			return nil
		}
		if err := x.root.MkdirAll(path, mode.Perm()|0o700); err != nil {
			return err
		}
		if mode&special != 0 {
			if err := x.root.Chmod(path, mode|0o700); err != nil {
				return err
			}
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
		if regular, err := x.file(path, r, mode); err != nil || !regular {
			return err // what was written into is not ours to change
		}
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if made, err := x.node(path, h); err != nil || !made {
			return err
		}
	default:
		x.warn(h.Name, "of a kind that cannot be copied: left out")
		return nil
	}
	return x.root.Chtimes(path, time.Time{}, h.ModTime)
}

func (x extractor) clear(path string) error {
	if err := x.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// special are the bits beside the permissions.
const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// file writes the content and reports whether it went into a regular file: the
// target may also be a device or FIFO that is there already.
func (x extractor) file(path string, r io.Reader, mode fs.FileMode) (regular bool, err error) {
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
	if err == nil && mode&special != 0 { // after the content: writing takes these bits away
		err = f.Chmod(mode)
	}
	return true, errors.Join(err, f.Close())
}

// node makes a FIFO, or a device where the caller may.
func (x extractor) node(path string, h *tar.Header) (made bool, err error) {
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
		x.warn(h.Name, "a device, which only root can make: left out")
		return false, nil
	}
	return err == nil, err
}
