package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/dhow-project/dhow/api/client"
	"github.com/dhow-project/dhow/internal/daemon"
)

// startedDaemon is daemonClient, and starts a daemon when none answers on this
// machine's default socket: that is how `dhow up` works on a fresh machine.
func (a *app) startedDaemon(ctx context.Context) (*client.Client, error) {
	c, err := a.daemonClient(ctx)
	var down *client.Unreachable
	if err == nil || !errors.As(err, &down) || a.address() != client.DefaultHost || os.Geteuid() != 0 {
		return c, err
	}
	fmt.Fprintln(a.err, "no daemon answers: starting one (`dhow daemon`; for servers there is a systemd unit)")
	cfg := daemon.Config{DataDir: daemon.DefaultDataDir, RunDir: daemon.DefaultRunDir}
	return a.detachDaemon(ctx, cfg, []string{"daemon"})
}

// absolute makes the paths of the flags mean the same from every directory.
func (f *daemonFlags) absolute() error {
	paths := []*string{&f.cfg.DataDir, &f.cfg.RunDir, &f.cfg.Shim}
	for i := range f.cfg.CertsDirs {
		paths = append(paths, &f.cfg.CertsDirs[i])
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	for name, p := range f.runtimes {
		if !strings.Contains(p, "/") {
			continue // a program in PATH
		}
		abs, err := filepath.Abs(p)
		if err != nil {
			return err
		}
		f.runtimes[name] = abs
	}
	return nil
}

// again are the words that start the same daemon in the foreground, from any directory.
func (f *daemonFlags) again(set *pflag.FlagSet) []string {
	args := []string{"daemon"}
	set.Visit(func(fl *pflag.Flag) {
		switch v := fl.Value.(type) {
		case pflag.SliceValue:
			for _, one := range v.GetSlice() {
				args = append(args, "--"+fl.Name+"="+one)
			}
		default:
			switch fl.Name {
			case "detach":
			case "runtime":
				args = append(args, pairs("--runtime=", f.runtimes)...)
			case "label":
				args = append(args, pairs("--label=", f.cfg.Labels)...)
			case "generic-resource":
				args = append(args, pairs("--generic-resource=", f.generic)...)
			default:
				args = append(args, "--"+fl.Name+"="+v.String())
			}
		}
	})
	return args
}

// pairs are FLAG=KEY=VALUE, sorted.
func pairs[V any](flag string, m map[string]V) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s%s=%v", flag, k, m[k]))
	}
	return out
}

// readyTimeout bounds the start of a daemon: it has to take over every container that runs.
const readyTimeout = time.Minute

// detachDaemon starts `dhow ARGS`, whose directories cfg names, in the
// background, with its log in a file, and waits until it answers.
func (a *app) detachDaemon(ctx context.Context, cfg daemon.Config, args []string) (*client.Client, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	logPath := filepath.Join(cfg.DataDir, "daemon.log")
	log, err := openLog(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	ready, err := readySocket()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, args...) // it outlives this command
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.LocalAddr().String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its log tells more
	}()
	told := make(chan error, 1)
	go func() {
		_, err := ready.Read(make([]byte, 64))
		told <- err
	}()
	select {
	case err = <-told:
	case <-ended:
		return nil, hinted{errors.New("the daemon ended at once: " + lastLine(logPath)), "cat " + logPath}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(readyTimeout):
		return nil, hinted{fmt.Errorf("the daemon (process %d) does not answer after %s", cmd.Process.Pid, readyTimeout), "cat " + logPath}
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(a.err, "daemon started: process %d, log %s\n", cmd.Process.Pid, logPath)
	c, err := client.Dial("unix://" + filepath.Join(cfg.RunDir, "dhow.sock"))
	if err != nil {
		return nil, err
	}
	return c, c.Ping(ctx)
}

// readySocket is where the daemon says that it is ready, in systemd's protocol; an abstract address leaves no file behind.
func readySocket() (*net.UnixConn, error) {
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: fmt.Sprintf("@dhow-ready-%d", os.Getpid()), Net: "unixgram"})
}

// maxLog is the size in bytes from which a log is put aside when a daemon starts.
const maxLog = 10 << 20

// openLog opens a log to be continued. One that has grown long becomes PATH.1,
// in place of the one before it.
func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
}

// lastLine returns the last line of a log, or the end of one that is very long.
func lastLine(path string) string {
	const enough = 4 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(io.NewSectionReader(f, max(0, size-enough), enough))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return lines[len(lines)-1]
}
