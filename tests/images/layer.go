package images

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"
)

// layer is a compressed tar of the difference to the layers below.
type layer struct {
	Path   string // file
	Digest string // of the compressed bytes
	DiffID string // of the tar
	Size   int64  // compressed
}

// epoch stamps every file, so that the same packages give the same bytes.
var epoch = time.Unix(1700000000, 0)

func readLayer(path string) (layer, error) {
	var l layer
	data, err := os.ReadFile(path + ".json")
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(data, &l); err != nil {
		return l, err
	}
	l.Path = path + ".tar.gz"
	st, err := os.Stat(l.Path)
	if err == nil && st.Size() != l.Size {
		err = fmt.Errorf("%s: %d bytes, want %d", l.Path, st.Size(), l.Size)
	}
	return l, err
}

// writeLayer packs root, an overlay's upper directory, as a layer.
func writeLayer(path, root string) (l layer, err error) {
	l.Path = path + ".tar.gz"
	f, err := os.Create(l.Path)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	packed, plain := sha256.New(), sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, packed), 1<<20)
	gz, err := gzip.NewWriterLevel(buf, gzip.BestSpeed)
	if err != nil {
		return l, err
	}
	if err := writeTree(io.MultiWriter(gz, plain), root); err != nil {
		return l, err
	}
	if err := errors.Join(gz.Close(), buf.Flush()); err != nil {
		return l, err
	}
	st, err := f.Stat()
	if err != nil {
		return l, err
	}
	l.Size = st.Size()
	l.Digest = "sha256:" + hex.EncodeToString(packed.Sum(nil))
	l.DiffID = "sha256:" + hex.EncodeToString(plain.Sum(nil))
	data, err := json.Marshal(l)
	if err != nil {
		return l, err
	}
	return l, os.WriteFile(path+".json", data, 0o644)
}

func writeTree(w io.Writer, root string) error {
	tw := tar.NewWriter(w)
	links := map[[2]uint64]string{} // device and inode -> first name
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return writeEntry(tw, p, name, links)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, p, name string, links map[[2]uint64]string) error {
	info, err := os.Lstat(p)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	if info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0 { // overlay's whiteout
		dir, file := filepath.Split(name)
		return tw.WriteHeader(&tar.Header{Name: dir + ".wh." + file, Mode: 0o600, ModTime: epoch})
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.ModTime, h.AccessTime, h.ChangeTime, h.Uname, h.Gname, h.Format = name, epoch, time.Time{}, time.Time{}, "", "", tar.FormatPAX
	if info.IsDir() {
		h.Name += "/"
	}
	if info.Mode().IsRegular() && st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if first, ok := links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			links[key] = name
		}
	}
	if err := addXattrs(h, p); err != nil {
		return err
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag == tar.TypeDir && isOpaque(p) {
		if err := tw.WriteHeader(&tar.Header{Name: name + "/.wh..wh..opq", Mode: 0o600, ModTime: epoch}); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}

// addXattrs records the extended attributes that matter in an image: file capabilities and user.*.
func addXattrs(h *tar.Header, p string) error {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(p, buf)
	if err != nil || n == 0 {
		return nil //nolint:nilerr // a file system without extended attributes has none to record
	}
	for _, name := range strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		val := make([]byte, 4096)
		m, err := unix.Lgetxattr(p, name, val)
		if err != nil {
			return fmt.Errorf("%s: read %s: %w", p, name, err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(val[:m])
	}
	return nil
}

func isOpaque(p string) bool {
	buf := make([]byte, 8)
	n, err := unix.Lgetxattr(p, "trusted.overlay.opaque", buf)
	return err == nil && n == 1 && buf[0] == 'y'
}
