package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Host is one machine of a lab.
type Host struct {
	lab     *Lab
	t       testing.TB
	Name    string // host name
	NetNS   string // name of its network namespace
	port    string // of the switch
	Addr    string // on the switch
	DataDir string
	RunDir  string
	LogFile string // of the daemon

	mu     sync.Mutex // guards what follows
	daemon *exec.Cmd  // nil while none runs
	ended  chan error // the daemon's Wait
	loaded map[string]bool

	marks []string // of the engines that have run; of the test's goroutine
}

// Client makes a machine without a daemon, to reach others from outside.
func (l *Lab) Client() *Host {
	l.t.Helper()
	h := &Host{lab: l, t: l.t}
	h.NetNS, h.Addr = l.namespace("c")
	h.port = l.ports[len(l.ports)-1]
	return h
}

// Neighbour makes a machine without a daemon on the host's switch.
func (h *Host) Neighbour() *Host { return h.lab.Client() }

// Host makes a machine and starts its daemon with further flags.
func (l *Lab) Host(flags ...string) *Host {
	l.t.Helper()
	return l.HostOn("", flags...)
}

// HostOn makes a machine with its data in a directory, a small disk for
// example; "" is one of its own.
func (l *Lab) HostOn(dataDir string, flags ...string) *Host {
	l.t.Helper()
	h := l.newHost(dataDir)
	h.Start(flags...)
	return h
}

// newHost makes a machine whose daemon does not run yet.
func (l *Lab) newHost(dataDir string) *Host {
	l.t.Helper()
	h := &Host{lab: l, t: l.t, loaded: map[string]bool{}}
	h.NetNS, h.Addr = l.namespace("h")
	h.Name, h.port = fmt.Sprintf("h%d", l.hosts), l.ports[len(l.ports)-1]
	// Sockets have short paths, so the directories do not come from TempDir.
	dir, err := os.MkdirTemp("", "dhl")
	if err != nil {
		l.t.Fatal(err)
	}
	h.DataDir, h.RunDir, h.LogFile = filepath.Join(dir, "data"), filepath.Join(dir, "run"), filepath.Join(dir, "daemon.log")
	if dataDir != "" {
		h.DataDir = dataDir
	}
	l.t.Cleanup(h.dropCgroups) // at the very end, also when the rest ends early
	l.t.Cleanup(func() {
		defer func() { // also when the teardown ends early
			if l.t.Failed() {
				l.t.Logf("daemon log of %s:\n%s", h.NetNS, tail(h.LogFile, 16<<10))
			}
			if err := os.RemoveAll(dir); err != nil {
				l.t.Errorf("remove %s: %v", dir, err)
			}
		}()
		h.teardown()
	})
	return h
}

// Start starts the daemon and waits until it answers.
func (h *Host) Start(flags ...string) {
	h.t.Helper()
	if h.running() {
		h.t.Fatalf("%s runs a daemon already", h.Name)
	}
	logFile, err := os.OpenFile(h.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer logFile.Close()
	args := append([]string{"daemon", "--data-dir", h.DataDir, "--run-dir", h.RunDir, "--log-level", "debug"}, flags...)
	// A host name of its own, as machines have: the daemon and its containers see it.
	cmd := h.command(context.Background(), "unshare", append([]string{"--uts", "sh", "-c", `hostname "$0" && exec "$@"`, h.Name, h.lab.bin("dhow")}, args...)...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	h.mu.Lock()
	h.daemon, h.ended = cmd, ended
	h.mu.Unlock()
	Eventually(h.t, 20*time.Second, "the daemon answers", func() error {
		select {
		case err := <-ended:
			h.t.Fatalf("the daemon ended: %v\n%s", err, tail(h.LogFile, 8<<10))
		default:
		}
		return h.Try("system", "info", "--format", "json").Err()
	})
	h.remember()
}

// Bin is the path of one of our programs.
func (h *Host) Bin(name string) string { return h.lab.bin(name) }

// Kill ends the daemon with SIGKILL, as a crash would.
func (h *Host) Kill() { h.end(syscall.SIGKILL) }

// Stop ends the daemon with SIGTERM.
func (h *Host) Stop() { h.end(syscall.SIGTERM) }

// Pid of the daemon.
func (h *Host) Pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.daemon.Process.Pid
}

// running reports whether the daemon was started and has not ended.
func (h *Host) running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil {
		return false
	}
	select {
	case <-h.ended:
		return false
	default:
		return true
	}
}

func (h *Host) end(sig syscall.Signal) {
	h.mu.Lock()
	cmd, ended := h.daemon, h.ended
	h.daemon = nil
	h.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		h.t.Errorf("signal the daemon: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(busy):
		h.t.Errorf("the daemon did not end within %s", busy)
		cmd.Process.Kill()
		<-ended
	}
}

// teardown removes all stacks and containers, so that no process outlives the test.
func (h *Host) teardown() {
	if h.running() {
		h.Continue() // one that the test has paused
	} else {
		if h.daemon != nil {
			h.t.Errorf("the daemon of %s has ended by itself", h.NetNS)
			h.daemon = nil
		}
		h.Start()
	}
	if out := h.Try("system", "reset", "--force"); out.Code != 0 {
		h.t.Errorf("reset %s: %s", h.NetNS, out.Stderr)
	}
	for _, left := range h.settle() {
		h.t.Errorf("left behind by %s, whose daemon runs: %s", h.NetNS, left)
	}
	h.Stop()
	for _, left := range h.Leftovers() {
		h.t.Errorf("left behind by %s: %s", h.NetNS, left)
	}
}

// command is a program inside the host's network namespace. nsenter, unlike
// `ip netns exec`, leaves /sys and with it the cgroups alone.
func (h *Host) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=/run/netns/" + h.NetNS, program}, args...)...)
}

// Result of a command.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int
}

// Err is nil when the command succeeded.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("%s: exit code %d: %s%s", strings.Join(r.Args, " "), r.Code, r.Stderr, r.Stdout)
}

// Exec runs a program on the host.
func (h *Host) Exec(program string, args ...string) Result {
	return h.exec(Input{}, program, args...)
}

// ExecWith runs a program on the host in a directory, with variables and input.
func (h *Host) ExecWith(in Input, program string, args ...string) Result {
	return h.exec(in, program, args...)
}

// Input of a command.
type Input struct {
	Dir     string
	Env     []string
	Stdin   string
	Timeout time.Duration // 0: 2 min
}

func (h *Host) exec(in Input, program string, args ...string) Result {
	if in.Timeout == 0 {
		in.Timeout = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.Timeout)
	defer cancel()
	cmd := h.command(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Stdin = &stdout, &stderr, in.Dir, strings.NewReader(in.Stdin)
	cmd.Env = append(os.Environ(), in.Env...)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	r := Result{Args: append([]string{filepath.Base(program)}, args...), Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if err != nil && r.Code == 0 {
		r.Code = -1
		r.Stderr += err.Error()
	}
	return r
}

// Socket is the daemon's address.
func (h *Host) Socket() string { return "unix://" + filepath.Join(h.RunDir, "dhow.sock") }

// Try runs dhow on the host.
func (h *Host) Try(args ...string) Result { return h.TryWith(Input{}, args...) }

// TryWith runs dhow on the host in a directory, with variables and input.
func (h *Host) TryWith(in Input, args ...string) Result {
	return h.exec(in, h.lab.bin("dhow"), append([]string{"--host", h.Socket()}, args...)...)
}

// Background starts dhow on the host and does not wait for it.
func (h *Host) Background(args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := h.command(context.Background(), h.lab.bin("dhow"), append([]string{"--host", h.Socket()}, args...)...)
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd
}

// Dhow runs dhow on the host and returns what it printed; it must succeed.
func (h *Host) Dhow(args ...string) string {
	h.t.Helper()
	r := h.Try(args...)
	if r.Code != 0 {
		h.t.Fatal(r.Err())
	}
	return r.Stdout
}

// NeedsDocker ends a test that uses docker's own client where there is none, and says so.
func NeedsDocker(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("NOT RUN: needs docker's client")
	}
}

// Docker runs docker's own client against the daemon: see NeedsDocker.
func (h *Host) Docker(args ...string) Result {
	return h.exec(Input{Env: []string{"DOCKER_HOST=" + h.Socket()}}, "docker", args...)
}

// Get fetches a page from the host's own point of view.
func (h *Host) Get(url string) Result {
	return h.Exec("curl", "-sS", "--max-time", "5", url)
}

// busy is how much longer than on a quiet machine something may take: tests end
// what hangs, they measure nothing.
const busy = time.Minute

// Eventually waits until f returns nil, looking often; it is for what has no event
// to wait on. The limit is that of a quiet machine: what takes longer is told, and
// what is not there a minute later fails the test.
func Eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	start := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := f()
		took := time.Since(start)
		if err == nil {
			if took > limit {
				t.Logf("  slow: %s after %s, not within %s", what, took.Round(10*time.Millisecond), limit)
			}
			return
		}
		if took > limit+busy {
			t.Fatalf("not within %s: %s: %v", limit+busy, what, err)
		}
		time.Sleep(pause)
	}
}

func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(data) > n {
		data = data[len(data)-n:]
	}
	return string(data)
}
