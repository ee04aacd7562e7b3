package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// A free port comes back with its container, unless somebody took it meanwhile.
func TestFreePortsAreRemembered(t *testing.T) {
	if !inHost(t) {
		return
	}
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	ctx := context.Background()
	sb := overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{{ContainerPort: 80}, {ContainerPort: 81, Protocol: "udp"}, {ContainerPort: 82, HostPort: 9000, HostPortEnd: 9005}}}
	first := n.connect(sb)
	must(t, n.Disconnect(ctx, "web"))
	for i := range 3 { // others come and go meanwhile
		n.connect(overlaynet.Sandbox{ID: fmt.Sprint("o", i), Attachments: on("front"), Ports: []stack.Port{{ContainerPort: 80}}})
	}
	if again := n.connect(sb); fmt.Sprint(again.Ports) != fmt.Sprint(first.Ports) {
		t.Errorf("started again: %v, before: %v", again.Ports, first.Ports)
	}
	must(t, n.Disconnect(ctx, "web"))
	n.connect(overlaynet.Sandbox{ID: "thief", Attachments: on("front"), Ports: []stack.Port{{HostPort: first.Ports[0].HostPort, ContainerPort: 80}, {HostPort: 9000, ContainerPort: 80}}})
	again := n.connect(sb)
	if again.Ports[0].HostPort == first.Ports[0].HostPort || again.Ports[4].HostPort != 9001 || again.Ports[2].HostPort != first.Ports[2].HostPort {
		t.Errorf("after the theft: %v, before: %v", again.Ports, first.Ports)
	}
}

// Of many who want one port, one gets it; and who asks for any port gets one
// of his own. Nothing is left of those that lost.
func TestConcurrentClaims(t *testing.T) {
	if !inHost(t) {
		return
	}
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.0.0/20")))
	ctx := context.Background()
	const many = 24
	var wg sync.WaitGroup
	errs, got := make([]error, many), make([]*overlaynet.Connected, many)
	for i := range many {
		wg.Go(func() {
			id := fmt.Sprint("c", i)
			got[i], errs[i] = n.Connect(ctx, overlaynet.Sandbox{ID: id, Name: id, Attachments: on("front"), Ports: []stack.Port{{ContainerPort: 1}, {HostPort: 8080, ContainerPort: 80}}})
		})
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("c%d and c%d both have port 8080", won, i)
		}
	}
	if won < 0 {
		t.Fatal("nobody has port 8080")
	}
	for i, err := range errs {
		if i != won && (!errors.Is(err, runtime.ErrConflict) || err.Error() != fmt.Sprintf("network of c%d: port 0.0.0.0:8080/tcp is in use by container c%d", i, won)) {
			t.Errorf("c%d: %v", i, err)
		}
	}
	if eps := n.Endpoints("front"); len(eps) != 1 {
		t.Errorf("%d endpoints", len(eps))
	}
	seen := map[string]bool{}
	for i := range many {
		wg.Go(func() {
			got[i], errs[i] = n.Connect(ctx, overlaynet.Sandbox{ID: fmt.Sprint("f", i), Attachments: on("front"), Ports: []stack.Port{{ContainerPort: 80}}})
		})
	}
	wg.Wait()
	for i, err := range errs {
		must(t, err)
		p := fmt.Sprint(got[i].Ports[0])
		if seen[p] {
			t.Errorf("%s twice", p)
		}
		seen[p] = true
	}
}

// A client that has been sending datagrams since before the port was
// published reaches the container, with its own address; and another's port
// next to it is not disturbed.
func TestDatagramsFromBefore(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	n.connect(overlaynet.Sandbox{ID: "first", Attachments: on("front")}) // connections are tracked from now on
	for _, addr := range []string{"192.0.2.1:5353", "[2001:db8::1]:5353"} {
		var c net.Conn
		must(t, in(t, out, func() (err error) { c, err = net.Dial("udp", addr); return err }))
		defer c.Close()
		if got := udpAsk(c); got != "" {
			t.Errorf("not published, but %q answers", got)
		}
		web := n.connect(overlaynet.Sandbox{ID: "dns", Attachments: on("front"), Ports: []stack.Port{{HostPort: 5353, ContainerPort: 53, Protocol: "udp"}}})
		serve(t, web.NetNS, "dns", "udp4", ":53")
		want := "dns 192.0.2.9"
		if addr[0] == '[' {
			want = "dns 10.70.1.1" // the container has IPv4 only: forwarded
		}
		until(t, "published: "+want, func() bool { return udpAsk(c) == want })
		must(t, n.Disconnect(context.Background(), "dns"))
	}
}

// A container of an internal network publishes when it joins another one.
func TestPublishedWhenItGetsOut(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	inner := bridgeNet("inner", "10.70.3.0/24")
	inner.Internal = true
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24"), inner))
	ctx := context.Background()
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("inner"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	serve(t, web.NetNS, "web", "tcp", ":80")
	wantNone(t, "internal only", out, "tcp", "192.0.2.1:8080")
	c, err := n.ConnectNetwork(ctx, "web", stack.Attachment{Network: "front"})
	must(t, err)
	if len(c.Ports) != 2 {
		t.Errorf("got %+v", c.Ports)
	}
	wantAsk(t, "in front too", out, "tcp", "192.0.2.1:8080", "web 192.0.2.9")
	_, err = n.DisconnectNetwork(ctx, "web", "front")
	must(t, err)
	wantNone(t, "internal again", out, "tcp", "192.0.2.1:8080")
}
