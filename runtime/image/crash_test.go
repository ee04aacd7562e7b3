package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/image/imagetest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv("DHOW_TEST_VICTIM"); spec != "" {
		victim(spec)
		return
	}
	os.Exit(m.Run())
}

// victimSpec is what the process that will be killed has to do.
type victimSpec struct {
	Dir, Ref, Archive string
}

// victim pulls, loads and removes until it is killed.
func victim(spec string) {
	var v victimSpec
	if err := json.Unmarshal([]byte(spec), &v); err != nil {
		panic(err)
	}
	s, err := Open(Config{DataDir: v.Dir, CertsDirs: []string{}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("open")
	ctx := context.Background()
	for {
		if _, err := s.Pull(ctx, v.Ref, runtime.PullOptions{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		f, err := os.Open(v.Archive)
		if err != nil {
			panic(err)
		}
		if _, err := s.Load(ctx, f, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		f.Close()
		for _, ref := range []string{v.Ref, "loaded:1"} {
			if _, err := s.Remove(ctx, ref, true, true); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
}

// A store whose process is killed at any moment opens again, shows no half
// image, pulls and loads, and keeps no garbage.
func TestKilled(t *testing.T) {
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	reg := newRegistry(t, false)
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	img := simple("loaded:1", "one", string(noise), "three")
	built := imagetest.Build(t, simple("", "one", "two", string(noise)))
	reg.push(t, "app", "1", built)
	v := victimSpec{Dir: t.TempDir(), Ref: reg.host() + "/app:1", Archive: filepath.Join(t.TempDir(), "a.tar")}
	if err := os.WriteFile(v.Archive, imagetest.Archive(t, img), 0o644); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for round := range rounds {
		killVictim(t, v, time.Duration(rnd.IntN(150_000))*time.Microsecond)
		inspectAfterKill(t, v, round%5 == 4)
		if t.Failed() {
			return
		}
	}
}

func killVictim(t *testing.T, v victimSpec, after time.Duration) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DHOW_TEST_VICTIM="+string(imagetest.JSON(t, v)))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatalf("victim did not open: %v %s", err, stderr.String())
	}
	time.Sleep(after) // the moment of death is what is varied
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("victim ended by itself: %s", stderr.String())
	}
	if mounts := readFile(t, "/proc/self/mountinfo"); strings.Contains(mounts, v.Dir) {
		t.Errorf("a mount was left behind:\n%s", mounts)
	}
}

func inspectAfterKill(t *testing.T, v victimSpec, wholly bool) {
	t.Helper()
	s, err := Open(Config{DataDir: v.Dir, CertsDirs: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	list, err := s.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range list {
		at := filepath.Join(mountDir(t), "root")
		c := fmt.Sprint("c", i)
		if err := s.MountRootfs(ctx, c, img.ID, at); err != nil {
			t.Errorf("%q is not whole: %v", img.Tags, err)
			continue
		}
		if readFile(t, at+"/data/0") != "one" {
			t.Errorf("%q has wrong content", img.Tags)
		}
		var sink bytes.Buffer
		if err := s.Save(ctx, []string{img.ID}, &sink); err != nil {
			t.Errorf("%q cannot be saved: %v", img.Tags, err)
		}
		if err := s.RemoveRootfs(ctx, c, at); err != nil {
			t.Error(err)
		}
	}
	if !wholly {
		return
	}
	if _, err := s.Pull(ctx, v.Ref, runtime.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(v.Archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.Load(ctx, f, nil); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{v.Ref, "loaded:1"} {
		if _, err := s.Remove(ctx, ref, false, true); err != nil {
			t.Fatal(err)
		}
	}
	s.work.Wait()
	wantEmpty(t, s)
}

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := mountDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	return dir
}

// Whatever the size of the disk, a pull or load that does not fit says so and
// gives back what it took; what was there before still works.
func TestDiskFull(t *testing.T) {
	noise := make([]byte, 2<<20)
	rand.Read(noise)
	big := simple("big:1", "small", string(noise), string(noise[1:]))
	reg := newRegistry(t, false)
	reg.push(t, "big", "1", imagetest.Build(t, big))
	archive := imagetest.Archive(t, big)
	full := 0
	for size := 1 << 20; size < 11<<20; size += 512 << 10 {
		t.Run(fmt.Sprint(size>>10, " KiB"), func(t *testing.T) {
			for what, try := range map[string]func(*Store) error{
				"pull": func(s *Store) error {
					_, err := s.Pull(t.Context(), reg.host()+"/big:1", runtime.PullOptions{})
					return err
				},
				"load": func(s *Store) error {
					_, err := s.Load(t.Context(), bytes.NewReader(archive), nil)
					return err
				},
			} {
				if fillDisk(t, size, what, try) {
					full++
				}
			}
		})
	}
	if full < 5 {
		t.Errorf("the disk was full only %d times", full)
	}
}

// fillDisk tries on a disk of so many bytes, and tells whether it was too small.
func fillDisk(t *testing.T, size int, what string, try func(*Store) error) bool {
	t.Helper()
	s := openStore(t, smallDisk(t, size), nil)
	load(t, s, simple("small:1", "tiny"))
	ctx := s.context(t.Context())
	s.Collect(ctx)
	before, _ := s.inventory(ctx)
	free := freeBytes(t, s.cfg.DataDir)
	err := try(s)
	if err == nil {
		return false
	}
	wantErr(t, err, unix.ENOSPC, what, "no space left in "+s.cfg.DataDir)
	if after, _ := s.inventory(ctx); len(after) != len(before) {
		t.Errorf("%s: had %v, now %v", what, before, after)
	}
	if now := freeBytes(t, s.cfg.DataDir); now < free-256<<10 {
		t.Errorf("%s: %d bytes were free, now %d", what, free, now)
	}
	if list, err := s.List(ctx); err != nil || len(list) != 1 {
		t.Errorf("%s: %d images, %v", what, len(list), err)
	}
	at := filepath.Join(mountDir(t), "root")
	if err := s.MountRootfs(ctx, "c", get(t, s, "small:1").ID, at); err != nil {
		t.Error(err)
	}
	if err := s.RemoveRootfs(ctx, "c", at); err != nil {
		t.Error(err)
	}
	return true
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}
