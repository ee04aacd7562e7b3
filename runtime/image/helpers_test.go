package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

// newStore opens a store in a directory of its own. Mounts below it are taken
// off at the end.
func newStore(t testing.TB, change func(*Config)) *Store {
	t.Helper()
	return openStore(t, t.TempDir(), change)
}

func openStore(t testing.TB, dir string, change func(*Config)) *Store {
	t.Helper()
	c := Config{DataDir: dir, CertsDirs: []string{}, DockerConfig: filepath.Join(dir, "no-config.json")}
	if os.Getenv("DHOW_TEST_LOG") != "" {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if change != nil {
		change(&c)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// mountDir is a directory for mounts; whatever is mounted below is taken off.
func mountDir(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	t.Cleanup(func() {
		data, _ := os.ReadFile("/proc/self/mountinfo")
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir) {
				_ = unix.Unmount(f[4], unix.MNT_DETACH)
			}
		}
	})
	return dir
}

// simple is an image of one file per layer.
func simple(name string, contents ...string) imagetest.Image {
	img := imagetest.Image{Name: name, Config: imagetest.Config{}}
	img.Config.Cmd = []string{"/bin/true"}
	for i, c := range contents {
		img.Layers = append(img.Layers, imagetest.Files(map[string]string{fmt.Sprintf("data/%d", i): c}))
	}
	return img
}

func load(t testing.TB, s *Store, imgs ...imagetest.Image) []string {
	t.Helper()
	names, err := s.Load(t.Context(), bytes.NewReader(imagetest.Archive(t, imgs...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func get(t testing.TB, s *Store, ref string) *runtime.Image {
	t.Helper()
	img, err := s.Image(t.Context(), ref, "")
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func wantErr(t testing.TB, err, sentinel error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", words)
	}
	if sentinel != nil && !errors.Is(err, sentinel) {
		t.Errorf("error is not %q: %v", sentinel, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not mention %q: %v", w, err)
		}
	}
}

// empty checks that a store holds nothing: no name, blob, layer or lease.
func wantEmpty(t testing.TB, s *Store) {
	t.Helper()
	ctx := s.context(context.Background())
	all, err := s.inventory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for key := range all {
		t.Errorf("left behind: %s", key)
	}
	if list, _ := s.List(ctx); len(list) > 0 {
		t.Errorf("images left: %+v", list)
	}
	if ls, _ := s.leases.List(ctx); len(ls) > 0 {
		t.Errorf("leases left: %v", ls)
	}
	if st, _ := s.content.ListStatuses(ctx); len(st) > 0 {
		t.Errorf("partial blobs left: %v", st)
	}
	var disk []string
	for _, dir := range []string{"content/blobs/sha256", "content/ingest", "snapshots/snapshots"} {
		entries, _ := os.ReadDir(filepath.Join(s.cfg.DataDir, dir))
		for _, e := range entries {
			disk = append(disk, dir+"/"+e.Name())
		}
	}
	if len(disk) > 0 {
		t.Errorf("files left: %q", disk)
	}
}

// recorder keeps what a progress function is told.
type recorder struct {
	mu  sync.Mutex
	all []runtime.Progress
}

func (r *recorder) emit(p runtime.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, p)
}

// count says how often a status was reported.
func (r *recorder) count(status string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, p := range r.all {
		if strings.HasPrefix(p.Status, status) {
			n++
		}
	}
	return n
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
