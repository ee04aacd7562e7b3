package shim

import (
	"syscall"
	"testing"
	"time"
)

// An ended shim must not stay as a zombie until another container starts.
func TestAbandonedChildrenAreReaped(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "0.2"}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	abandon(pid)
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d has ended and was not reaped", pid)
		}
	}
}
