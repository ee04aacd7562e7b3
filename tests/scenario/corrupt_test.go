package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// damage changes one file of the data directory.
func (s *S) damage(pattern string, change func([]byte) []byte) {
	s.Helper()
	found, err := filepath.Glob(filepath.Join(s.DataDir, pattern))
	if err != nil || len(found) == 0 {
		s.Fatalf("%s: no such file (%v)", pattern, err)
	}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, change(data), 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

func TestDamagedFilesCostNoMoreThanThemselves(t *testing.T) {
	s := Scenario(t, "a daemon starts with damaged logs and records, says what it lost, and everything else goes on", "busybox:latest")
	s.Compose(`
name: harm
services:
  talker: {image: busybox, command: [sh, -c, "for i in 1 2 3 4 5; do echo line $$i; done; exec sleep 1000"], stop_signal: SIGKILL}
  other: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, volumes: ["data:/d"]}
volumes: {data: {}}
`)
	s.Run("up", "-d", "--wait")
	s.sh("other", "echo kept > /d/f")
	talker, other := s.inspectID("harm-talker-1"), s.inspectID("harm-other-1")
	ids := s.IDs()

	s.Step("a torn end of a container's log", func() {
		s.Kill()
		log := filepath.Join("engine", "containers", talker, talker+".log")
		s.damage(log, func(b []byte) []byte { return append(b[:len(b)-7], "\x00\x00\x7f garbage"...) })
		s.Start()
		out := s.Run("logs", "--no-log-prefix", "talker")
		for i := 1; i <= 4; i++ {
			if !strings.Contains(out, fmt.Sprintf("line %d\n", i)) {
				t.Errorf("line %d is lost: %q", i, out)
			}
		}
		s.Same(ids, s.IDs(), "harm-talker-1", "harm-other-1")
	})
	s.Step("a container's record that is no more readable", func() {
		s.Kill()
		s.damage(filepath.Join("engine", "containers", talker, "*.json"), func(b []byte) []byte { return b[:len(b)/2] })
		s.Start()
		if log, err := os.ReadFile(s.LogFile); err != nil || !strings.Contains(string(log), talker[:12]) {
			t.Errorf("the daemon does not say what it lost (%v)", err)
		}
		s.Run("up", "-d", "--wait")
		after := s.IDs()
		if after["harm-other-1"] != other {
			t.Error("the other container was replaced")
		}
		if after["harm-talker-1"] == talker || after["harm-talker-1"] == "" {
			t.Errorf("the lost container was not made again: %v", after)
		}
		if got := s.sh("other", "cat /d/f"); got != "kept\n" {
			t.Errorf("volume: %q", got)
		}
	})
	s.Step("a volume's definition that is no more readable: its data stays reachable", func() {
		s.Kill()
		s.damage("volumes/harm_data/meta.json", func([]byte) []byte { return []byte("{") })
		s.Start()
		if got := s.volumeNames(); !contains(got, "harm_data") {
			t.Errorf("volumes: %v", got)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}

func TestDamagedStateIsTold(t *testing.T) {
	s := Scenario(t, "a replicated state that cannot be read stops the daemon with a word on what to do; containers run on", "busybox:latest")
	s.Compose("name: state\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, volumes: ['data:/d']}\nvolumes: {data: {}}\n")
	s.Run("up", "-d", "--wait")
	s.sh("a", "echo kept > /d/f")
	before := s.inspect("state-a-1")
	s.Kill()
	dir := filepath.Join(s.DataDir, "cluster")
	if r := s.Exec("cp", "-a", dir, dir+".good"); r.Code != 0 {
		t.Fatal(r.Err())
	}
	s.Step("damage is named, with its place and what to do", func() {
		s.damage("cluster/raft/*.wal", func(b []byte) []byte {
			at := bytes.Index(b, []byte("state-a"))
			if at < 0 {
				at = bytes.Index(b, []byte("busybox"))
			}
			copy(b[at:], "\xff\xff\xff\xff\xff")
			return b
		})
		r := s.TryWith(netlab.Input{Timeout: 20 * time.Second}, "daemon", "--data-dir", s.DataDir, "--run-dir", s.RunDir)
		for _, w := range []string{dir, "damaged", "put back a copy"} {
			if r.Code == 0 || !strings.Contains(r.Stderr, w) {
				t.Errorf("exit code %d, lacks %q: %s", r.Code, w, r.Stderr)
			}
		}
		if !alive(before.State.Pid) {
			t.Error("the container has ended")
		}
	})
	s.Step("a copy that is put back goes on as before", func() {
		if r := s.Exec("sh", "-c", "mv "+dir+" "+dir+".bad && cp -a "+dir+".good "+dir); r.Code != 0 {
			t.Fatal(r.Err())
		}
		s.Start()
		if out := strings.TrimSpace(s.Run("plan")); out != "no changes" {
			t.Errorf("plan: %s", out)
		}
		if now := s.inspect("state-a-1"); now.State.Pid != before.State.Pid {
			t.Errorf("the container was replaced: %+v", now)
		}
	})
	s.Step("without a copy, a new state: the old container runs on until the next up replaces it, and its data serves the new one", func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s.Start()
		if !alive(before.State.Pid) {
			t.Error("the container has ended")
		}
		s.Run("up", "-d", "--wait")
		if now := s.inspect("state-a-1"); now.State.Pid == before.State.Pid || alive(before.State.Pid) {
			t.Errorf("the old container was not replaced: %+v", now)
		}
		if got := s.sh("a", "cat /d/f"); got != "kept\n" {
			t.Errorf("volume: %q", got)
		}
	})
	s.Run("down", "-v")
	s.Clean()
}
