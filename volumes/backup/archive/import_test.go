package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/volumes/backup/archive"
)

func tarOf(t testing.TB, headers ...tar.Header) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			h.Size = 3
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			w.Write([]byte("abc"))
		}
	}
	w.Close()
	return buf.Bytes()
}

// TestHostile: no archive writes outside of its directory.
func TestHostile(t *testing.T) {
	needRoot(t)
	link := func(name, to string, typ byte) tar.Header {
		return tar.Header{Name: name, Linkname: to, Typeflag: typ}
	}
	for what, data := range map[string][]byte{
		"dot dot":              tarOf(t, tar.Header{Name: "../evil"}),
		"dot dot inside":       tarOf(t, tar.Header{Name: "a/../../evil"}),
		"through a symlink":    tarOf(t, link("l", "..", tar.TypeSymlink), tar.Header{Name: "l/evil"}),
		"through an abs link":  tarOf(t, link("l", "/tmp", tar.TypeSymlink), tar.Header{Name: "l/evil"}),
		"link to the outside":  tarOf(t, link("l", "../secret", tar.TypeLink)),
		"link by symlink":      tarOf(t, link("l", "..", tar.TypeSymlink), link("x", "l/secret", tar.TypeLink)),
		"reserved name":        tarOf(t, tar.Header{Name: ".dhow-swap-old/x"}),
		"link to nothing":      tarOf(t, link("l", "nothing", tar.TypeLink)),
		"a file on the way":    tarOf(t, tar.Header{Name: "f"}, tar.Header{Name: "f/g"}),
		"root that is a file":  tarOf(t, tar.Header{Name: "."}),
		"cut after a header":   tarOf(t, tar.Header{Name: "x"})[:512],
		"bzip2":                []byte("BZh91AY&SY"),
		"nothing":              {},
		"an empty tar archive": make([]byte, 1024),
	} {
		t.Run(what, func(t *testing.T) {
			base := t.TempDir()
			os.Mkdir(base+"/in", 0o755)
			os.WriteFile(base+"/secret", []byte("s"), 0o600)
			if _, err := archive.Import(t.Context(), bytes.NewReader(data), base+"/in"); !errors.Is(err, archive.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			outside(t, base)
			if _, err := os.Stat("/tmp/evil"); err == nil {
				t.Error("/tmp/evil was written")
			}
		})
	}
}

func outside(t testing.TB, base string) {
	t.Helper()
	entries, _ := os.ReadDir(base)
	var st unix.Stat_t
	unix.Stat(base+"/secret", &st)
	if len(entries) != 2 || st.Nlink != 1 {
		t.Errorf("written outside: %v, %d links", entries, st.Nlink)
	}
}

// TestImportOddities: what tar programs write in practice.
func TestImportOddities(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	data := tarOf(t,
		tar.Header{Name: "/abs/file"}, tar.Header{Name: "./dot//double"},
		tar.Header{Name: "x"}, tar.Header{Name: "x", Mode: 0o4711}, // appended again: the later one counts
		tar.Header{Name: "d", Linkname: "abs", Typeflag: tar.TypeSymlink}, tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "d/in"},
		tar.Header{Name: "lnk", Linkname: "/abs/file", Typeflag: tar.TypeLink},
	)
	if _, err := archive.Import(t.Context(), bytes.NewReader(data), dir); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"abs/file", "dot/double", "x", "d/in", "lnk"} {
		if b, err := os.ReadFile(dir + "/" + p); string(b) != "abc" {
			t.Errorf("%s: %q %v", p, b, err)
		}
	}
	if _, err := os.Stat(dir + "/abs/in"); err == nil {
		t.Error("written through the link")
	}
	var st unix.Stat_t
	unix.Stat(dir+"/x", &st)
	if st.Mode&0o7777 != 0o4711 {
		t.Errorf("mode %o", st.Mode)
	}
}

// TestImportCutOff: an archive that ends early is refused wherever it was cut.
func TestImportCutOff(t *testing.T) {
	needRoot(t)
	data := tarOf(t, tar.Header{Name: "a"}, tar.Header{Name: "b"})
	for cut := 100; cut < len(data)-512; cut += 100 {
		if _, err := archive.Import(t.Context(), bytes.NewReader(data[:cut]), t.TempDir()); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("cut after %d of %d bytes: %v", cut, len(data), err)
		}
	}
	if _, err := archive.Import(t.Context(), bytes.NewReader(data), t.TempDir()); err != nil {
		t.Errorf("whole: %v", err)
	}
}

// TestBomb: a stream larger than the disk is refused before it fills it.
func TestBomb(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("SKIPPED: cannot mount a tmpfs:", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	src := t.TempDir()
	os.WriteFile(src+"/zeros", make([]byte, 64<<20), 0o600)
	data, _ := write(t, src)
	if len(data) > 1<<20 {
		t.Fatalf("%d bytes", len(data))
	}
	for _, read := range []func() error{
		func() error { _, err := archive.Import(t.Context(), bytes.NewReader(data), dir); return err },
		func() error { _, err := archive.Extract(t.Context(), bytes.NewReader(data), dir, nil); return err },
	} {
		if err := read(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "zeros") {
			t.Errorf("error %v", err)
		}
		os.RemoveAll(dir + "/zeros")
	}
}

func FuzzImport(f *testing.F) {
	f.Add(tarOf(f, tar.Header{Name: "a/b"}, tar.Header{Name: "l", Linkname: "..", Typeflag: tar.TypeSymlink}))
	f.Add(tarOf(f, tar.Header{Name: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "mtime": "1.5"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		os.Mkdir(base+"/in", 0o755)
		os.WriteFile(base+"/secret", []byte("s"), 0o600)
		archive.Import(t.Context(), bytes.NewReader(data), base+"/in")
		outside(t, base)
	})
}

// FuzzExtract mutates the tar stream below the compression.
func FuzzExtract(f *testing.F) {
	src := f.TempDir()
	os.WriteFile(src+"/a", []byte("data"), 0o600)
	os.Truncate(src+"/a", 1<<20)
	os.Symlink("..", src+"/l")
	_, raw := rawTar(f, src)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		os.Mkdir(base+"/in", 0o755)
		os.WriteFile(base+"/secret", []byte("s"), 0o600)
		archive.Extract(t.Context(), bytes.NewReader(compress(data)), base+"/in", nil)
		outside(t, base)
	})
}
