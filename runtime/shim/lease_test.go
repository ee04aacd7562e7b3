package shim_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/runtime/shim/lease"
)

// renewFor is the lease that renewer writes, renewEach how often.
const (
	renewFor  = 2 * time.Second
	renewEach = 200 * time.Millisecond
)

// renewer is a daemon that does nothing but renew the lease.
func renewer(path string) {
	for {
		if err := lease.Write(path, lease.Now()+int64(renewFor)); err != nil {
			panic(err)
		}
		time.Sleep(renewEach)
	}
}

// startRenewer starts one in a process of its own.
func startRenewer(t *testing.T, path string) *os.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SHIM_TEST_RENEWER="+path)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(t, "the lease is written", func() bool { return lease.Holds(path) })
	return cmd.Process
}

// leased makes a container that needs the lease of a file.
func leased(t *testing.T, path string, change func(*shim.Config, spec), args ...string) shim.Config {
	return makeConfig(t, func(c *shim.Config, s spec) {
		c.Lease = path
		if change != nil {
			change(c, s)
		}
	}, args...)
}

// killedInTime waits for the container's end, which has to be the lease's.
func killedInTime(t *testing.T, cl *shim.Client, end int64) {
	t.Helper()
	x := wait(t, cl)
	left := time.Duration(end - lease.Now())
	if x.Error != lease.Ended || x.Code != 137 || x.Signal != 9 {
		t.Errorf("%+v", x)
	}
	if left < 0 || left > lease.Margin {
		t.Errorf("it ended %v before the lease", left)
	}
}

func leaseEnd(t *testing.T, path string) int64 {
	t.Helper()
	end, err := lease.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// A daemon that dies and one that stands still are the same to a lease.
func TestAContainerLivesAsLongAsItsLeaseIsRenewed(t *testing.T) {
	needRunc(t)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		path := filepath.Join(t.TempDir(), "lease")
		daemon := startRenewer(t, path)
		cl := start(t, leased(t, path, nil, "sleep", "1000"))
		select {
		case x := <-cl.Wait():
			t.Fatalf("%+v", x)
		case <-time.After(2*renewFor + renewEach):
		}
		if err := daemon.Signal(sig); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the daemon does nothing", func() bool {
			b, _ := os.ReadFile("/proc/" + strconv.Itoa(daemon.Pid) + "/stat")
			return strings.Contains(string(b), ") T ") || strings.Contains(string(b), ") Z ")
		})
		killedInTime(t, cl, leaseEnd(t, path))
	}
}

// What cannot be read renews nothing; what was read before counts, for a while.
func TestALeaseThatCannotBeReadEnds(t *testing.T) {
	needRunc(t)
	var running []func() // side by side: one waits for the whole lease
	for _, damage := range []func(string) error{
		os.Remove,
		func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("x", 60)), 0o600) },
		func(p string) error { return os.Truncate(p, 0) },
	} {
		path, end := shortLease(t)
		cl := start(t, leased(t, path, nil, "sleep", "1000"))
		if err := damage(path); err != nil {
			t.Fatal(err)
		}
		running = append(running, func() { killedInTime(t, cl, end) })
	}
	for _, wait := range running {
		wait()
	}
}

// shortLease writes a lease as long as a shim trusts in one that it has read: a
// busy machine has that time to start the container, or nothing is tested.
func shortLease(t *testing.T) (path string, end int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "lease")
	end = lease.Now() + int64(5*time.Second)
	if err := lease.Write(path, end); err != nil {
		t.Fatal(err)
	}
	return path, end
}

// A machine alone has a lease without an end. It may become one of several at
// any time: then it gets one, and the shim notices.
func TestALeaseWithoutEndIsLookedAtNevertheless(t *testing.T) {
	needRunc(t)
	path := filepath.Join(t.TempDir(), "lease")
	if err := lease.Write(path, lease.Never); err != nil {
		t.Fatal(err)
	}
	cl := start(t, leased(t, path, nil, "sleep", "1000"))
	select {
	case x := <-cl.Wait():
		t.Fatalf("%+v", x)
	case <-time.After(6 * time.Second):
	}
	end := lease.Now() + int64(5*time.Second)
	if err := lease.Write(path, end); err != nil {
		t.Fatal(err)
	}
	killedInTime(t, cl, end)
}

func TestNothingStartsWithoutALease(t *testing.T) {
	needRunc(t)
	for what, prepare := range map[string]func(string) error{
		"none":    func(string) error { return nil },
		"ended":   func(p string) error { return lease.Write(p, lease.Now()) },
		"ending":  func(p string) error { return lease.Write(p, lease.Now()+int64(lease.Margin)) },
		"garbage": func(p string) error { return os.WriteFile(p, []byte("soon"), 0o600) },
	} {
		path := filepath.Join(t.TempDir(), "lease")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		c := leased(t, path, nil, "sleep", "1000")
		_, err := launch(t, c).Run(testContext(t))
		var refused *shim.RuntimeError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), lease.Ended) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Every process goes: of a frozen container, and of one whose first process is
// not the init of a pid namespace.
func TestTheEndOfALeaseTakesAllProcesses(t *testing.T) {
	needRunc(t)
	ctx := testContext(t)
	var running []func()
	for _, frozen := range []bool{false, true} {
		path, end := shortLease(t)
		c := leased(t, path, func(_ *shim.Config, s spec) {
			if l, ok := s["linux"].(map[string]any); ok && !frozen {
				l["namespaces"] = []map[string]string{{"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
			}
		}, "sh", "-c", "sleep 1000 & sleep 1000 & wait")
		cl := start(t, c)
		eventually(t, "three processes", func() bool { return len(processesOf(t, c)) == 3 })
		if frozen {
			if err := cl.Pause(ctx); err != nil {
				t.Fatal(err)
			}
		}
		running = append(running, func() {
			killedInTime(t, cl, end)
			if left := processesOf(t, c); len(left) > 0 {
				t.Errorf("frozen %v: %v", frozen, left)
			}
		})
	}
	for _, wait := range running {
		wait()
	}
}

// processesOf lists the processes in the container's cgroup.
func processesOf(t *testing.T, c shim.Config) []string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if b, err := os.ReadFile(dir + c.CgroupPath + "/cgroup.procs"); err == nil {
			return strings.Fields(string(b))
		}
	}
	return nil
}

// The runtime may take long; what it would start in the end must not run.
func TestALeaseEndsWhileTheRuntimeStarts(t *testing.T) {
	needRunc(t)
	path, slow := filepath.Join(t.TempDir(), "lease"), filepath.Join(t.TempDir(), "slow")
	script := "#!/bin/sh\ncase \" $* \" in *\" run \"*) exec sleep 1000;; esac\nexec runc \"$@\"\n"
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	end := lease.Now() + int64(2*time.Second)
	if err := lease.Write(path, end); err != nil {
		t.Fatal(err)
	}
	c := leased(t, path, func(c *shim.Config, _ spec) { c.Runtime = slow }, "sleep", "1000")
	_, err := launch(t, c).Run(testContext(t))
	if err == nil || !strings.Contains(err.Error(), lease.Ended) || errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("%v", err)
	}
	if left := time.Duration(end - lease.Now()); left < 0 {
		t.Errorf("given up %v after the lease", -left)
	}
}
