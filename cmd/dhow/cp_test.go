package main

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dhow-project/dhow/runtime"
)

func TestPackSaysWhatItLeavesOut(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var skipped []string
	if err := pack(&b, dir, "top", func(p string) { skipped = append(skipped, p) }); err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 1 || skipped[0] != filepath.Join(dir, "s.sock") {
		t.Errorf("skipped %q, want the socket", skipped)
	}
	var names []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "top/ top/file" {
		t.Errorf("packed %s", got)
	}
}

// odd has one of everything that a container can hold.
func odd(t *testing.T) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o2755},
		{Name: "top/exe", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 12, Gid: 34},
		{Name: "top/exe2", Typeflag: tar.TypeReg, Mode: 0o2755},
		{Name: "top/plain", Typeflag: tar.TypeReg, Mode: 0o640},
		{Name: "top/fifo", Typeflag: tar.TypeFifo, Mode: 0o600},
		{Name: "top/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		{Name: "top/disk", Typeflag: tar.TypeBlock, Devmajor: 7, Devminor: 99, Mode: 0o666},
		{Name: "top/odd", Typeflag: tar.TypeCont},
		{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{runtime.ArchiveSockets: "2"}},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestExtractMakesNothingThatGivesRights(t *testing.T) {
	dir := t.TempDir()
	x := extractor{top: "top", name: "new"}
	if err := x.extract(odd(t), dir); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"app:/top: setuid, setgid and sticky bits not kept: 3 files (--archive keeps them)",
		"app:/top: FIFOs left out: 1 (--archive copies them)",
		"app:/top: devices left out: 2 (--archive copies them)",
		"app:/top: files of a kind that cannot be copied left out: 1",
		"app:/top: sockets left out, which cannot be copied: 2",
	}
	if got := x.left.warnings("app:/top"); !slices.Equal(got, want) {
		t.Errorf("warned\n%s", strings.Join(got, "\n"))
	}
	got := map[string]fs.FileMode{}
	for _, name := range []string{"", "exe", "exe2", "plain"} {
		fi, err := os.Stat(filepath.Join(dir, "new", name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = fi.Mode()
		if st := fi.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() {
			t.Errorf("%s belongs to %d", name, st.Uid)
		}
	}
	if !maps.Equal(got, map[string]fs.FileMode{"": fs.ModeDir | 0o755, "exe": 0o755, "exe2": 0o755, "plain": 0o640}) {
		t.Errorf("modes %v", got)
	}
	if names, _ := os.ReadDir(filepath.Join(dir, "new")); len(names) != 3 {
		t.Errorf("made %v", names)
	}
}

func TestExtractAsAnArchiveKeepsAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: devices and owners need root")
	}
	dir := t.TempDir()
	x := extractor{top: "top", name: "new", archive: true}
	if err := x.extract(odd(t), dir); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, "new/exe"))
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); fi.Mode() != 0o755|fs.ModeSetuid || st.Uid != 12 || st.Gid != 34 {
		t.Errorf("exe: %v of %d:%d", fi.Mode(), st.Uid, st.Gid)
	}
	for name, mode := range map[string]fs.FileMode{"fifo": fs.ModeNamedPipe, "null": fs.ModeDevice | fs.ModeCharDevice, "disk": fs.ModeDevice} {
		if fi, err := os.Stat(filepath.Join(dir, "new", name)); err != nil || fi.Mode().Type() != mode {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	if len(x.left.kinds) != 2 || x.left.counts[kindSocket] != 2 || x.left.counts[kindOther] != 1 {
		t.Errorf("left out %v", x.left.warnings(""))
	}
}
