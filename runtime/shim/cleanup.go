package shim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
)

// Cleanup ends what the shim of dir has left: the shim itself when it hangs,
// the container, its cgroups and its state in the runtime. It writes an
// exit.json (137, "the shim was killed") unless there is one, and returns it.
// It may be called again, also for a container that ended in order.
func Cleanup(ctx context.Context, dir string) (Exit, error) {
	x, err := cleanup(ctx, dir)
	if err != nil {
		return x, fmt.Errorf("clean up after shim of %s: %w", filepath.Base(dir), err)
	}
	return x, nil
}

func cleanup(ctx context.Context, dir string) (Exit, error) {
	c, err := ReadConfig(dir)
	if err != nil {
		return Exit{}, err
	}
	if err := killShim(ctx, dir); err != nil {
		return Exit{}, err
	}
	if err := Delete(ctx, c); err != nil {
		return Exit{}, err
	}
	if err := removeCgroups(ctx, c.CgroupPath); err != nil {
		return Exit{}, err
	}
	x, err := ReadExit(dir)
	if errors.Is(err, runtime.ErrNotFound) {
		x = Exit{Code: 137, Signal: 9, At: time.Now().UTC(), Error: "the shim was killed"}
		err = writeExit(dir, x)
	}
	if err != nil {
		return x, err
	}
	return x, removeLeftovers(dir)
}

// killShim kills the shim and waits until it is gone.
func killShim(ctx context.Context, dir string) error {
	pid := livePid(dir)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if livePid(dir) != pid { // the descriptor is of another process
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return err
	}
	for ctx.Err() == nil {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100); n > 0 || err != nil && err != unix.EINTR {
			sweep()
			return err
		}
	}
	return ctx.Err()
}

// deleteLimit is how long the runtime may take to forget a container, and the
// kernel to end what was killed.
const deleteLimit = 30 * time.Second

// Delete ends a container in its runtime and makes the runtime forget it,
// whatever its shim does. Of c it needs ID, Runtime, RuntimeRoot and
// RuntimeArgs. One that the runtime does not know is fine.
func Delete(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, deleteLimit)
	defer cancel()
	args := append([]string(nil), c.RuntimeArgs...)
	if c.RuntimeRoot != "" {
		args = append(args, "--root", c.RuntimeRoot)
	}
	cmd := exec.CommandContext(ctx, c.Runtime, append(args, "delete", "--force", c.ID)...)
	out, err := cmd.CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("does not exist")) {
		return fmt.Errorf("%s delete: %w: %s", filepath.Base(c.Runtime), err, bytes.TrimSpace(out))
	}
	return nil
}

// removeCgroups removes what a runtime that was killed half way has made but
// not noted. The path is that of one container alone.
func removeCgroups(ctx context.Context, path string) error {
	if !strings.HasPrefix(path, "/") || filepath.Clean(path) == "/" {
		return nil
	}
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + globQuote(path))
	if err != nil {
		return err
	}
	for _, dir := range append(dirs, "/sys/fs/cgroup"+path) {
		if err := removeCgroup(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// removeCgroup kills who is in a group and removes it when they have ended. One
// that waits inside the kernel ends no sooner than the kernel lets it: a runtime
// that makes a network namespace while many others go waits for seconds.
func removeCgroup(ctx context.Context, dir string) error {
	deadline := time.Now().Add(deleteLimit)
	for d := time.Millisecond; ; d = min(2*d, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err != unix.EBUSY || time.Now().After(deadline) {
			if err == unix.ENOENT || err == unix.ENOTDIR {
				err = nil
			}
			return err
		}
		procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, s := range strings.Fields(string(procs)) {
			if pid, err := strconv.Atoi(s); err == nil && pid > 0 {
				_ = unix.Kill(pid, unix.SIGKILL) // gone already, mostly
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
	}
}

// removeLeftovers removes what a shim makes for a moment only.
func removeLeftovers(dir string) error {
	for _, pattern := range []string{"*.sock", "*.pid", "runtime.*.log", "exec-*.json", "resources-*.json"} {
		names, err := filepath.Glob(filepath.Join(globQuote(dir), pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
