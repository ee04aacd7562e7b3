package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// memNet connects nodes within the process, and cuts them off. Packets are
// dropped when a reader is late, as a network does it; nothing blocks.
type memNet struct {
	mu    sync.Mutex
	hosts map[string]*memTransport // by address
	cut   map[[2]string]bool       // from, to: by address
	sent  map[string]int           // bytes of packets, by sender
	next  int
}

func newMemNet() *memNet {
	return &memNet{hosts: map[string]*memTransport{}, cut: map[[2]string]bool{}, sent: map[string]int{}}
}

// memTransport is one node's place in a memNet.
type memTransport struct {
	net     *memNet
	ip      net.IP
	addr    string
	packets chan *memberlist.Packet
	streams chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

// host makes a place at the next address.
func (n *memNet) host() *memTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next++
	ip := net.IPv4(10, 0, 0, byte(n.next)).To4()
	t := &memTransport{
		net: n, ip: ip, addr: fmt.Sprintf("%s:%d", ip, DefaultPort),
		packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	n.hosts[t.addr] = t
	return t
}

// sever stops what goes from a to b; one way.
func (n *memNet) sever(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{a, b}] = true
}

func (n *memNet) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// way is where a packet or a call from one address to another arrives; nil: nowhere.
func (n *memNet) way(from, to string) *memTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]string{from, to}] {
		return nil
	}
	return n.hosts[to]
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.ip, DefaultPort, nil
}

func (t *memTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	t.net.mu.Lock()
	t.net.sent[t.addr] += len(b) + 28 // IP and UDP headers
	t.net.mu.Unlock()
	to := t.net.way(t.addr, addr)
	if to == nil {
		return now, nil
	}
	select {
	case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: &net.UDPAddr{IP: t.ip, Port: DefaultPort}, Timestamp: now}:
	default:
	}
	return now, nil
}

func (t *memTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *memTransport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *memTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, back := t.net.way(t.addr, addr), t.net.way(addr, t.addr)
	late := time.NewTimer(timeout)
	defer late.Stop()
	if to == nil || back == nil { // neither side of a handshake may be lost
		select {
		case <-late.C:
			return nil, errors.New("timeout")
		case <-t.closed:
			return nil, net.ErrClosed
		}
	}
	a, b := net.Pipe()
	select {
	case to.streams <- b:
		return a, nil
	case <-to.closed:
	case <-late.C:
	}
	return nil, errors.Join(errors.New("connection refused"), a.Close(), b.Close())
}

func (t *memTransport) Shutdown() error {
	t.once.Do(func() {
		close(t.closed)
		t.net.mu.Lock()
		delete(t.net.hosts, t.addr)
		t.net.mu.Unlock()
	})
	return nil
}

var testKey = []byte("0123456789abcdef0123456789abcdef")

// simulated runs a test whose clock jumps to whatever happens next, so that no
// busy machine delays a packet or an answer.
func simulated(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // memberlist's last probes outlive its end
		test(t)
	})
}

// start opens a node and runs it until the test's end.
func start(t *testing.T, cfg Config) *Gossip {
	t.Helper()
	if cfg.Keys == nil {
		cfg.Keys = [][]byte{testKey}
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", cfg.Node)
	g, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// patience is longer than anything takes, also on a busy machine.
const patience = time.Minute

// await waits until ok, looked at after each change.
func await(t *testing.T, g *Gossip, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := g.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: still not: %s; members %+v", g.cfg.Node, what, g.Members())
		}
	}
}

// steady does something that takes its time and returns the longest that this
// process stood still meanwhile: one that does not run for long takes others
// for dead, and is taken for dead, with good reason.
func steady(do func()) (longest time.Duration) {
	const tick = 5 * time.Millisecond
	over, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		last, longest := time.Now(), time.Duration(0)
		for {
			select {
			case <-over:
				done <- longest
				return
			case <-ticker.C:
				now := time.Now()
				longest = max(longest, now.Sub(last)-tick)
				last = now
			}
		}
	}()
	do()
	close(over)
	return <-done
}

// tooBusy is how long this process may stand still before what its nodes think
// of each other says nothing about them.
const tooBusy = 150 * time.Millisecond

func alive(g *Gossip, node string) bool {
	m, ok := g.Member(node)
	return ok && m.Alive
}

func count(g *Gossip) int {
	n := 0
	for _, m := range g.Members() {
		if m.Alive {
			n++
		}
	}
	return n
}
