package volumestest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// Snapshot describes a tree in one line per entry: type, mode, owner, size,
// modification time, attributes, target, content, hard links, and whether the
// file has holes. Two trees are equal when their snapshots are.
func Snapshot(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line, err := describe(path, rel, first)
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func describe(path, rel string, first map[uint64]string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	line := fmt.Sprintf("%q mode=%o owner=%d:%d mtime=%d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	attrs, err := fsx.Xattrs(path)
	if err != nil {
		return "", err
	}
	var names []string
	for n := range attrs {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		line += fmt.Sprintf(" %s=%x", n, attrs[n])
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return line, nil
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		line += fmt.Sprintf(" to=%q", to)
		if err != nil {
			return "", err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" dev=%d", st.Rdev)
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" size=%d holes=%v sum=%x", st.Size, st.Blocks*512+4096 < st.Size, sha256.Sum256(data))
	}
	if st.Nlink > 1 {
		if f, ok := first[st.Ino]; ok {
			return line + fmt.Sprintf(" link=%q", f), nil
		}
		first[st.Ino] = rel
	}
	return line, nil
}
