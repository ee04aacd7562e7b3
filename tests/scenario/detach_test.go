package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestDetachedDaemonWithRelativePaths(t *testing.T) {
	s := Scenario(t, "a daemon in the background uses the directories that were meant where it was started")
	s.Stop()
	lock := filepath.Join(s.Dir, "d", "daemon.lock")
	var pid int
	stop := func(sig syscall.Signal) {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Errorf("signal %d: %v", pid, err)
		}
		s.Until("the daemon has ended", func() error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("process %d: %w", pid, err)
			}
			return nil
		})
		pid = 0
	}
	t.Cleanup(func() {
		if pid != 0 {
			stop(syscall.SIGKILL)
		}
	})
	shim, err := filepath.Rel(s.Dir, s.Bin("dhow-shim"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"daemon", "--detach", "--data-dir", "d", "--run-dir=./r", "--shim", shim}
	s.Step("start", func() {
		if r := s.TryIn(args...); r.Code != 0 {
			t.Fatal(r.Err())
		}
		data, err := os.ReadFile(lock)
		if err != nil {
			t.Fatal(err)
		}
		if pid, err = strconv.Atoi(string(data)); err != nil {
			t.Fatal(err)
		}
		out := s.Run("--host", "unix://"+filepath.Join(s.Dir, "r", "dhow.sock"), "system", "info", "--format", "json")
		if !strings.Contains(out, filepath.Join(s.Dir, "d")) {
			t.Errorf("it uses other data: %s", out)
		}
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
			t.Errorf("it holds the directory %s (%v)", cwd, err)
		}
	})
	s.Step("a second one is refused with the words of its log", func() {
		s.Refused(args, "another daemon")
	})
	stop(syscall.SIGTERM)
	s.Start()
}
