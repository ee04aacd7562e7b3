package nettest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const childEnv = "DHOW_OVERLAYNET_HOST"

// InHost runs the rest of the test (or benchmark) in a process with a network
// and mount namespace of its own: a host that vanishes with the test. It
// returns false in the parent, which has run the child to its end by then.
func InHost(t testing.TB) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		Must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		lo, err := netlink.LinkByName("lo")
		Must(t, err)
		Must(t, netlink.LinkSetUp(lo))
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: this test makes network namespaces and needs root")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=120s"}
	if _, ok := t.(*testing.B); ok {
		args = []string{"-test.run=^$", "-test.bench=^" + t.Name() + "$"}
	}
	for _, a := range os.Args {
		if strings.HasPrefix(a, "-test.testlogfile") || strings.HasPrefix(a, "-test.benchtime") || strings.HasPrefix(a, "-rapid.") {
			if !strings.Contains(a, "testlogfile") {
				args = append(args, a)
			}
		}
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread that forks
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	default:
		t.Logf("%s", out)
		if _, ok := t.(*testing.B); ok {
			fmt.Printf("%s", out)
		}
	}
	return false
}

func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run runs a program in the host and returns its output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	// What ip says on the side is not compared: it complains of namespaces that
	// other tests are just making in /run/netns.
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", name, args, err, out, stderr.Bytes())
	}
	return string(out)
}

// patience is for what hangs: a busy machine takes a while.
const patience = time.Minute

// Until waits for f, which the kernel or a loop will make true.
func Until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
