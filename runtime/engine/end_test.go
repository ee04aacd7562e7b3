package engine_test

import (
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// The network of a container is slow to take down: who waits for its end is
// not kept waiting, who removes it is.
func TestEndIsToldBeforeTheCleanUp(t *testing.T) {
	n := newNode(t)
	gate := make(chan struct{})
	n.net.first = func() { <-gate }
	id := n.start("", stack.ContainerSpec{Command: []string{"sh", "-c", "exit 3"}, Networks: []stack.Attachment{{Network: "front"}}})
	done, err := n.Wait(n.ctx(), id, runtime.WaitNotRunning)
	n.ok(err)
	if st := <-done; st.Code != 3 {
		t.Fatalf("code %d, want 3", st.Code)
	}
	if c := n.inspect(id); c.State.Status != runtime.Exited {
		t.Fatalf("it is %s", c.State.Status)
	}
	if n.net.String() == "" {
		t.Fatal("the sandbox is gone although the gate is closed")
	}
	removed := make(chan error, 1)
	go func() { removed <- n.Remove(n.ctx(), id, runtime.RemoveOptions{}) }()
	close(gate)
	n.ok(<-removed)
	n.leftovers()
}

// What another container may want to have next is free when the end is told.
func TestEndIsToldWhenPortsAndAddressesAreFree(t *testing.T) {
	for name, spec := range map[string]stack.ContainerSpec{
		"port":     {Networks: []stack.Attachment{{Network: "front"}}, Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}},
		"all":      {Networks: []stack.Attachment{{Network: "front"}}, PublishAll: true},
		"address":  {Networks: []stack.Attachment{{Network: "front", IPv4: "10.9.5.7"}}},
		"address6": {Networks: []stack.Attachment{{Network: "front", IPv6: "fd00::7"}}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			spec.Command = []string{"true"}
			id := n.create("", spec)
			done, err := n.Wait(n.ctx(), id, runtime.WaitNextExit)
			n.ok(err)
			early := make(chan bool, 1)
			n.net.first = func() { early <- len(done) > 0 } // the answer waits in the channel
			n.ok(n.Start(n.ctx(), id))
			if <-early {
				t.Error("the end was told before the network was free")
			}
			<-done
		})
	}
}
