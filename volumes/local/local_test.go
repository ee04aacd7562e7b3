package local_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/local"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

var ctx = context.Background()

func needLoop(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for mounts")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("SKIPPED: no loop devices:", err)
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("SKIPPED: no mkfs.ext4:", err)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prepare(t *testing.T, m *volumes.Manager, user, name string, opts map[string]string) string {
	t.Helper()
	out, err := m.Prepare(ctx, user, []stack.Mount{{Type: stack.MountVolume, Source: name, Target: "/d", VolumeOpts: opts}}, "")
	ok(t, err)
	return out[0].Source
}

func fsType(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Statfs_t
	ok(t, unix.Statfs(path, &st))
	return st.Type
}

// TestImage: a volume with a size limit is full when it is full, keeps its
// content from user to user, and is unmounted in between.
func TestImage(t *testing.T) {
	needLoop(t)
	c := volumestest.Config(t)
	m := volumestest.Open(t, c)
	opts := map[string]string{"type": "ext4", "o": "size=16m,noatime"}
	p := prepare(t, m, "a", "v", opts)
	if fsType(t, p) != unix.EXT4_SUPER_MAGIC {
		t.Error("not ext4")
	}
	if e, _ := os.ReadDir(p); len(e) != 0 {
		t.Errorf("not empty: %v", e)
	}
	ok(t, os.WriteFile(p+"/f", []byte("x"), 0o600))
	if err := os.WriteFile(p+"/big", make([]byte, 32<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("32 MB into 16: %v", err)
	}
	m = volumestest.Open(t, c) // a restart of the daemon keeps the mount
	prepare(t, m, "b", "v", nil)
	ok(t, m.Unmount(ctx, "a"))
	if fsType(t, p) != unix.EXT4_SUPER_MAGIC {
		t.Error("unmounted under a user")
	}
	ok(t, m.Release(ctx, "b"))
	if e, _ := os.ReadDir(p); len(e) != 0 {
		t.Errorf("still mounted: %v", e)
	}
	prepare(t, m, "a", "v", nil)
	if b, err := os.ReadFile(p + "/f"); string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
	ok(t, m.Release(ctx, "a"))
	ok(t, m.Remove(ctx, "v", false))
	if loops, _ := exec.Command("losetup", "-a").Output(); strings.Contains(string(loops), c.DataDir) {
		t.Errorf("loop device stays: %s", loops)
	}
}

// TestFileTwice: two volumes on one image file share a loop device, or the
// file system would be destroyed.
func TestFileTwice(t *testing.T) {
	needLoop(t)
	m := volumestest.New(t)
	img := t.TempDir() + "/disk.img"
	ok(t, os.WriteFile(img, nil, 0o600))
	ok(t, os.Truncate(img, 16<<20))
	ok(t, exec.Command("mkfs.ext4", "-q", "-F", img).Run())
	opts := map[string]string{"type": "ext4", "device": img}
	a, b := prepare(t, m, "a", "a", opts), prepare(t, m, "b", "b", opts)
	ok(t, os.WriteFile(a+"/f", []byte("x"), 0o600))
	if got, err := os.ReadFile(b + "/f"); string(got) != "x" {
		t.Errorf("%q %v", got, err)
	}
	ok(t, m.Release(ctx, "a"))
	ok(t, m.Release(ctx, "b"))
}

func TestBindAndTmpfs(t *testing.T) {
	needLoop(t)
	m := volumestest.New(t)
	dir := t.TempDir()
	ok(t, os.WriteFile(dir+"/f", []byte("x"), 0o600))
	p := prepare(t, m, "a", "b", map[string]string{"type": "none", "o": "bind,ro", "device": dir})
	if b, _ := os.ReadFile(p + "/f"); string(b) != "x" {
		t.Errorf("%q", b)
	}
	if err := os.WriteFile(p+"/g", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("read-only bind is writable: %v", err)
	}
	q := prepare(t, m, "a2", "t", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5,mode=700"})
	if fsType(t, q) != unix.TMPFS_MAGIC {
		t.Error("not tmpfs")
	}
	ok(t, m.Release(ctx, "a"))
	ok(t, m.Remove(ctx, "b", false))
	if _, err := os.Stat(dir + "/f"); err != nil {
		t.Error("removing a bind volume touched its source:", err)
	}
	_, err := m.Prepare(ctx, "x", []stack.Mount{{Type: stack.MountVolume, Source: "n", Target: "/d", VolumeOpts: map[string]string{"type": "none", "o": "bind", "device": dir + "/none"}}}, "")
	if !errors.Is(err, runtime.ErrInvalid) || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("missing device: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct{ typ, o, device, want string }{
		{"", "", "/x", "type is missing"},
		{"ext4", "", "", "needs a device"},
		{"none", "", "/x", "o=bind"},
		{"none", "bind", "x", "not an absolute path"},
		{"none", "bind,size=5m", "/x", "size is for an image"},
		{"", "size=5m", "", "type=ext4"},
		{"ext4", "size=5x", "", "size \"5x\""},
		{"ext4", "size=1m", "", "below 4 MiB"},
		{"nfs", "rw", ":/x", ""},
		{"nfs4", "addr=server,rw,soft", ":/x", ""},
		{"btrfs", "compress=zstd", "/dev/sdb", ""},
	} {
		opts := map[string]string{}
		for k, v := range map[string]string{"type": c.typ, "o": c.o, "device": c.device} {
			if v != "" {
				opts[k] = v
			}
		}
		err := local.New().Create(ctx, volumes.Volume{Options: opts}, t.TempDir())
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, runtime.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want %q", opts, err, c.want)
		}
	}
}

// TestServer: host names are resolved, whether in addr= or in the device.
func TestServer(t *testing.T) {
	for device, o := range map[string]string{":/export": "addr=nas.example", "nas.example:/export": "rw"} {
		var asked string
		d := &local.Driver{Resolve: func(_ context.Context, host string) (string, error) {
			asked = host
			return "", errors.New("no such host")
		}}
		dir := t.TempDir()
		ok(t, os.Mkdir(filepath.Join(dir, "_data"), 0o755))
		_, err := d.Mount(ctx, volumes.Volume{Options: map[string]string{"type": "nfs", "o": o, "device": device}}, dir)
		if asked != "nas.example" || err == nil || !strings.Contains(err.Error(), "nas.example: no such host") {
			t.Errorf("asked %q, error %v", asked, err)
		}
	}
}
