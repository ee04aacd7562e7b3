package backup_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/backup"
	"github.com/dhow-project/dhow/volumes/backup/dirrepo"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

// TestMain runs a victim when it is asked to: a process that works on volumes
// until it is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DHOW_TEST_VICTIM"); dir != "" {
		fmt.Fprintln(os.Stderr, victim(dir, os.Getenv("DHOW_TEST_WORK")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func victim(dir, work string) error {
	m, err := volumes.Open(volumestest.ConfigAt(dir))
	if err != nil {
		return err
	}
	s := backup.New(backup.Config{Volumes: m, DataDir: dir + "/data", Engines: map[string]backup.Opener{"file": dirrepo.Open}})
	fmt.Println("ready")
	for i := 0; ; i++ {
		switch work {
		case "restore":
			tar, _ := os.ReadFile(fmt.Sprintf("%s/%d.tar.zst", dir, i%2))
			_, err = s.Import(ctx, "db", bytes.NewReader(tar), "")
		case "new":
			tar, _ := os.ReadFile(dir + "/0.tar.zst")
			_, err = s.Import(ctx, fmt.Sprintf("new%d-%d", os.Getpid(), i), bytes.NewReader(tar), "")
		case "backup":
			_, err = s.Backup(ctx, "db", dir+"/repo", "")
		case "copyup":
			name := fmt.Sprintf("cu%d-%d", os.Getpid(), i)
			_, err = m.Prepare(ctx, name, []stack.Mount{{Type: stack.MountVolume, Source: name, Target: "/content"}}, dir+"/rootfs")
		}
		if err != nil {
			return err
		}
	}
}

// killed runs a victim and ends it with SIGKILL after a random while.
func killed(t *testing.T, dir, work string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DHOW_TEST_VICTIM="+dir, "DHOW_TEST_WORK="+work)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 10))                                      // it is at work
	time.Sleep(time.Duration(rand.IntN(40_000)) * time.Microsecond) // the moment is the test's input, it orders nothing
	cmd.Process.Kill()
	cmd.Wait()
	if errs.Len() > 0 {
		t.Fatalf("the victim failed: %s", errs.String())
	}
}

// TestKill9: a daemon killed at any moment leaves the old content or the new,
// nothing in between and nothing behind.
func TestKill9(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	for _, work := range []string{"restore", "new", "copyup", "backup"} {
		t.Run(work, func(t *testing.T) {
			f, dir, want := killSetup(t)
			for range rounds {
				killed(t, dir, work)
				f.m = volumestest.Open(t, volumestest.ConfigAt(dir))
				f.ok(f.m.Known(ctx, nil))
				checkVolumes(f, dir, work, want)
				if work == "backup" {
					checkRepo(f, dir)
				}
			}
		})
	}
}

// killSetup makes a volume below dir, and two archives of content for it; it
// returns their snapshots.
func killSetup(t *testing.T) (*fixture, string, map[string]bool) {
	f := setup(t)
	dir := t.TempDir()
	want := map[string]bool{}
	m := volumestest.Open(t, volumestest.ConfigAt(dir))
	v, err := m.Create(ctx, volumes.Spec{Name: "db"})
	f.ok(err)
	for i, s := range []string{"zero", "one"} {
		f.content(s)
		w, err := os.Create(fmt.Sprintf("%s/%d.tar.zst", dir, i))
		f.ok(err)
		f.ok(f.s.Export(ctx, "db", w, backup.Live))
		f.ok(w.Close())
		want[f.snap()] = true
	}
	f.ok(os.MkdirAll(dir+"/rootfs", 0o755))
	f.ok(exec.Command("cp", "-a", f.dir, dir+"/rootfs/content").Run())
	f.ok(exec.Command("cp", "-aT", f.dir, v.Mountpoint).Run())
	return f, dir, want
}

func checkVolumes(f *fixture, dir, work string, want map[string]bool) {
	f.t.Helper()
	list, err := f.m.List(ctx)
	f.ok(err)
	for _, v := range list {
		at := filepath.Dir(v.Mountpoint)
		names, err := os.ReadDir(at)
		f.ok(err)
		if len(names) != 2 {
			f.t.Errorf("%s: left behind: %v", v.Name, names)
		}
		content, err := os.ReadDir(v.Mountpoint)
		f.ok(err)
		empty := work == "copyup" && len(content) == 0
		if !empty && !want[volumestest.Snapshot(f.t, v.Mountpoint)] {
			f.t.Fatalf("%s is neither: %v", v.Name, content)
		}
		if v.Name != "db" {
			f.ok(f.m.Remove(ctx, v.Name, false))
		}
	}
	names, _ := os.ReadDir(dir + "/data/volumes")
	if len(names) != 2 { // .users and db
		f.t.Errorf("left behind: %v", names)
	}
}

func checkRepo(f *fixture, dir string) {
	f.t.Helper()
	checks, err := f.s.Verify(ctx, dir+"/repo", "")
	if err != nil { // killed before the repository was made
		return
	}
	for _, c := range checks {
		if c.Err != "" {
			f.t.Errorf("%s: %s", c.Info.ID, c.Err)
		}
		f.ok(os.RemoveAll(filepath.Join(dir, "repo/volumes/db", c.Info.ID)))
	}
	// The next backup sweeps what the dead one left.
	if _, err := f.s.Backup(ctx, "db", dir+"/repo", backup.Live); err != nil {
		f.t.Error(err)
	}
	if e, _ := os.ReadDir(dir + "/repo/tmp"); len(e) != 0 {
		f.t.Errorf("left in the repository: %v", e)
	}
}
