package volumes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

func needRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for mounts and owners")
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, is error, words ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error %v, want %v", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

var ctx = context.Background()

func vol(source, target string) stack.Mount {
	return stack.Mount{Type: stack.MountVolume, Source: source, Target: target}
}

func TestCreate(t *testing.T) {
	c := volumestest.Config(t)
	m := volumestest.Open(t, c)
	spec := volumes.Spec{Name: "db", Options: map[string]string{"type": "tmpfs", "o": "size=1m"}, Labels: map[string]string{"a": "b", "com.docker.compose.project": "x"}}
	v := must[volumes.Volume](t)(m.Create(ctx, spec))
	again := must[volumes.Volume](t)(m.Create(ctx, spec))
	if diff := cmp.Diff(v, again); diff != "" {
		t.Error(diff)
	}
	must[volumes.Volume](t)(m.Create(ctx, volumes.Spec{Name: "db"}))
	other := spec
	other.Labels = map[string]string{"a": "b", "com.docker.compose.project": "y"}
	must[volumes.Volume](t)(m.Create(ctx, other))
	other.Labels = map[string]string{"a": "c"}
	_, err := m.Create(ctx, other)
	wantErr(t, err, runtime.ErrConflict, "db", "labels")
	other = spec
	other.Options = map[string]string{"type": "tmpfs"}
	_, err = m.Create(ctx, other)
	wantErr(t, err, runtime.ErrConflict, "db", "options")

	for _, bad := range []string{"../x", ".x", "a/b", "", "-a", strings.Repeat("a", 256), "a\x00"} {
		if bad == "" {
			continue
		}
		_, err := m.Create(ctx, volumes.Spec{Name: bad})
		wantErr(t, err, runtime.ErrInvalid)
	}
	_, err = m.Create(ctx, volumes.Spec{Name: "d", Driver: "flocker"})
	wantErr(t, err, runtime.ErrInvalid, "flocker")
	_, err = m.Create(ctx, volumes.Spec{Name: "d", Options: map[string]string{"size": "1g"}})
	wantErr(t, err, runtime.ErrInvalid, "size")

	m2 := volumestest.Open(t, c)
	list := must[[]volumes.Volume](t)(m2.List(ctx))
	if diff := cmp.Diff([]volumes.Volume{v}, list); diff != "" {
		t.Error(diff)
	}
}

func TestConcurrentCreate(t *testing.T) {
	m := volumestest.New(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := m.Create(ctx, volumes.Spec{Name: "one", Labels: map[string]string{"l": "1"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if l := must[[]volumes.Volume](t)(m.List(ctx)); len(l) != 1 {
		t.Error(l)
	}
}

func TestUseRemovePrune(t *testing.T) {
	c := volumestest.Config(t)
	m := volumestest.Open(t, c)
	user := strings.Repeat("ab", 32)
	out := must[[]volumes.Prepared](t)(m.Prepare(ctx, user, []stack.Mount{vol("data", "/data"), vol("", "/anon")}, ""))
	anon := out[1].Mount.Source
	if !out[1].Point.Anonymous || anon == "" || out[0].Source != filepath.Join(c.DataDir, "volumes/data/_data") {
		t.Errorf("%+v", out)
	}
	err := m.Remove(ctx, "data", true)
	wantErr(t, err, runtime.ErrConflict, user[:12], "data")

	m = volumestest.Open(t, c) // a restart keeps users and anonymous names
	ok(t, m.Unmount(ctx, user))
	wantErr(t, m.Remove(ctx, "data", false), runtime.ErrConflict, user[:12])
	again := must[[]volumes.Prepared](t)(m.Prepare(ctx, user, []stack.Mount{vol("data", "/data"), vol("", "/anon")}, ""))
	if diff := cmp.Diff(out, again); diff != "" {
		t.Error(diff)
	}
	if r := must[runtime.PruneReport](t)(m.Prune(ctx, true, nil)); len(r.Deleted) != 0 {
		t.Error(r)
	}
	ok(t, m.Release(ctx, user))
	ok(t, m.Release(ctx, user))
	ok(t, m.RemoveAnonymous(ctx, user)) // also after Release
	_, err = m.Inspect(ctx, anon)
	wantErr(t, err, runtime.ErrNotFound)
	if r := must[runtime.PruneReport](t)(m.Prune(ctx, false, nil)); len(r.Deleted) != 0 {
		t.Error(r)
	}
	if r := must[runtime.PruneReport](t)(m.Prune(ctx, true, map[string]string{"x": ""})); len(r.Deleted) != 0 {
		t.Error(r)
	}
	if r := must[runtime.PruneReport](t)(m.Prune(ctx, true, nil)); len(r.Deleted) != 1 || r.Deleted[0] != "data" {
		t.Error(r)
	}
	wantErr(t, m.Remove(ctx, "data", false), runtime.ErrNotFound)
	ok(t, m.Remove(ctx, "data", true))
}

func TestKnown(t *testing.T) {
	c := volumestest.Config(t)
	m := volumestest.Open(t, c)
	must[[]volumes.Prepared](t)(m.Prepare(ctx, "gone", []stack.Mount{vol("a", "/a"), vol("", "/x")}, ""))
	must[[]volumes.Prepared](t)(m.Prepare(ctx, "here", []stack.Mount{vol("b", "/b")}, ""))
	must[volumes.Volume](t)(m.Create(ctx, volumes.Spec{Name: "lost"}))
	m = volumestest.Open(t, c)
	ok(t, m.Known(ctx, map[string][]string{"here": {"b", "lost"}, "new": {"lost"}}))
	for name, want := range map[string]string{"a": "", "b": "here", "lost": "here new"} {
		if got := strings.Join(m.Users(name), " "); got != want {
			t.Errorf("users of %s: %q, want %q", name, got, want)
		}
	}
	if l := must[[]volumes.Volume](t)(m.List(ctx)); len(l) != 4 { // anonymous volumes of a finished container stay
		t.Error(l)
	}
}

// rootfs makes an image's root with content at /img.
func rootfs(t testing.TB) string {
	dir := t.TempDir()
	ok(t, os.MkdirAll(dir+"/img/sub", 0o751))
	ok(t, os.WriteFile(dir+"/img/sub/f", []byte("x"), 0o4755))
	ok(t, os.Chown(dir+"/img/sub/f", 11, 12))
	ok(t, unix.Chmod(dir+"/img/sub/f", 0o4755))
	ok(t, unix.Setxattr(dir+"/img/sub/f", "user.k", []byte("v"), 0))
	ok(t, os.Link(dir+"/img/sub/f", dir+"/img/hard"))
	ok(t, os.Symlink("sub", dir+"/img/link"))
	ok(t, os.Truncate(dir+"/img/hard", 1<<20))
	ok(t, os.Mkdir(dir+"/empty", 0o700))
	ok(t, os.Chown(dir+"/empty", 999, 998))
	ok(t, os.Symlink("/img", dir+"/alias"))
	ok(t, os.Symlink("/../../../../../etc", dir+"/out"))
	ok(t, unix.Chmod(dir+"/img", 0o2775))
	ok(t, os.Chown(dir+"/img", 33, 34))
	return dir
}

func TestCopyUp(t *testing.T) {
	needRoot(t)
	m, root := volumestest.New(t), rootfs(t)
	nocopy := vol("n", "/img/sub")
	nocopy.NoCopy = true
	out := must[[]volumes.Prepared](t)(m.Prepare(ctx, "u", []stack.Mount{vol("a", "/img"), vol("e", "/empty"), vol("l", "/alias/sub"), vol("o", "/out"), vol("x", "/missing"), nocopy}, root))
	path := map[string]string{}
	for _, p := range out {
		path[p.Mount.Source] = p.Source
	}
	for name, dir := range map[string]string{"a": "/img", "l": "/img/sub", "e": "/empty"} {
		if diff := cmp.Diff(volumestest.Snapshot(t, root+dir), volumestest.Snapshot(t, path[name])); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, name := range []string{"o", "x", "n"} {
		if e, _ := os.ReadDir(path[name]); len(e) != 0 {
			t.Errorf("volume %s has %v", name, e)
		}
	}
	// Not again: not for a container that had it, not into content.
	ok(t, os.RemoveAll(path["a"]+"/sub"))
	must[[]volumes.Prepared](t)(m.Prepare(ctx, "u", []stack.Mount{vol("a", "/img")}, root))
	must[[]volumes.Prepared](t)(m.Prepare(ctx, "u2", []stack.Mount{vol("a", "/img")}, root))
	if _, err := os.Stat(path["a"] + "/sub"); err == nil {
		t.Error("copied into a volume with content")
	}
}

func TestSubpath(t *testing.T) {
	needRoot(t)
	c := volumestest.Config(t)
	m := volumestest.Open(t, c)
	v := must[volumes.Volume](t)(m.Create(ctx, volumes.Spec{Name: "v"}))
	ok(t, os.MkdirAll(v.Mountpoint+"/in/deep", 0o755))
	ok(t, os.WriteFile(v.Mountpoint+"/in/f", []byte("file"), 0o644))
	ok(t, os.Symlink("/in", v.Mountpoint+"/rel"))
	ok(t, os.Symlink("/etc", v.Mountpoint+"/abs"))
	ok(t, os.Symlink("../../../../../../etc", v.Mountpoint+"/up"))
	sub := func(s string) stack.Mount {
		m := vol("v", "/t"+strings.ReplaceAll(s, "/", "_"))
		m.Subpath = s
		return m
	}
	out := must[[]volumes.Prepared](t)(m.Prepare(ctx, "u", []stack.Mount{sub("in"), sub("in/f"), sub("rel/deep")}, ""))
	for i, want := range []string{"in", "in/f", "in/deep"} {
		var a, b unix.Stat_t
		ok(t, unix.Stat(out[i].Source, &a))
		ok(t, unix.Stat(filepath.Join(v.Mountpoint, want), &b))
		if a.Ino != b.Ino {
			t.Errorf("%s is another file", want)
		}
	}
	for _, bad := range []string{"abs", "up", "../v", "missing", "in/../../../etc"} {
		_, err := m.Prepare(ctx, "bad", []stack.Mount{sub(bad)}, "")
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("subpath %q: error %v", bad, err)
		}
	}
	if users := m.Users("v"); len(users) != 1 {
		t.Errorf("users %v", users)
	}
	// A daemon that comes back knows nothing of the container: the mounts go.
	m = volumestest.Open(t, c)
	ok(t, m.Known(ctx, nil))
	if e, _ := os.ReadDir(c.RunDir + "/volumes"); len(e) != 0 {
		t.Errorf("left: %v", e)
	}
	ok(t, m.Remove(ctx, "v", false))
}

func TestOrder(t *testing.T) {
	m := volumestest.New(t)
	img := vol("", "/a")
	img.FromImage = true
	out := must[[]volumes.Prepared](t)(m.Prepare(ctx, "u", []stack.Mount{img, vol("d", "/x/y/z"), vol("b", "/a/"), vol("c", "/x")}, ""))
	var got []string
	for _, p := range out {
		got = append(got, p.Point.Target)
	}
	if diff := cmp.Diff([]string{"/a", "/x", "/x/y/z"}, got); diff != "" || out[0].Point.Name != "b" {
		t.Error(diff, out)
	}
	for _, bad := range [][]stack.Mount{
		{vol("a", "/a"), vol("b", "/a/.")}, {vol("a", "a")}, {vol("a", "/")}, {vol("../a", "/x")},
		{{Type: stack.MountNpipe, Target: "/x"}}, {{Type: stack.MountImage, Source: "redis", Target: "/x"}},
		{{Type: stack.MountTmpfs, Target: "/x", TmpfsOpts: []string{"bogus"}}},
	} {
		_, err := m.Prepare(ctx, "bad", bad, "")
		wantErr(t, err, runtime.ErrInvalid)
	}
	if l := must[[]volumes.Volume](t)(m.List(ctx)); len(l) != 3 {
		t.Errorf("refused mounts left volumes: %v", l)
	}
}

func TestUndo(t *testing.T) {
	m := volumestest.New(t)
	_, err := m.Prepare(ctx, "u", []stack.Mount{vol("", "/a"), vol("", "/b"), {Type: stack.MountBind, Source: "/no/such/dir", Target: "/c"}}, "")
	wantErr(t, err, runtime.ErrInvalid, "/no/such/dir", "/c")
	if l := must[[]volumes.Volume](t)(m.List(ctx)); len(l) != 0 {
		t.Errorf("left %v", l)
	}
}

type fakeImages struct{ log []string }

func (f *fakeImages) Image(_ context.Context, ref, _ string) (*runtime.Image, error) {
	if ref != "busybox" {
		return nil, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
	}
	return &runtime.Image{ID: "sha256:1"}, nil
}

func (f *fakeImages) MountImage(_ context.Context, key, id, target string) error {
	f.log = append(f.log, "mount "+key+" "+id)
	return os.MkdirAll(target+"/bin", 0o755)
}

func (f *fakeImages) UnmountImage(_ context.Context, key, target string) error {
	f.log = append(f.log, "unmount "+key)
	return os.RemoveAll(target + "/bin")
}

func TestImageMount(t *testing.T) {
	needRoot(t)
	c := volumestest.Config(t)
	images := &fakeImages{}
	c.Images = images
	m := volumestest.Open(t, c)
	out := must[[]volumes.Prepared](t)(m.Prepare(ctx, "u", []stack.Mount{{Type: stack.MountImage, Source: "busybox", Target: "/i", Subpath: "bin"}}, ""))
	if o := out[0].Options; o[len(o)-1] != "ro" || !out[0].Point.ReadOnly {
		t.Errorf("not read-only: %+v", out[0])
	}
	ok(t, m.Release(ctx, "u"))
	if diff := cmp.Diff([]string{"mount u-0 sha256:1", "unmount u-0"}, images.log); diff != "" {
		t.Error(diff)
	}
	_, err := m.Prepare(ctx, "u", []stack.Mount{{Type: stack.MountImage, Source: "none", Target: "/i"}}, "")
	wantErr(t, err, runtime.ErrNotFound)
}

func BenchmarkPrepare(b *testing.B) {
	m := volumestest.New(b)
	for name, mounts := range map[string][]stack.Mount{
		"none": nil, "named": {vol("a", "/a")}, "anonymous": {vol("", "/a")},
		"bind": {{Type: stack.MountBind, Source: "/tmp", Target: "/x"}},
	} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				user := fmt.Sprintf("%s%d", name, i)
				if _, err := m.Prepare(ctx, user, mounts, ""); err != nil {
					b.Fatal(err)
				}
				if err := m.RemoveAnonymous(ctx, user); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
