package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

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

// A sandbox whose links cannot be removed keeps its addresses, as somebody else
// would have them twice; the removal can be repeated, and is.
func TestFailedRemovalKeepsAddresses(t *testing.T) {
	no := errors.New("device or resource busy")
	web := overlaynet.Sandbox{ID: "web", Name: "web", Attachments: on("tiny"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}
	for _, call := range []string{"RemoveSandbox", "Apply"} {
		k := newKernel()
		m := k.manager(t, newSource(bridgeNet("tiny", "10.70.9.0/30"))) // one address
		ctx := t.Context()
		_, err := m.Connect(ctx, web)
		must(t, err)
		left := func(what string) {
			t.Helper()
			if _, err := m.Connect(ctx, overlaynet.Sandbox{ID: "next", Attachments: on("tiny")}); err == nil {
				t.Errorf("%s: %s: the address was given to another", call, what)
			}
			if _, ok := m.Connected("web"); ok || len(m.Endpoints("tiny")) != 0 {
				t.Errorf("%s: %s: it is told as if it were whole", call, what)
			}
		}
		k.failing(call, no)
		if err := m.Disconnect(ctx, "web"); !errors.Is(err, no) {
			t.Fatalf("%s: %v", call, err)
		}
		left("failed")
		if _, err := m.Connect(ctx, web); !errors.Is(err, no) {
			t.Errorf("%s: made anew over what is left: %v", call, err)
		}
		left("not made anew")
		k.failing(call, nil)
		must(t, m.Disconnect(ctx, "web"))
		if len(k.sandboxes)+len(k.fronts) != 0 {
			t.Errorf("%s: left: %v, %v", call, k.sandboxes, k.fronts)
		}
		_, err = m.Connect(ctx, overlaynet.Sandbox{ID: "next", Attachments: on("tiny")})
		must(t, err)
	}
}

// What could not be done is done by the next look at everything.
func TestRepairGoesOn(t *testing.T) {
	no := errors.New("no")
	src, k := newSource(bridgeNet("front", "10.70.1.0/24")), newKernel()
	m, ctx := k.manager(t, src), t.Context()
	shared := func(id string) overlaynet.Sandbox {
		return overlaynet.Sandbox{ID: id, Attachments: on("front"), PortGroup: "g", Ports: []stack.Port{{HostIP: "0.0.0.0", HostPort: 8080, ContainerPort: 80}}}
	}
	config := overlaynet.Config{}
	for _, id := range []string{"a", "b"} {
		config.Sandboxes = append(config.Sandboxes, overlaynet.Restored{Sandbox: shared(id), Ready: true})
	}
	must(t, m.Set(ctx, config))
	_, err := m.Connect(ctx, overlaynet.Sandbox{ID: "c", Attachments: on("front")})
	must(t, err)
	backends := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, n := range k.fronts {
			return n
		}
		return 0
	}
	if backends() != 2 {
		t.Fatalf("%d backends", backends())
	}
	k.failing("Apply", no)
	k.failing("RemoveSandbox", no)
	m.SetReady("b", false)
	if err := m.Disconnect(ctx, "c"); !errors.Is(err, no) {
		t.Fatal(err)
	}
	k.failing("Apply", nil)
	k.failing("RemoveSandbox", nil)
	config.Sandboxes[1].Ready = false
	must(t, m.Set(ctx, config)) // the same as it is wished already: nothing but a look
	if backends() != 1 || len(k.sandboxes) != 2 {
		t.Errorf("%d backends, sandboxes %v", backends(), k.sandboxes)
	}
}

// What went wrong once and was made good by a look at everything is no problem any more.
func TestTroubleEndsWithALook(t *testing.T) {
	src, k := newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24")), newKernel()
	m := k.manager(t, src)
	_, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "c", Attachments: on("back")})
	must(t, err)
	must(t, m.Disconnect(t.Context(), "c"))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	k.until(t, "the first look", func() bool { return k.asked["Check"] == 1 })
	k.failing("RemoveSegment", errors.New("busy"))
	k.failing("Check", errors.New("busy"))
	src.remove("back")
	k.until(t, "two looks that fail", func() bool { return k.asked["Check"] == 3 })
	const whole = "look at the whole network: "
	if said := m.Problems(); !slices.Equal(said, []string{whole + "busy", whole + "remove network back: busy", "network: remove network back: busy"}) {
		t.Errorf("problems: %q", said)
	}
	k.failing("RemoveSegment", nil)
	k.failing("Check", nil)
	k.until(t, "a look that succeeds", func() bool { return k.asked["Check"] > 3 })
	for start := time.Now(); len(m.Problems()) > 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("still said: %q", m.Problems())
		}
	}
}

// A health change costs the same, however many tasks other nodes have.
func TestHealthChangesCostTheSame(t *testing.T) {
	src, _, m := shop(t)
	toggle := func() (here, elsewhere float64) {
		ready := false
		here = testing.AllocsPerRun(50, func() { m.SetReady("c1", ready); ready = !ready })
		elsewhere = testing.AllocsPerRun(50, func() {
			src.edit("", func(d *stack.Directory) { d.Endpoints[0].Ready = ready })
			must(t, m.Round(t.Context()))
			ready = !ready
		})
		return here, elsewhere
	}
	few, fewElsewhere := toggle()
	src.edit("", func(d *stack.Directory) {
		for i := range 2000 {
			d.Endpoints = append(d.Endpoints, far(fmt.Sprint("x", i), "n3", "front", "shop/other", fmt.Sprintf("10.70.%d.%d", 2+i/250, i%250)))
		}
	})
	must(t, m.Round(t.Context()))
	many, manyElsewhere := toggle()
	if many > 1.2*few+10 {
		t.Errorf("%.0f allocations beside 2,000 tasks, %.0f beside one", many, few)
	}
	if manyElsewhere > 1.2*fewElsewhere+10 {
		t.Errorf("of a task of another node: %.0f allocations beside 2,000 tasks, %.0f beside one", manyElsewhere, fewElsewhere)
	}
}
