package scenario

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reachable returns the files called name below the daemon's directories, and
// those of them that a user of the host without any rights can reach.
func (s *S) reachable(name string) (all, open []string) {
	s.Helper()
	for _, root := range []string{s.DataDir, s.RunDir} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == name {
				all = append(all, path)
			}
			return nil // what has gone meanwhile is none of ours
		})
		if err != nil {
			s.Fatal(err)
		}
	}
	for _, path := range all {
		cmd := exec.Command("stat", path)
		cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			open = append(open, path)
		}
	}
	return all, open
}

func TestFilesOfContainersAreOutOfReachOfHostUsers(t *testing.T) {
	s := Scenario(t, "no user of the host reaches a file of a container or volume, so a setuid program made there gives nobody root", "busybox:latest")
	// The lab's own directory, which is closed, must not do the daemon's work.
	if err := os.Chmod(filepath.Dir(s.RunDir), 0o711); err != nil {
		t.Fatal(err)
	}
	s.Compose(`
name: priv
services:
  maker:
    image: busybox
    command: [sh, -c, "for d in / /data /sub; do cp /bin/busybox $$d/rootshell && chmod 4755 $$d/rootshell || exit 1; done; sleep 1000"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, test, -u, /sub/rootshell], interval: 1s, start_interval: 50ms, start_period: 10s}
    volumes:
      - data:/data
      - {type: volume, source: sub, target: /sub, volume: {subpath: inner}}
    depends_on: {prepare: {condition: service_completed_successfully}}
  prepare:
    image: busybox
    command: [mkdir, -p, /sub/inner]
    volumes: ["sub:/sub"]
  user:
    image: busybox
    user: "1000:1000"
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    secrets: [word]
volumes: {data: , sub: }
secrets: {word: {file: ./word}}
`)
	s.Write("word", "hush")
	s.Run("up", "-d", "--wait")
	check := func() {
		all, open := s.reachable("rootshell")
		if len(all) < 5 { // layer, root file system, two volumes, mounted subpath
			t.Errorf("found only %q", all)
		}
		if len(open) > 0 {
			t.Errorf("a user of the host reaches %q", open)
		}
	}
	s.Step("nobody gets in", check)
	s.Step("a container whose user is not root sees its files all the same", func() {
		if out := s.Run("exec", "-T", "user", "sh", "-c", "ls /data/rootshell && cat /run/secrets/word"); out != "/data/rootshell\nhush" {
			t.Errorf("got %q", out)
		}
	})
	s.Step("directories that an older daemon left open are closed at the start", func() {
		s.Stop()
		for _, pattern := range []string{"data", "data/*", "run/*"} {
			dirs, err := filepath.Glob(filepath.Join(filepath.Dir(s.RunDir), pattern))
			if err != nil || len(dirs) == 0 {
				t.Fatalf("%s: %q, %v", pattern, dirs, err)
			}
			for _, dir := range dirs {
				if st, err := os.Stat(dir); err == nil && st.IsDir() {
					if err := os.Chmod(dir, 0o711); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s.Start()
		check()
	})
	s.Run("down", "-v", "-t", "0")
}
