package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// Launch starts a shim for c. When it returns the socket takes clients; the
// container does not run yet, so that attached clients see its first byte. A
// shim whose clients all leave before Run ends by itself.
func Launch(ctx context.Context, binary string, c Config) (*Client, error) {
	client, err := launch(ctx, binary, c)
	if err != nil {
		return nil, fmt.Errorf("launch shim of %s: %w", c.ID, err)
	}
	return client, nil
}

func launch(ctx context.Context, binary string, c Config) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Runtime == "" {
		c.Runtime = "runc"
	}
	path, err := exec.LookPath(c.Runtime)
	if err != nil {
		return nil, err
	}
	if c.Runtime, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := awaitEarlier(ctx, c.Dir); err != nil {
		return nil, err
	}
	if err := prepareDir(c); err != nil {
		return nil, err
	}
	listener, conn, err := listen(c.Dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(listener)
	pid, err := spawn(binary, c, listener)
	if err != nil {
		conn.Close()
		os.Remove(filepath.Join(c.Dir, socketFile))
		return nil, err
	}
	if err := writePid(c.Dir, pid); err != nil {
		conn.Close() // its last client: the shim ends
		abandon(pid)
		return nil, err
	}
	return newClient(c.Dir, conn, pid), nil
}

// awaitEarlier waits for a shim that is about to end, because its clients left
// before Run: it removes files whose names the next one uses.
func awaitEarlier(ctx context.Context, dir string) error {
	for d := time.Millisecond; livePid(dir) != 0; d *= 2 {
		if d > time.Second {
			return fmt.Errorf("another shim runs in %s: %w", dir, runtime.ErrConflict)
		}
		sweep()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
	}
	return nil
}

// prepareDir makes the directory and removes what an earlier run has left.
func prepareDir(c Config) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{exitFile, socketFile, pidFile} {
		if err := os.Remove(filepath.Join(c.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, configFile), b, 0o600)
}

// listen makes the socket and connects its first client before the shim
// exists: nobody has to wait until it serves.
func listen(dir string) (listener int, conn *os.File, err error) {
	d, addr, err := socketAddr(dir)
	if err != nil {
		return -1, nil, err
	}
	defer d.Close()
	listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	if err = unix.Bind(listener, addr); err == nil {
		err = unix.Listen(listener, 1024)
	}
	if err == nil {
		conn, err = dialAddr(addr)
	}
	if err != nil {
		unix.Close(listener)
		return -1, nil, err
	}
	return listener, conn, nil
}

// spawn starts the process in a session of its own, with the config as its
// standard input.
func spawn(binary string, c Config, listener int) (pid int, err error) {
	in, err := unix.MemfdCreate("dhow-shim-config", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(in)
	if _, err = unix.Pwrite(in, c.wire().Encode(), 0); err != nil {
		return 0, err
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	log, err := unix.Open(filepath.Join(c.Dir, logFile), unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, err
	}
	defer unix.Close(log)
	sweep()
	return syscall.ForkExec(binary, []string{"dhow-shim", c.ID}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   environment(),
		Files: []uintptr{uintptr(in), uintptr(null), uintptr(log), uintptr(listener)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// environment of the shim: what the runtime needs, and a small Go heap. The
// daemon's own variables may hold secrets and would stay as long as the
// container.
func environment() []string {
	env := []string{"GOMAXPROCS=1", "GOGC=20"}
	for _, name := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (c Config) wire() wire.Config {
	return wire.Config{ID: c.ID, Bundle: c.Bundle, Dir: c.Dir,
		Runtime: c.Runtime, RuntimeRoot: c.RuntimeRoot, RuntimeArgs: c.RuntimeArgs, CgroupPath: c.CgroupPath,
		TTY: c.TTY, Stdin: c.Stdin, StdinOnce: c.StdinOnce, Rows: uint64(c.Rows), Cols: uint64(c.Cols),
		LogDriver: c.Log.Driver, LogPath: c.Log.Path, LogMaxSize: uint64(max(c.Log.MaxSize, 0)), LogMaxFiles: uint64(max(c.Log.MaxFiles, 0)),
		Lease: c.Lease}
}
