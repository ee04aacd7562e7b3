package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/runtime"
)

// A process may close its socket as soon as it gets the signal.
func TestNoNewRequestsFromBeforeTheSignal(t *testing.T) {
	n := newNode(t)
	spec := sh("trap 'touch /tmp/term; while :; do sleep 0.02; done' TERM; touch /tmp/up; while :; do sleep 0.02; done")
	spec.NetworkMode = "front"
	id := n.start("web", spec)
	serves := func(when string, want bool) {
		t.Helper()
		n.net.mu.Lock()
		defer n.net.mu.Unlock()
		if got := n.net.ready[id]; got != want {
			t.Errorf("%s: gets new requests: %v, want %v", when, got, want)
		}
	}
	n.until(n.ready(id, "/tmp/up"), func(runtime.Event) bool { return true })
	serves("running", true)
	ctx, cancel := context.WithCancel(n.ctx())
	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop(ctx, id, "", nil) }()
	n.until(n.ready(id, "/tmp/term"), func(runtime.Event) bool { return true })
	serves("told to stop", false)
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}
	serves("running on, as nobody waits for its end", true)
	n.ok(n.Serve(n.ctx(), id, false))
	serves("withdrawn", false)
	n.ok(n.Serve(n.ctx(), id, true))
	serves("serving again", true)
}
