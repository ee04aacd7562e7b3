package engine_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/stack"
)

func (n *node) lease(d time.Duration) {
	n.Helper()
	n.ok(lease.Write(filepath.Join(n.dir, "run", "lease"), lease.Now()+int64(d)))
}

// What the end of a lease has ended is not started again in place: another node
// may run it now.
func TestTheEndOfALeaseIsNoEndToRestartAfter(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Leased, spec.Restart = true, stack.RestartPolicy{Condition: "always", Delay: time.Millisecond}
	id := n.create("once", spec)
	if err := n.Start(n.ctx(), id); err == nil || !strings.Contains(err.Error(), lease.Ended) {
		t.Errorf("start without a lease: %v", err)
	}
	n.lease(time.Minute)
	n.ok(n.Start(n.ctx(), id))
	plain := n.start("plain", sh("sleep 1000"))
	n.lease(0) // noticed within seconds, whatever was read before
	if code := n.exit(id); code != 137 {
		t.Errorf("exit code %d", code)
	}
	n.lease(time.Minute)
	n.reopen() // nor by a daemon that finds it
	if c := n.inspect(id); c.State.Status != runtime.Exited || c.State.Error != lease.Ended || c.RestartCount != 0 {
		t.Errorf("%s, %q, %d restarts", c.State.Status, c.State.Error, c.RestartCount)
	}
	if c := n.inspect(plain); c.State.Status != runtime.Running {
		t.Errorf("one that needs no lease is %s", c.State.Status)
	}
	n.ok(n.Start(n.ctx(), id)) // the agent may
}

// Other ends are followed by a restart, but not before there is a lease: after a
// reboot, say.
func TestARestartInPlaceWaitsForALease(t *testing.T) {
	n := newNode(t)
	n.lease(time.Minute)
	spec := sh("sleep 1000")
	spec.Leased, spec.Restart = true, stack.RestartPolicy{Condition: "always", MaxAttempts: 1}
	ids := map[string]string{"once": n.start("once", spec)}
	n.stop()
	n.reboot(ids) // the file is gone, too
	n.open()
	time.Sleep(time.Second)
	if c := n.inspect("once"); c.State.Status != runtime.Restarting || c.RestartCount != 0 {
		t.Errorf("%s, %d restarts", c.State.Status, c.RestartCount)
	}
	n.lease(time.Minute)
	n.eventually("it runs again", func() bool { return n.inspect("once").State.Status == runtime.Running })
	if c := n.inspect("once"); c.RestartCount != 1 {
		t.Errorf("%d restarts", c.RestartCount)
	}
}
