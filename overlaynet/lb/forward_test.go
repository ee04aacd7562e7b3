package lb

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// echo is a backend on 127.0.0.1 that counts who is there.
type echo struct {
	to overlaynet.Backend

	mu        sync.Mutex
	now, most int // guarded by mu: connections
}

func (e *echo) count(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now += n
	e.most = max(e.most, e.now)
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	e := &echo{}
	at := nettest.Accept(t, "", "tcp", "127.0.0.1:0", func(c net.Conn) {
		e.count(1)
		_, _ = io.Copy(c, c)
		e.count(-1)
	})
	e.to = overlaynet.Backend{Addr: netip.MustParseAddr("127.0.0.1"), Port: uint16(at.(*net.TCPAddr).Port)}
	pc, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	})
	return e
}

// reserved is a free port of 127.0.0.1 that leads to e.
func reserved(t *testing.T, e *echo, proto string, most int) (*reservation, string) {
	t.Helper()
	p := &Ports{log: slog.New(slog.DiscardHandler), most: most}
	held, err := p.Reserve(overlaynet.Frontend{Protocol: proto, Addr: e.to.Addr})
	if err != nil {
		t.Fatal(err)
	}
	held.Forward([]overlaynet.Backend{e.to})
	r := held.(*reservation)
	switch s := r.closer.(type) {
	case net.Listener:
		return r, s.Addr().String()
	case net.PacketConn:
		return r, s.LocalAddr().String()
	}
	t.Fatal("nothing listens")
	return nil, ""
}

func dialled(t *testing.T, proto, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(proto, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	return c
}

func pong(t *testing.T, c net.Conn) {
	t.Helper()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Fatalf("answer %q, %v", buf, err)
	}
}

// More clients than there is room for wait, and are all served.
func TestForwardedConnectionsAreLimited(t *testing.T) {
	const most, clients = 3, 12
	e := newEcho(t)
	r, addr := reserved(t, e, "tcp", most)
	defer r.Close()
	var conns []net.Conn
	for range clients {
		conns = append(conns, dialled(t, "tcp", addr))
	}
	for i, c := range conns { // in the order in which they came
		if i >= most {
			conns[i-most].Close()
		}
		pong(t, c)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.most != most {
		t.Errorf("%d connections at once, want %d", e.most, most)
	}
}

// When the port is given back nothing goes on forwarding, also not to a
// backend that does not answer.
func TestClosedPortForwardsNothing(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		e := newEcho(t)
		r, addr := reserved(t, e, proto, 2)
		one, two := dialled(t, proto, addr), dialled(t, proto, addr)
		pong(t, one)
		pong(t, two)
		dialled(t, proto, addr) // waits for its turn
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", proto, err)
		}
		for _, c := range []net.Conn{one, two} {
			if proto == "udp" {
				_, _ = c.Write([]byte("ping")) // refused, as the next read tells
			}
			_, err := c.Read(make([]byte, 1))
			if late := net.Error(nil); err == nil || errors.As(err, &late) && late.Timeout() {
				t.Errorf("%s: still open: %v", proto, err)
			}
		}
		e.mu.Lock()
		if proto == "tcp" && e.most != 2 {
			t.Errorf("%d connections at once", e.most)
		}
		e.mu.Unlock()
	}
}
