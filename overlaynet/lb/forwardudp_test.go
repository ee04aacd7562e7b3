package lb

import (
	"net"
	"net/netip"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
)

// named answers each datagram with its name.
func named(t *testing.T, name string) overlaynet.Backend {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { pc.Close(); <-ended })
	go func() {
		defer close(ended)
		for buf := make([]byte, 64); ; {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(name), from)
		}
	}()
	return overlaynet.Backend{Addr: netip.MustParseAddr("127.0.0.1"), Port: uint16(pc.LocalAddr().(*net.UDPAddr).Port)}
}

// A client that goes on sending datagrams from one port leaves a backend that
// is to get nothing new.
func TestForwardedDatagramsFollowTheBackends(t *testing.T) {
	one, two := named(t, "one"), named(t, "two")
	r, addr := reserved(t, &echo{to: one}, "udp", 1)
	defer r.Close()
	c := dialled(t, "udp", addr)
	want := func(name string) {
		t.Helper()
		buf := make([]byte, 64)
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != name {
			t.Fatalf("answer %q, %v; want %s", buf[:n], err, name)
		}
	}
	want("one")
	for _, x := range []struct {
		to   []overlaynet.Backend
		name string
	}{{[]overlaynet.Backend{one, two}, "one"}, {[]overlaynet.Backend{two}, "two"}, {[]overlaynet.Backend{one}, "one"}} {
		r.Forward(x.to)
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		want(x.name)
	}
}
