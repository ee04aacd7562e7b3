package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/tests/netlab"
)

func TestInterruptedBackupsResumeTheirContainers(t *testing.T) {
	s := Scenario(t, "whatever interrupts a backup or restore, the containers go on and no part of a backup or volume is left", "busybox:latest")
	s.Compose(`
name: cut
services:
  app: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, volumes: ["data:/d"]}
volumes: {data: {}}
`)
	s.Run("up", "-d", "--wait")
	s.sh("app", "echo precious > /d/f; for i in 1 2 3 4 5 6; do head -c 50000000 /dev/urandom > /d/big$i; done")
	work := t.TempDir()
	repo := filepath.Join(work, "repo")

	busy := func(want string, args ...string) (done chan netlab.Result) {
		t.Helper()
		done = make(chan netlab.Result, 1)
		go func() { done <- s.TryIn(args...) }()
		s.Until("the container is "+want, func() error {
			if got := s.inspect("cut-app-1").State.Status; got != want {
				return fmt.Errorf("it is %s", got)
			}
			return nil
		})
		return done
	}
	whole := func(backups int) {
		t.Helper()
		s.Until("the container runs", func() error {
			if got := s.inspect("cut-app-1").State.Status; got != "running" {
				return fmt.Errorf("it is %s", got)
			}
			return nil
		})
		if got := s.sh("app", "cat /d/f; ls /d | wc -l"); got != "precious\n7\n" {
			t.Errorf("content: %q", got)
		}
		if _, err := os.Stat(repo); err == nil {
			if out := s.Run("volume", "backups", "--from", repo, "-q"); len(strings.Fields(out)) != backups {
				t.Errorf("backups: %s", out)
			}
		}
	}
	for _, mode := range []struct{ flag, state string }{{"pause", "paused"}, {"stop", "exited"}} {
		s.Step("the daemon is killed while containers are to "+mode.flag, func() {
			done := busy(mode.state, "volume", "backup", "cut_data", "--to", repo, "--users", mode.flag)
			s.Kill()
			if r := <-done; r.Code == 0 {
				t.Error("the command succeeded")
			}
			s.Start()
			whole(0)
		})
	}
	s.Step("the client is killed: the backup is given up and the container goes on", func() {
		cmd := s.Background("volume", "backup", "cut_data", "--to", repo)
		s.Until("the container is paused", func() error {
			if got := s.inspect("cut-app-1").State.Status; got != "paused" {
				return fmt.Errorf("it is %s", got)
			}
			return nil
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		whole(0)
	})
	s.Step("a backup after all of this", func() {
		s.Run("volume", "backup", "cut_data", "--to", repo)
		whole(1)
		s.Run("volume", "verify", "--from", repo, "cut_data")
	})
	s.Step("the daemon is killed during a restore: the volume is as before, or as in the backup", func() {
		s.sh("app", "echo changed > /d/f")
		done := make(chan netlab.Result, 1)
		go func() { done <- s.TryIn("volume", "restore", "--from", repo, "cut_data") }()
		s.Until("the restore has begun", func() error {
			if found, _ := filepath.Glob(filepath.Join(s.DataDir, "volumes", "cut_data", "*")); len(found) < 3 {
				return fmt.Errorf("nothing is staged: %v", found)
			}
			return nil
		})
		s.Kill()
		<-done
		s.Start()
		s.Until("the container runs", func() error { return s.TryIn("exec", "-T", "app", "true").Err() })
		if got := s.sh("app", "cat /d/f; ls /d | wc -l"); got != "changed\n7\n" && got != "precious\n7\n" {
			t.Errorf("content: %q", got)
		}
		if found, _ := filepath.Glob(filepath.Join(s.DataDir, "volumes", "cut_data", "*")); len(found) != 2 {
			t.Errorf("left of the restore: %v", found)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestFullDiskDuringRestore(t *testing.T) {
	s := &S{T: t, Dir: t.TempDir()}
	t.Log("a restore that does not fit changes nothing and leaves nothing; with room it works")
	if testing.Short() {
		t.Skip("NOT RUN: scenarios are not short")
	}
	disk := s.tmpfs(48 << 20)
	s.Host = netlab.New(t).HostOn(filepath.Join(disk, "data"))
	s.Run("volume", "create", "v")
	if r := s.Exec("sh", "-c", "head -c 20000000 /dev/urandom > "+s.DataDir+"/volumes/v/_data/big; echo old > "+s.DataDir+"/volumes/v/_data/f"); r.Code != 0 {
		t.Fatal(r.Err())
	}
	repo := filepath.Join(t.TempDir(), "repo")
	s.Run("volume", "backup", "v", "--to", repo)
	before := s.content("v")
	if r := s.Exec("sh", "-c", "head -c 20000000 /dev/urandom > "+disk+"/filler"); r.Code != 0 {
		t.Fatal(r.Err())
	}
	used := s.Exec("df", "--output=used", disk).Stdout
	s.Step("in place and as new", func() {
		s.Refused([]string{"volume", "restore", "--from", repo, "v"}, "no space left")
		s.Refused([]string{"volume", "restore", "--from", repo, "v", "--as", "w"}, "no space left")
		if got := s.content("v"); got != before {
			t.Errorf("the volume changed: %s", got)
		}
		if got := s.volumeNames(); len(got) != 1 {
			t.Errorf("volumes: %v", got)
		}
		if now := s.Exec("df", "--output=used", disk).Stdout; strings.Fields(now)[1][:3] != strings.Fields(used)[1][:3] {
			t.Errorf("used before %s, now %s", used, now)
		}
	})
	s.Step("after space was freed", func() {
		if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
			t.Fatal(err)
		}
		s.Run("volume", "restore", "--from", repo, "v", "--as", "w")
		s.Run("volume", "rm", "v", "w")
	})
}
