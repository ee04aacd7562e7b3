package archive_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/volumes/backup/archive"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

func needRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for owners, devices and attributes")
	}
}

// sample makes a tree with one of everything.
func sample(t testing.TB, dir string) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := func(name, data string) string {
		p := filepath.Join(dir, name)
		ok(os.WriteFile(p, []byte(data), 0o640))
		return p
	}
	ok(os.MkdirAll(dir+"/a/empty", 0o750))
	ok(os.MkdirAll(dir+"/"+strings.Repeat("d", 200)+"/"+strings.Repeat("e", 200), 0o711))
	w(strings.Repeat("d", 200)+"/"+strings.Repeat("e", 200)+"/f", "deep")
	f := w("a/file", "hello")
	ok(os.Chown(f, 70000, 3000000))
	ok(unix.Setxattr(f, "user.a=b%c", []byte("x\x00\n=y"), 0))
	ok(unix.Setxattr(f, "trusted.t", []byte("t"), 0))
	acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}
	ok(unix.Setxattr(f, "system.posix_acl_access", acl, 0))
	bin := w("a/bin", "elf")
	ok(os.Chown(bin, 5, 6))
	ok(unix.Chmod(bin, 0o6755))
	ok(unix.Setxattr(bin, "security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0))
	ok(os.Link(f, dir+"/a/hard"))
	ok(os.Symlink("/etc/shadow", dir+"/a/abs"))
	ok(os.Symlink(strings.Repeat("x/", 300), dir+"/a/long"))
	ok(os.Link(dir+"/a/abs", dir+"/a/abs2"))
	ok(os.Lchown(dir+"/a/abs", 7, 8))
	ok(unix.Mkfifo(dir+"/a/fifo", 0o622))
	ok(unix.Mknod(dir+"/a/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	ok(unix.Mknod(dir+"/a/blk", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 300))))
	w("new\nline", "1")
	w("bad\xff\xfeutf8", "2")
	w("-rf", "")
	w(" ~`$(x)", "3")
	old := w("old", "4")
	ok(unix.UtimesNano(old, []unix.Timespec{{Sec: -5, Nsec: 1}, {Sec: -100, Nsec: 999999999}}))
	fut := w("future", "5")
	ok(unix.UtimesNano(fut, []unix.Timespec{{Sec: 1, Nsec: 1}, {Sec: 1 << 33, Nsec: 7}}))
	hole := w("hole", "")
	ok(os.Truncate(hole, 5<<30))
	mid, err := os.Create(dir + "/mid")
	ok(err)
	mid.WriteAt([]byte("start"), 0)
	mid.WriteAt(bytes.Repeat([]byte("m"), 9000), 1<<20)
	mid.WriteAt([]byte("end"), 10<<20)
	ok(mid.Truncate(12 << 20))
	ok(mid.Close())
	big, err := os.Create(dir + "/big")
	ok(err)
	for i := range 3 << 10 {
		fmt.Fprintf(big, "%04096d", i)
	}
	ok(big.Close())
	ok(unix.UtimesNano(dir+"/a/empty", []unix.Timespec{{Sec: 11, Nsec: 12}, {Sec: 13, Nsec: 14}}))
	ok(unix.UtimesNano(dir, []unix.Timespec{{Sec: 21, Nsec: 22}, {Sec: 23, Nsec: 24}}))
	ok(unix.Chmod(dir, 0o1770))
}

func write(t testing.TB, dir string) ([]byte, archive.Summary) {
	t.Helper()
	var buf bytes.Buffer
	sum, err := archive.Write(t.Context(), &buf, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), sum
}

// snapshot without the huge hole, which takes seconds to hash.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var st unix.Stat_t
	if unix.Stat(dir+"/hole", &st) == nil {
		if st.Size != 5<<30 || st.Blocks != 0 {
			t.Errorf("hole: size %d, %d blocks", st.Size, st.Blocks)
		}
		var dst unix.Stat_t
		unix.Stat(dir, &dst)
		os.Remove(dir + "/hole")
		unix.UtimesNano(dir, []unix.Timespec{dst.Atim, dst.Mtim})
	}
	return volumestest.Snapshot(t, dir)
}

func TestRoundTrip(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	sample(t, src)
	data, sum := write(t, src)
	if len(sum.Warnings) > 0 {
		t.Errorf("warnings %q", sum.Warnings)
	}
	if _, err := archive.Extract(t.Context(), bytes.NewReader(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(snapshot(t, src), snapshot(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestGNUTarReadsIt(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	sample(t, src)
	data, _ := write(t, src)
	cmd := exec.Command("tar", "--zstd", "-xpf", "-", "--xattrs", "--xattrs-include=*", "--same-owner", "-C", dst)
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// GNU tar sets the mode after the access list, which drops nothing here.
	if diff := cmp.Diff(snapshot(t, src), snapshot(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestImportReadsIt(t *testing.T) {
	needRoot(t)
	src, dst := t.TempDir(), t.TempDir()
	sample(t, src)
	os.Remove(src + "/hole")
	data, _ := write(t, src)
	if _, err := archive.Import(t.Context(), bytes.NewReader(data), dst); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(snapshot(t, src), snapshot(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestImportReadsGNUTar(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	sample(t, src)
	os.Remove(src + "/hole")
	want := snapshot(t, src)
	for _, flags := range [][]string{
		{"--format=posix", "-S", "--xattrs", "--xattrs-include=*"},
		{"--format=posix", "-S", "--sparse-version=0.1", "--xattrs", "--xattrs-include=*", "-z"},
		{"--format=posix", "-S", "--xattrs", "--xattrs-include=*", "--zstd"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			dst := t.TempDir()
			data, err := exec.Command("tar", append(flags, "-cf", "-", "-C", src, ".")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := archive.Import(t.Context(), bytes.NewReader(data), dst); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, snapshot(t, dst)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRandomTrees: any tree comes back equal.
func TestRandomTrees(t *testing.T) {
	needRoot(t)
	rapid.Check(t, func(rt *rapid.T) {
		src, err := os.MkdirTemp(t.TempDir(), "src")
		if err != nil {
			rt.Fatal(err)
		}
		dst, err := os.MkdirTemp(t.TempDir(), "dst")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(src)
		defer os.RemoveAll(dst)
		randomTree(rt, src)
		var buf bytes.Buffer
		var recs []*archive.Record
		if _, err := archive.Write(t.Context(), &buf, src, func(r *archive.Record) error { recs = append(recs, r); return nil }); err != nil {
			rt.Fatal(err)
		}
		i := 0
		_, err = archive.Extract(t.Context(), &buf, dst, func(r *archive.Record) error {
			if !r.Equal(recs[i]) {
				return fmt.Errorf("record %+v, want %+v", r, recs[i])
			}
			i++
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(volumestest.Snapshot(t, src), volumestest.Snapshot(t, dst)); diff != "" {
			rt.Fatal(diff)
		}
	})
}

func randomTree(t *rapid.T, root string) {
	dirs := []string{root}
	var files []string
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab.\n \\é%=\"")), 1, 12, 40)
	pick := func(l []string) string { return rapid.SampledFrom(l).Draw(t, "at") }
	for i := range rapid.IntRange(0, 25).Draw(t, "entries") {
		p := filepath.Join(pick(dirs), name.Draw(t, "name")+fmt.Sprint(i))
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			os.Mkdir(p, 0o700)
			dirs = append(dirs, p)
		case 1, 2:
			os.WriteFile(p, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "data"), 0o600)
			files = append(files, p)
		case 3:
			os.Symlink(name.Draw(t, "target"), p)
		case 4:
			if len(files) > 0 {
				os.Link(pick(files), p)
			}
			continue
		case 5:
			unix.Mkfifo(p, 0o600)
		case 6:
			sparse(t, p)
			files = append(files, p)
		}
		unix.Lchown(p, rapid.IntRange(0, 1<<22).Draw(t, "uid"), rapid.IntRange(0, 1<<22).Draw(t, "gid"))
		if fi, err := os.Lstat(p); err == nil && fi.Mode()&os.ModeSymlink == 0 {
			unix.Chmod(p, uint32(rapid.IntRange(0, 0o7777).Draw(t, "mode")))
			if fi.Mode().IsRegular() || fi.IsDir() {
				for range rapid.IntRange(0, 2).Draw(t, "xattrs") {
					unix.Setxattr(p, "user."+rapid.StringMatching(`[a-z=%.]{1,9}`).Draw(t, "xattr"), rapid.SliceOfN(rapid.Byte(), 0, 90).Draw(t, "value"), 0)
				}
			}
		}
	}
	all := append(dirs, files...)
	for i := len(all) - 1; i >= 0; i-- {
		at := unix.Timespec{Sec: rapid.Int64Range(-1<<31, 1<<33).Draw(t, "sec"), Nsec: rapid.Int64Range(0, 999999999).Draw(t, "nsec")}
		unix.UtimesNano(all[i], []unix.Timespec{at, at})
	}
}

func sparse(t *rapid.T, p string) {
	f, err := os.Create(p)
	if err != nil {
		return
	}
	defer f.Close()
	for range rapid.IntRange(0, 4).Draw(t, "parts") {
		f.WriteAt(rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "data"), rapid.Int64Range(0, 1<<20).Draw(t, "off"))
	}
	f.Truncate(rapid.Int64Range(0, 1<<21).Draw(t, "size"))
}
