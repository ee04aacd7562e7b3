package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/backup/dirrepo"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

var ctx = context.Background()

// fixture is a volume "db" with content, used by containers a and b.
type fixture struct {
	t     testing.TB
	m     *volumes.Manager
	s     *backup.Service
	users *volumestest.Containers
	cfg   backup.Config
	repo  string
	dir   string // of the volume's content
}

func setup(t testing.TB) *fixture {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: needs root for owners and mounts")
	}
	return setupOn(t, volumestest.Config(t), nil)
}

func setupOn(t testing.TB, vc volumes.Config, options map[string]string) *fixture {
	f := &fixture{t: t, m: volumestest.Open(t, vc), users: volumestest.NewContainers("a", "b"), repo: t.TempDir() + "/repo"}
	f.cfg = backup.Config{Volumes: f.m, Users: f.users, DataDir: vc.DataDir, Engines: map[string]backup.Opener{"file": dirrepo.Open}}
	f.s = backup.New(f.cfg)
	_, err := f.m.Create(ctx, volumes.Spec{Name: "db", Options: options, Labels: map[string]string{"keep": "1", "com.docker.compose.project": "shop"}})
	f.ok(err)
	for _, u := range []string{"a", "b"} {
		out, err := f.m.Prepare(ctx, u, []stack.Mount{{Type: stack.MountVolume, Source: "db", Target: "/data"}}, "")
		f.ok(err)
		f.dir = out[0].Source
	}
	f.content("one")
	return f
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// content replaces what is in the volume.
func (f *fixture) content(s string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.dir)
	f.ok(err)
	for _, e := range entries {
		f.ok(os.RemoveAll(filepath.Join(f.dir, e.Name())))
	}
	f.ok(os.MkdirAll(f.dir+"/sub", 0o750))
	for i := range 20 {
		f.ok(os.WriteFile(fmt.Sprintf("%s/sub/%s-%d", f.dir, s, i), bytes.Repeat([]byte(s), 1000+i), 0o600))
	}
	f.ok(os.Chown(f.dir, 70, 71))
}

func (f *fixture) snap() string { return volumestest.Snapshot(f.t, f.dir) }

func (f *fixture) backup() backup.Info {
	f.t.Helper()
	b, err := f.s.Backup(ctx, "db", f.repo, "")
	f.ok(err)
	return b
}

func (f *fixture) running() {
	f.t.Helper()
	if diff := cmp.Diff(map[string]string{"a": "running", "b": "running"}, f.users.States()); diff != "" {
		f.t.Error(diff)
	}
	if e, _ := os.ReadDir(f.cfg.DataDir + "/backup-journal"); len(e) != 0 {
		f.t.Errorf("journal has %v", e)
	}
}

func TestBackupRestoreInPlace(t *testing.T) {
	f := setup(t)
	one := f.snap()
	b1 := f.backup()
	f.content("two")
	two := f.snap()
	f.backup()
	f.content("three")

	res, err := f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{})
	f.ok(err)
	if diff := cmp.Diff(two, f.snap()); diff != "" {
		t.Error(diff)
	}
	if res.Volume != "db" || res.Files == 0 {
		t.Errorf("%+v", res)
	}
	_, err = f.s.Restore(ctx, "file://"+f.repo, "db@"+b1.ID, backup.RestoreOptions{Mode: backup.Pause})
	f.ok(err)
	if diff := cmp.Diff(one, f.snap()); diff != "" {
		t.Error(diff)
	}
	want := []string{
		"pause a", "pause b", "unpause b", "unpause a", "pause a", "pause b", "unpause b", "unpause a",
		"stop a", "stop b", "start b", "start a", "pause a", "pause b", "unpause b", "unpause a",
	}
	if diff := cmp.Diff(want, f.users.Log()); diff != "" {
		t.Error(diff)
	}
	f.running()
	list, err := f.s.List(ctx, f.repo, "db")
	f.ok(err)
	if len(list) != 2 || list[0].ID != b1.ID {
		t.Errorf("%+v", list)
	}
	checks, err := f.s.Verify(ctx, f.repo, "db")
	f.ok(err)
	if len(checks) != 2 || checks[0].Err != "" || checks[1].Err != "" {
		t.Errorf("%+v", checks)
	}
}

func TestRestoreAsNewAndMissing(t *testing.T) {
	f := setup(t)
	one := f.snap()
	f.backup()
	_, err := f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{As: "copy"})
	f.ok(err)
	v, err := f.m.Inspect(ctx, "copy")
	f.ok(err)
	if diff := cmp.Diff(one, volumestest.Snapshot(t, v.Mountpoint)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"keep": "1"}, v.Labels); diff != "" {
		t.Error(diff)
	}
	if _, err := f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{As: "copy"}); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("restore as an existing volume: %v", err)
	}
	f.ok(f.m.Release(ctx, "a"))
	f.ok(f.m.Release(ctx, "b"))
	f.ok(f.m.Remove(ctx, "db", false))
	_, err = f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{})
	f.ok(err)
	if diff := cmp.Diff(one, f.snap()); diff != "" {
		t.Error(diff)
	}
	for _, ref := range []string{"", "nope", "db@20200101T000000.000Z-abcdef"} {
		if _, err := f.s.Restore(ctx, f.repo, ref, backup.RestoreOptions{}); err == nil {
			t.Errorf("restore of %q worked", ref)
		}
	}
	if _, err := f.s.List(ctx, t.TempDir(), ""); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("list of no repository: %v", err)
	}
	for _, repo := range []string{"s3://x/y", "relative", "file://host/x"} {
		if _, err := f.s.Backup(ctx, "db", repo, ""); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("backup to %q: %v", repo, err)
		}
	}
	f.ok(os.WriteFile(t.TempDir()+"/x", nil, 0o600))
	other := t.TempDir()
	f.ok(os.WriteFile(other+"/precious", nil, 0o600))
	if _, err := f.s.Backup(ctx, "db", other, ""); !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("backup among other files: %v", err)
	}
}

// TestDamage: every damaged byte is found, and a restore touches nothing.
func TestDamage(t *testing.T) {
	f := setup(t)
	b := f.backup()
	f.content("two")
	two := f.snap()
	at := filepath.Join(f.repo, "volumes/db", b.ID)
	for _, name := range []string{"manifest.json", "data.tar.zst", "files.jsonl.zst"} {
		path := filepath.Join(at, name)
		good, err := os.ReadFile(path)
		f.ok(err)
		n := len(good)
		for what, bad := range map[string][]byte{
			"empty": {}, "cut": good[:n/2], "cut by one": good[:n-1], "longer": append(bytes.Clone(good), 0),
			"first bit": flip(good, 0), "a bit": flip(good, n/3), "a late bit": flip(good, n-3),
		} {
			f.ok(os.WriteFile(path, bad, 0o600))
			checks, err := f.s.Verify(ctx, f.repo, "db")
			if err != nil || len(checks) != 1 || checks[0].Err == "" {
				t.Errorf("%s, %s: verify says %+v, %v", name, what, checks, err)
			}
			for _, as := range []string{"", "new"} {
				if _, err := f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{As: as}); err == nil {
					t.Errorf("%s, %s: restored", name, what)
				}
			}
		}
		f.ok(os.Remove(path))
		if _, err := f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{}); err == nil {
			t.Errorf("%s missing: restored", name)
		}
		f.ok(os.WriteFile(path, good, 0o600))
	}
	if diff := cmp.Diff(two, f.snap()); diff != "" {
		t.Error(diff)
	}
	if _, err := f.m.Inspect(ctx, "new"); !errors.Is(err, runtime.ErrNotFound) {
		t.Error("a failed restore left a volume")
	}
	if l := f.users.Log(); len(l) != 4 { // the one backup
		t.Errorf("users were disturbed: %v", l)
	}
	checks, err := f.s.Verify(ctx, f.repo, "")
	if err != nil || checks[0].Err != "" {
		t.Errorf("%+v %v", checks, err)
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// TestAlwaysResumed: whatever goes wrong, nobody stays paused.
func TestAlwaysResumed(t *testing.T) {
	f := setup(t)
	f.users.Fail = func(action, id string) error {
		if action == "pause" && id == "b" {
			return errors.New("no")
		}
		return nil
	}
	if _, err := f.s.Backup(ctx, "db", f.repo, backup.Pause); err == nil || !strings.Contains(err.Error(), "pause container b: no") {
		t.Errorf("error %v", err)
	}
	f.running()
	f.users.Fail = nil

	cancelled, cancel := context.WithCancel(ctx)
	w := writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil })
	f.ok(os.WriteFile(f.dir+"/big", make([]byte, 64<<20), 0o600))
	if err := f.s.Export(cancelled, "db", w, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	f.running()

	func() {
		defer func() { recover() }()
		f.cfg.Engines = map[string]backup.Opener{"file": func(context.Context, string, bool) (backup.Engine, error) { return panicking{}, nil }}
		backup.New(f.cfg).Backup(ctx, "db", f.repo, backup.Stop)
		t.Error("no panic")
	}()
	f.running()

	f.users.Set("a", "paused") // by a person: stays so
	f.backup()
	if f.users.State("a") != "paused" || f.users.State("b") != "running" {
		t.Errorf("states %v", f.users.States())
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

type panicking struct{ backup.Engine }

func (panicking) Put(context.Context, backup.Info, string) (backup.Info, error) { panic("put") }

func TestExportImport(t *testing.T) {
	f := setup(t)
	one := f.snap()
	var buf bytes.Buffer
	f.ok(f.s.Export(ctx, "db", &buf, backup.Live))
	f.content("two")
	two := f.snap()
	for what, bad := range map[string]io.Reader{
		"cut": bytes.NewReader(buf.Bytes()[:buf.Len()/2]), "empty": strings.NewReader(""), "text": strings.NewReader(strings.Repeat("no tar ", 500)),
		"broken pipe": io.MultiReader(bytes.NewReader(buf.Bytes()[:100]), badReader{}),
	} {
		if _, err := f.s.Import(ctx, "db", bad, ""); err == nil {
			t.Errorf("%s: imported", what)
		}
		if diff := cmp.Diff(two, f.snap()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	_, err := f.s.Import(ctx, "db", bytes.NewReader(buf.Bytes()), "")
	f.ok(err)
	if diff := cmp.Diff(one, f.snap()); diff != "" {
		t.Error(diff)
	}
	_, err = f.s.Import(ctx, "fresh", bytes.NewReader(buf.Bytes()), "")
	f.ok(err)
	v, err := f.m.Inspect(ctx, "fresh")
	f.ok(err)
	if diff := cmp.Diff(one, volumestest.Snapshot(t, v.Mountpoint)); diff != "" {
		t.Error(diff)
	}
	f.running()
}

type badReader struct{}

func (badReader) Read([]byte) (int, error) { return 0, errors.New("the peer is gone") }

// TestFullDisk: a repository or a volume that is full stays as it was.
func TestFullDisk(t *testing.T) {
	f := setup(t)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("SKIPPED: cannot mount a tmpfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
	f.repo = small + "/repo"
	f.backup()
	noise := make([]byte, 8<<20)
	r, err := os.Open("/dev/urandom")
	f.ok(err)
	io.ReadFull(r, noise)
	r.Close()
	f.ok(os.WriteFile(f.dir+"/noise", noise, 0o600))
	if _, err := f.s.Backup(ctx, "db", f.repo, ""); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	f.running()
	if e, _ := os.ReadDir(f.repo + "/tmp"); len(e) != 0 {
		t.Errorf("left %v", e)
	}
	if list, err := f.s.List(ctx, f.repo, "db"); err != nil || len(list) != 1 || list[0].Error != "" {
		t.Errorf("%+v %v", list, err)
	}
}

// TestFullVolume restores more than a size-limited volume holds.
func TestFullVolume(t *testing.T) {
	f := setup(t)
	f.ok(os.WriteFile(f.dir+"/big", bytes.Repeat([]byte("0123456789abcdef"), 1<<18), 0o600))
	var buf bytes.Buffer
	f.ok(f.s.Export(ctx, "db", &buf, ""))
	g := setupOn(t, volumestest.Config(t), map[string]string{"type": "tmpfs", "o": "size=3m"})
	before := g.snap()
	if _, err := g.s.Import(ctx, "db", bytes.NewReader(buf.Bytes()), ""); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, g.snap()); diff != "" {
		t.Error(diff)
	}
	buf.Reset()
	g.ok(g.s.Export(ctx, "db", &buf, ""))
	g.content("two")
	_, err := g.s.Import(ctx, "db", &buf, "") // inside a mounted volume
	g.ok(err)
	if diff := cmp.Diff(before, g.snap()); diff != "" {
		t.Error(diff)
	}
}

func TestResume(t *testing.T) {
	f := setup(t)
	f.ok(os.MkdirAll(f.cfg.DataDir+"/backup-journal", 0o700))
	f.ok(os.WriteFile(f.cfg.DataDir+"/backup-journal/1.json", []byte(`{"volume":"db","mode":"pause","ids":["a"]}`), 0o600))
	f.ok(os.WriteFile(f.cfg.DataDir+"/backup-journal/2.json", []byte(`{"volume":"db","mode":"stop","ids":["b"]}`), 0o600))
	f.users.Set("a", "paused")
	f.users.Set("b", "exited")
	f.ok(os.WriteFile(f.cfg.DataDir+"/backup-journal/3.json.tmp", []byte(`{"vol`), 0o600))
	left, err := f.s.Interrupted()
	f.ok(err)
	f.ok(left.Resume(ctx))
	f.running()
}

// TestResumeBesideABackup: what begins after the start waits for the containers
// that the dead daemon left, and is not resumed with them.
func TestResumeBesideABackup(t *testing.T) {
	f := setup(t)
	f.ok(os.MkdirAll(f.cfg.DataDir+"/backup-journal", 0o700))
	f.ok(os.WriteFile(f.cfg.DataDir+"/backup-journal/1.json", []byte(`{"volume":"db","mode":"pause","ids":["a"]}`), 0o600))
	f.users.Set("a", "paused")
	left, err := f.s.Interrupted()
	f.ok(err)
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.s.Export(short, "db", io.Discard, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a backup beside what is to be resumed: %v", err)
	}
	exported := make(chan error, 1)
	go func() { exported <- f.s.Export(ctx, "db", f.quietOnly(), "") }()
	f.ok(left.Resume(ctx))
	f.ok(<-exported)
	f.running()
}

// TestSharedContainers: nobody lets a container go on in the middle of another's backup.
func TestSharedContainers(t *testing.T) {
	f := setup(t)
	_, err := f.m.Create(ctx, volumes.Spec{Name: "more"})
	f.ok(err)
	_, err = f.m.Prepare(ctx, "b", []stack.Mount{{Type: stack.MountVolume, Source: "db", Target: "/data"}, {Type: stack.MountVolume, Source: "more", Target: "/more"}}, "")
	f.ok(err)
	done := make(chan error, 16)
	for i := range cap(done) {
		go func() {
			mode := []backup.Mode{backup.Pause, backup.Stop}[i/2%2]
			done <- f.s.Export(ctx, []string{"db", "more"}[i%2], f.quietOnly("b"), mode)
		}()
	}
	for range cap(done) {
		f.ok(<-done)
	}
	f.running()
}

// quietOnly takes an export and refuses it when one of these containers (none:
// any) runs meanwhile.
func (f *fixture) quietOnly(ids ...string) io.Writer {
	return writer(func(p []byte) (int, error) {
		for id, state := range f.users.States() {
			if (len(ids) == 0 || slices.Contains(ids, id)) && state == "running" {
				return 0, fmt.Errorf("container %s is %s in the middle of a backup", id, state)
			}
		}
		return len(p), nil
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestConcurrent: backups of one volume into one repository do not meet; a
// restore and a backup exclude each other with a conflict.
func TestConcurrent(t *testing.T) {
	f := setup(t)
	one := f.snap()
	errs := make(chan error, 12)
	for i := range cap(errs) {
		go func() {
			var err error
			if i%4 == 3 {
				_, err = f.s.Restore(ctx, f.repo, "db", backup.RestoreOptions{Mode: backup.Live})
			} else {
				_, err = f.s.Backup(ctx, "db", f.repo, backup.Live)
			}
			if errors.Is(err, runtime.ErrConflict) || errors.Is(err, runtime.ErrNotFound) {
				err = nil
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		f.ok(<-errs)
	}
	if diff := cmp.Diff(one, f.snap()); diff != "" {
		t.Error(diff)
	}
	checks, err := f.s.Verify(ctx, f.repo, "")
	f.ok(err)
	for _, c := range checks {
		if c.Err != "" {
			t.Error(c)
		}
	}
}
