package fsx

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func modeOf(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777
}

func TestChmodStopsAtASymlink(t *testing.T) {
	root := t.TempDir()
	outside, at := filepath.Join(root, "outside"), filepath.Join(root, "dir")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.Mkdir(at, 0o700),
		os.WriteFile(filepath.Join(at, "file"), nil, 0o600), os.Symlink("../outside", filepath.Join(at, "link"))); err != nil {
		t.Fatal(err)
	}
	dir, err := OpenDir(at)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := Chmod(dir, "link", 0o4777); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v, want %v", err, unix.ELOOP)
	}
	if got := modeOf(t, outside); got != 0o600 {
		t.Errorf("the file behind the link has mode %o, want 600", got)
	}
	if err := errors.Join(Chmod(dir, "file", 0o4711), Chmod(dir, "", 0o1750)); err != nil {
		t.Fatal(err)
	}
	if f, d := modeOf(t, at+"/file"), modeOf(t, at); f != 0o4711 || d != 0o1750 {
		t.Errorf("modes %o and %o, want 4711 and 1750", f, d)
	}
}

// A copy's target that became a link between making it and giving it its mode.
func TestCopyMetaStopsAtASymlink(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(root, "outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o600), os.WriteFile(filepath.Join(root, "src"), nil, 0o777),
		os.Chmod(filepath.Join(root, "src"), 0o4755), os.Symlink("outside", filepath.Join(root, "dst"))); err != nil {
		t.Fatal(err)
	}
	dir, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := CopyMeta(dir, "dst", dir, "src"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("%v, want %v", err, unix.ELOOP)
	}
	if got := modeOf(t, outside); got != 0o600 {
		t.Errorf("the file behind the link has mode %o, want 600", got)
	}
}
