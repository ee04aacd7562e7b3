package lb

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
)

// named answers each datagram with its name and with where it came from.
func named(t *testing.T, name string) overlaynet.Backend {
	t.Helper()
	b, _ := namedAt(t, name, "127.0.0.1:0")
	return b
}

// namedAt is named at an address; end ends it.
func namedAt(t *testing.T, name, at string) (_ overlaynet.Backend, end func()) {
	t.Helper()
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	end = func() { pc.Close(); <-ended }
	t.Cleanup(end)
	go func() {
		defer close(ended)
		for buf := make([]byte, 64); ; {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo([]byte(name+" "+from.String()), from)
		}
	}()
	return overlaynet.Backend{Addr: netip.MustParseAddr("127.0.0.1"), Port: uint16(pc.LocalAddr().(*net.UDPAddr).Port)}, end
}

// answer is the next that comes; "": nothing does in time.
func answer(t *testing.T, c net.Conn, within time.Duration) (name, via string) {
	t.Helper()
	buf := make([]byte, 64)
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", ""
	} else if err != nil {
		t.Fatal(err)
	}
	name, via, _ = strings.Cut(string(buf[:n]), " ")
	return name, via
}

func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
}

// closedSoon fails when something that is forwarded goes on after the end.
func closedSoon(t *testing.T, r *reservation) {
	t.Helper()
	closed := make(chan struct{})
	go func() { r.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("closed, but some socket towards a backend is still read")
	}
}

// A client that goes on sending datagrams from one port leaves a backend that
// is to get nothing new, and no other; it has one socket at a time.
func TestForwardedDatagramsFollowTheBackends(t *testing.T) {
	one, two := named(t, "one"), named(t, "two")
	r, addr := reserved(t, &echo{to: one}, "udp", 1)
	defer closedSoon(t, r)
	c := dialled(t, "udp", addr)
	last, through := "one", ""
	want := func(name string) {
		t.Helper()
		got, via := answer(t, c, 10*time.Second)
		if got != name || got == last && through != "" && via != through {
			t.Fatalf("answer of %q by %s; want %s; before: %s by %s", got, via, name, last, through)
		}
		last, through = got, via
	}
	want("one")
	for range 100 {
		for _, x := range []struct {
			to   []overlaynet.Backend
			name string
		}{{[]overlaynet.Backend{one, two}, "one"}, {[]overlaynet.Backend{two}, "two"}, {[]overlaynet.Backend{one}, "one"}} {
			r.Forward(x.to)
			for range 3 {
				ask(t, c)
				want(x.name)
			}
		}
	}
}

// A client whose backend was away for a moment is served again.
func TestForwardedDatagramsSurviveARestart(t *testing.T) {
	one, end := namedAt(t, "one", "127.0.0.1:0")
	r, addr := reserved(t, &echo{to: one}, "udp", 1)
	defer closedSoon(t, r)
	c := dialled(t, "udp", addr)
	if got, _ := answer(t, c, 10*time.Second); got != "one" {
		t.Fatalf("answer of %q", got)
	}
	end()
	ask(t, c) // nobody is there: the host says so
	if got, _ := answer(t, c, 100*time.Millisecond); got != "" {
		t.Fatalf("answer of %q, who is gone", got)
	}
	namedAt(t, "next", netip.AddrPortFrom(one.Addr, one.Port).String())
	for start := time.Now(); ; {
		ask(t, c)
		if got, _ := answer(t, c, 100*time.Millisecond); got == "next" {
			return
		}
		if time.Since(start) > 5*time.Second {
			t.Fatal("no answer any more")
		}
	}
}

// When there are as many clients as may be, those that are known are served all
// the same when the backends change.
func TestForwardedDatagramsOfManyClients(t *testing.T) {
	one, two := named(t, "one"), named(t, "two")
	r, addr := reserved(t, &echo{to: one}, "udp", 1)
	defer closedSoon(t, r)
	first := dialled(t, "udp", addr)
	if got, _ := answer(t, first, 10*time.Second); got != "one" {
		t.Fatalf("answer of %q", got)
	}
	known := map[string]bool{first.LocalAddr().String(): true}
	for len(known) < udpMost {
		c := dialled(t, "udp", addr)
		if got, _ := answer(t, c, 10*time.Second); got != "one" {
			t.Fatalf("client %d: answer of %q", len(known), got)
		}
		known[c.LocalAddr().String()] = true
	}
	last := dialled(t, "udp", addr)
	if got, _ := answer(t, last, 100*time.Millisecond); got != "" {
		t.Errorf("one too many: answer of %q", got)
	}
	r.Forward([]overlaynet.Backend{two})
	ask(t, first)
	if got, _ := answer(t, first, 10*time.Second); got != "two" {
		t.Errorf("answer of %q", got)
	}
}
