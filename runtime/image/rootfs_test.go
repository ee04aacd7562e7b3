package image

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func TestRootfs(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	img := simple("app:1", "low", "high")
	img.Layers[1] = append(img.Layers[1], imagetest.File{Path: "data/.wh.0"})
	load(t, s, img)
	id := get(t, s, "app:1").ID
	root := filepath.Join(dir, "root")
	for range 2 { // it may be repeated
		if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
			t.Fatal(err)
		}
	}
	if got := readFile(t, root+"/data/1"); got != "high" {
		t.Errorf("data/1 is %q", got)
	}
	if _, err := os.Stat(root + "/data/0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("data/0 was deleted by a layer: %v", err)
	}
	if st, _ := os.Stat(root); st.Mode().Perm() != 0o755 {
		t.Errorf("root's mode is %v", st.Mode())
	}
	if err := os.WriteFile(root+"/written", bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Usage(ctx, "c1"); err != nil || n < 1<<20 || n > 2<<20 {
		t.Errorf("usage %d, %v", n, err)
	}
	if err := s.UnmountRootfs(ctx, "c1", root); err != nil {
		t.Fatal(err)
	}
	if isMounted(root) {
		t.Fatal("still mounted")
	}
	// After a reboot the run directory is gone and the layer is not.
	os.RemoveAll(root)
	if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + "/written"); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.RemoveRootfs(ctx, "c1", root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Usage(ctx, "c1"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("usage after removal: %v", err)
	}
}

func TestRootfsRefusals(t *testing.T) {
	ctx, s := t.Context(), newStore(t, nil)
	for _, id := range []string{"", "..", "a/b", ".hidden", "a,b"} {
		wantErr(t, s.MountRootfs(ctx, id, "sha256:1", "/nowhere"), runtime.ErrInvalid)
		wantErr(t, s.RemoveRootfs(ctx, id, ""), runtime.ErrInvalid)
	}
	wantErr(t, s.MountRootfs(ctx, "c", "sha256:"+fmt.Sprintf("%064d", 1), t.TempDir()), runtime.ErrNotFound, "no such image")
}

func TestRootfsSurvivesCollectionAndRemoval(t *testing.T) {
	ctx, dir := t.Context(), mountDir(t)
	data := t.TempDir()
	users := map[string][]string{}
	inUse := func(c *Config) { c.InUse = func() (map[string][]string, error) { return users, nil } }
	s := openStore(t, data, inUse)
	load(t, s, simple("app:1", "low", "high"), simple("other:1", "x"))
	id, root := get(t, s, "app:1").ID, filepath.Join(dir, "root")
	users[id], users[get(t, s, "other:1").ID] = []string{"web-1"}, []string{"web-2"}
	if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
		t.Fatal(err)
	}
	_, err := s.Remove(ctx, "app:1", false, true)
	wantErr(t, err, runtime.ErrConflict, "web-1", "app:1")
	if _, err := s.Prune(ctx, true, nil); err != nil {
		t.Fatal(err)
	}
	r, err := s.Remove(ctx, "app:1", true, true)
	if err != nil || len(r.Deleted) != 0 || len(r.Untagged) != 1 {
		t.Fatalf("forced: %+v, %v", r, err)
	}
	if img := get(t, s, id); len(img.Tags) != 0 {
		t.Errorf("tags %q", img.Tags)
	}
	// Even with the image wholly gone the layers stay, also over a restart.
	users = nil
	if _, err := s.Remove(ctx, id, true, true); err != nil {
		t.Fatal(err)
	}
	if err := s.UnmountRootfs(ctx, "c1", root); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, data, inUse)
	if _, err := s.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, root+"/data/0"); got != "low" {
		t.Errorf("data/0 is %q", got)
	}
	if err := s.RemoveRootfs(ctx, "c1", root); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(ctx, "other:1", false, true); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

func TestRootfsDeepAndFlat(t *testing.T) {
	for _, n := range []int{0, 1, 130} {
		t.Run(fmt.Sprint(n, " layers"), func(t *testing.T) {
			ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
			var contents []string
			for i := range n {
				contents = append(contents, fmt.Sprint("layer ", i))
			}
			load(t, s, simple("deep:1", contents...))
			id, root := get(t, s, "deep:1").ID, filepath.Join(dir, "root")
			if err := s.MountRootfs(ctx, "c1", id, root); err != nil {
				t.Fatal(err)
			}
			if err := s.MountImage(ctx, "vol", id, filepath.Join(dir, "img")); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if got := readFile(t, fmt.Sprintf("%s/data/%d", root, i)); got != fmt.Sprint("layer ", i) {
					t.Fatalf("data/%d is %q", i, got)
				}
			}
			if err := os.WriteFile(root+"/new", nil, 0o644); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(dir+"/img/new", nil, 0o644); err == nil {
				t.Error("an image mount is writable")
			}
			if err := s.UnmountImage(ctx, "vol", filepath.Join(dir, "img")); err != nil {
				t.Error(err)
			}
			if err := s.RemoveRootfs(ctx, "c1", root); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestImageMountHoldsLayers(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	load(t, s, simple("data:1", "a", "b"))
	id, at := get(t, s, "data:1").ID, filepath.Join(dir, "m")
	for range 2 {
		if err := s.MountImage(ctx, "web/0", id, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Remove(ctx, "data:1", false, true); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, at+"/data/1"); got != "b" {
		t.Errorf("data/1 is %q", got)
	}
	for range 2 {
		if err := s.UnmountImage(ctx, "web/0", at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Collect(ctx); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

// Sixty containers of an image that is not unpacked unpack it once.
func TestRootfsTogether(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	load(t, s, simple("app:1", "a", "b", "c"))
	img := get(t, s, "app:1")
	dropSnapshots(t, s)
	var g errgroup.Group
	for i := range 60 {
		g.Go(func() error {
			return s.MountRootfs(ctx, fmt.Sprint("c", i), img.ID, fmt.Sprint(dir, "/", i))
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if got := readFile(t, fmt.Sprint(dir, "/", i, "/data/2")); got != "c" {
			t.Errorf("%d: %q", i, got)
		}
		if err := s.RemoveRootfs(ctx, fmt.Sprint("c", i), fmt.Sprint(dir, "/", i)); err != nil {
			t.Error(err)
		}
	}
}

// dropSnapshots makes the store forget that it has unpacked anything.
func dropSnapshots(t *testing.T, s *Store) {
	t.Helper()
	ctx := s.context(t.Context())
	for {
		all, err := s.inventory(ctx)
		if err != nil {
			t.Fatal(err)
		}
		left := false
		for key := range all {
			if len(key) > 6 && key[:6] == "layer " {
				left = true
				_ = s.snaps.Remove(ctx, key[6:]) // those with children go later
			}
		}
		if !left {
			s.cache.reset()
			return
		}
	}
}

// Starting containers and removing images at once breaks neither.
func TestRootfsAgainstCollector(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	archive := imagetest.Archive(t, simple("app:1", "a", "b"))
	var mu sync.Mutex
	misses := 0
	var g errgroup.Group
	g.Go(func() error {
		for range 15 {
			if _, err := s.Load(ctx, bytes.NewReader(archive), nil); err != nil {
				return err
			}
			if _, err := s.Remove(ctx, "app:1", true, true); err != nil {
				return err
			}
		}
		_, err := s.Load(ctx, bytes.NewReader(archive), nil)
		return err
	})
	for w := range 3 {
		g.Go(func() error {
			for i := range 40 {
				name := fmt.Sprintf("c%d-%d", w, i)
				at := filepath.Join(dir, name)
				img, err := s.Image(ctx, "app:1", "")
				if err == nil {
					err = s.MountRootfs(ctx, name, img.ID, at)
				}
				if errors.Is(err, runtime.ErrNotFound) {
					mu.Lock()
					misses++
					mu.Unlock()
					continue
				}
				if err != nil {
					return err
				}
				if data, err := os.ReadFile(at + "/data/1"); err != nil || string(data) != "b" {
					return fmt.Errorf("%s: %q, %w", name, data, err)
				}
				if err := s.RemoveRootfs(ctx, name, at); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d starts met an image that was gone", misses)
}

func TestSweepRootfs(t *testing.T) {
	ctx, s, dir := t.Context(), newStore(t, nil), mountDir(t)
	load(t, s, simple("app:1", "a"))
	id := get(t, s, "app:1").ID
	for _, c := range []string{"keep", "drop"} {
		if err := s.MountRootfs(ctx, c, id, filepath.Join(dir, c)); err != nil {
			t.Fatal(err)
		}
		if err := s.UnmountRootfs(ctx, c, filepath.Join(dir, c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SweepRootfs(ctx, func(id string) bool { return id == "keep" }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Usage(ctx, "keep"); err != nil {
		t.Error(err)
	}
	if _, err := s.Usage(ctx, "drop"); err == nil {
		t.Error("the orphan is still there")
	}
}

func BenchmarkMountRootfs(b *testing.B) {
	s, dir := newStore(b, nil), mountDir(b)
	load(b, s, simple("app:1", "a", "b", "c"))
	id := get(b, s, "app:1").ID
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprint("c", i)
		at := filepath.Join(dir, name)
		if err := s.MountRootfs(b.Context(), name, id, at); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.RemoveRootfs(b.Context(), name, at); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkMountRootfs60(b *testing.B) {
	s, dir := newStore(b, nil), mountDir(b)
	load(b, s, simple("app:1", "a", "b", "c"))
	id := get(b, s, "app:1").ID
	for b.Loop() {
		var g errgroup.Group
		for i := range 60 {
			g.Go(func() error {
				return s.MountRootfs(b.Context(), fmt.Sprint("c", i), id, filepath.Join(dir, fmt.Sprint(i)))
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for i := range 60 {
			if err := s.RemoveRootfs(b.Context(), fmt.Sprint("c", i), filepath.Join(dir, fmt.Sprint(i))); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

// What the engine asks before it makes a container.
func BenchmarkImage(b *testing.B) {
	s := newStore(b, nil)
	var imgs []imagetest.Image
	for i := range 50 {
		imgs = append(imgs, simple(fmt.Sprintf("app:%d", i), "base", fmt.Sprint(i)))
	}
	load(b, s, imgs...)
	for b.Loop() {
		if _, err := s.Image(b.Context(), "app:7", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// Megabytes per second of compressed, hardly compressible layers.
func BenchmarkLoad(b *testing.B) {
	noise := make([]byte, 64<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.UintN(64))
	}
	archive := imagetest.Archive(b, simple("big:1", string(noise)))
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		s := newStore(b, nil)
		if _, err := s.Load(b.Context(), bytes.NewReader(archive), nil); err != nil {
			b.Fatal(err)
		}
	}
}
