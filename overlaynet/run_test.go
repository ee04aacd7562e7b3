package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// The state changes with every word about a task. That must not cost a look at
// every container and every rule: networks that are gone go, and no more; what
// the kernel says is looked into.
func TestChangesOfTheStateAreCheap(t *testing.T) {
	const sandboxes, changes = 20, 50
	src, k := newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24")), newKernel()
	m := k.manager(t, src)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
	k.until(t, "the first look", func() bool { return k.asked["Check"] == 1 })

	for i := range sandboxes {
		_, err := m.Connect(ctx, overlaynet.Sandbox{ID: fmt.Sprint(i), Attachments: on("front"), Ports: []stack.Port{{HostPort: uint16(8000 + i), ContainerPort: 53, Protocol: "udp"}}})
		must(t, err)
	}
	_, err := m.Connect(ctx, overlaynet.Sandbox{ID: "last", Attachments: on("back")})
	must(t, err)
	must(t, m.Disconnect(ctx, "last"))
	must(t, m.Disconnect(ctx, "0"))
	for range changes {
		src.change()
	}
	src.remove("back")
	k.until(t, "the network goes", func() bool { return !k.segments["back"] })
	k.until(t, "connections to the removed container are forgotten", func() bool { return k.asked["Forget"] > 0 })
	if checks, set := k.count("Check"), k.count("SetSandbox"); checks != 1 || set != sandboxes+1 {
		t.Errorf("%d looks at the rules, want 1; %d at sandboxes, want %d", checks, set, sandboxes+1)
	}

	k.mu.Lock()
	damage := k.damage
	k.mu.Unlock()
	damage()
	k.until(t, "damage leads to a look at everything", func() bool { return k.asked["Check"] == 2 && k.asked["SetSandbox"] == 2*sandboxes })
}

// A look that fails is repeated soon.
func TestFailedLookIsRepeated(t *testing.T) {
	src, k := newSource(bridgeNet("front", "10.70.1.0/24")), newKernel()
	m := k.manager(t, src)
	k.failing("Check", errors.New("no"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	k.until(t, "it is tried again", func() bool { return k.asked["Check"] >= 2 })
}
