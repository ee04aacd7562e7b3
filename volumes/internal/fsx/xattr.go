package fsx

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcPath is a path that leads to name in dir and no further: only the last
// component is looked up. name "" is dir itself.
func ProcPath(dir *os.File, name string) string {
	p := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	if name == "" {
		return p + "/."
	}
	return p + "/" + name
}

// Xattrs returns the extended attributes of the file at path, not following a
// symlink. A file system without them has none.
func Xattrs(path string) (map[string][]byte, error) {
	var small [512]byte
	names := small[:]
	n, err := unix.Llistxattr(path, names)
	if err == unix.ERANGE {
		names = make([]byte, 64<<10)
		n, err = unix.Llistxattr(path, names)
	}
	if err == unix.ENOTSUP || (err == nil && n == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	attrs := map[string][]byte{}
	for _, name := range bytes.Split(bytes.TrimSuffix(names[:n], []byte{0}), []byte{0}) {
		val, err := getXattr(path, string(name))
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		attrs[string(name)] = val
	}
	return attrs, nil
}

func getXattr(path, name string) ([]byte, error) {
	val := make([]byte, 256)
	for {
		n, err := unix.Lgetxattr(path, name, val)
		if err == unix.ERANGE && len(val) < 64<<10 {
			val = make([]byte, 64<<10)
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		return val[:n], nil
	}
}

// SetXattr sets one attribute of the file at path, not following a symlink.
func SetXattr(path, name string, val []byte) error {
	if err := unix.Lsetxattr(path, name, val, 0); err != nil {
		return &os.PathError{Op: "setxattr " + name, Path: path, Err: err}
	}
	return nil
}
