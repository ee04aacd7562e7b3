package port

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	dhow "github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// refused says whether a connection comes to nothing: with TLS 1.3 the server's
// refusal arrives after the client's side of the handshake.
func refused(c net.Conn, err error) bool {
	if err != nil {
		return true
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	_, err = c.Read(make([]byte, 1))
	var late net.Error
	return err != nil && !(errors.As(err, &late) && late.Timeout())
}

func stranger(addr, proto string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	return tls.DialWithDialer(&d, "tcp", addr, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{proto}})
}

func TestAStrangerReachesTwoPaths(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager)
	serveAll(t, a.Port)
	a.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		_, known := PeerOf(r)
		fmt.Fprint(w, known, n)
	}))
	addr := a.Addr().String()
	for _, proto := range []string{ProtoRaft, ProtoGRPC, "other", ""} {
		if !refused(stranger(addr, proto)) {
			t.Errorf("let in to %q", proto)
		}
	}
	c := tlsClient(addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ProtoHTTP}}, time.Minute)
	for _, q := range []struct {
		method, path string
		body         int
		want         int
	}{
		{"GET", RootPath, 0, 200},
		{"POST", JoinPath, 100, 200},
		{"POST", JoinPath, strangerBody + 1, 413},
		{"POST", RootPath, 0, 403},
		{"GET", JoinPath, 0, 403},
		{"GET", "/cluster/v1/renew", 0, 403},
		{"GET", "/forward/containers/json", 0, 403},
		{"GET", RootPath + "/", 0, 403},
		{"GET", "/cluster%2Fv1/root", 0, 403},
		{"GET", "//cluster/v1/root", 0, 403},
		{"GET", "/x/../cluster/v1/root", 0, 403},
		{"CONNECT", RootPath, 0, 403},
		{"GET", "/", 0, 403},
	} {
		req, err := http.NewRequest(q.method, "http://"+addr+q.path, bytes.NewReader(make([]byte, q.body)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", q.method, q.path, err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != q.want || q.want == 200 && string(body) != fmt.Sprint(false, q.body) {
			t.Errorf("%s %s: %s %s, want %d", q.method, q.path, res.Status, body, q.want)
		}
	}
	// An upgrade would take the connection out of its bounds.
	req, _ := http.NewRequest("GET", "http://"+addr+RootPath, nil)
	req.Header.Set("Upgrade", "tcp")
	req.Header.Set("Connection", "Upgrade")
	res, err := c.Do(req)
	if err != nil || res.StatusCode != 403 {
		t.Fatalf("upgrade: %v %v", res, err)
	}
	res.Body.Close()
}

func TestOnlyManagersReachTheLog(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleWorker)
	serveAll(t, a.Port)
	if !refused(b.Dial(t.Context(), "n1", ProtoRaft)) {
		t.Error("a worker is let in")
	}
	if _, err := a.Dial(t.Context(), "n2", ProtoRaft); !errors.Is(err, dhow.ErrForbidden) {
		t.Errorf("a worker is dialed: %v", err)
	}
	useGRPC(t, b.Port, "n1")
}

func TestCertificatesThatAreRefused(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager)
	serveAll(t, a.Port)

	other := newWorld(t) // another cluster with the same names
	foreign := other.add("n2", stack.RoleManager)
	other.put("n1", a.Addr().String())
	if _, err := foreign.Dial(t.Context(), "n1", ProtoGRPC); !errors.Is(err, dhow.ErrForbidden) {
		t.Errorf("a node talks to another cluster: %v", err)
	}
	cfg := foreign.store.ClientTLS("n1", ProtoGRPC)
	cfg.VerifyConnection = nil // the server must refuse by itself
	if !refused(tls.Dial("tcp", a.Addr().String(), cfg)) {
		t.Error("a certificate of another cluster is let in")
	}

	// The clock that the expired node goes by stands still.
	then := time.Now()
	store, err := identity.OpenStore(t.TempDir(), identity.Clock(func() time.Time { return then.Add(-2 * time.Minute) }))
	if err != nil {
		t.Fatal(err)
	}
	b := &node{id: "n2", role: stack.RoleManager, store: store, w: w}
	b.renew(time.Minute, then.Add(-2*time.Minute))
	b.Port = New(Config{Node: "n2", Identity: store, Book: w})
	t.Cleanup(func() { b.Close() })
	if !refused(b.Dial(t.Context(), "n1", ProtoGRPC)) {
		t.Error("an expired certificate is let in")
	}
	if err := b.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w.put("n2", b.Addr().String())
	if _, err := a.Dial(t.Context(), "n2", ProtoHTTP); err == nil || !strings.Contains(err.Error(), "ended at") {
		t.Errorf("an expired certificate is dialed: %v", err)
	}

	// A copy of n1's machine.
	twin := w.add("n1", stack.RoleManager)
	w.put("n1", a.Addr().String())
	raw, err := tls.Dial("tcp", a.Addr().String(), twin.store.ClientTLS("n1", ProtoGRPC))
	if !refused(raw, err) {
		t.Error("a copy of the node itself is let in")
	}
}

func TestARemovedNodeIsOut(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	for _, n := range []*node{a, b} {
		serveAll(t, n.Port)
	}
	in := mustDial(t, b.Port, "n1", ProtoRaft)
	out := mustDial(t, a.Port, "n2", ProtoRaft)
	own := mustDial(t, a.Port, "n1", ProtoRaft)
	for _, c := range []net.Conn{in, out, own} {
		if _, err := greeting(c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := get(t.Context(), b.HTTPClient("n1"), "http://n1/"); err != nil {
		t.Fatal(err)
	}
	w.remove("n2")
	// The open HTTP connection is there still: each request is asked about.
	if _, err := get(t.Context(), b.HTTPClient("n1"), "http://n1/"); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("a request of a removed node: %v", err)
	}
	a.Drop("n2")
	for name, c := range map[string]net.Conn{"accepted": in, "dialed": out} {
		if err := talk(c, "still here"); err == nil {
			t.Errorf("the %s connection is open", name)
		}
	}
	if err := talk(own, "still here"); err != nil {
		t.Errorf("the connection with itself: %v", err)
	}
	if !refused(b.Dial(t.Context(), "n1", ProtoGRPC)) {
		t.Error("a removed node is let in")
	}
	if _, err := a.Dial(t.Context(), "n2", ProtoGRPC); err == nil || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("a removed node is dialed: %v", err)
	}
}

// TestNoConnectionSlipsThroughARemoval: handshakes under way while a node is
// removed and dropped end refused or dropped.
func TestNoConnectionSlipsThroughARemoval(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	echo(t, a.Raft())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				c, err := dialBlind(ctx, b, "n1")
				if err != nil {
					return // refused: removed
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
				if _, err := greeting(c); err != nil {
					return
				}
			}
		}()
	}
	for n := 0; n < 20; { // let it run
		mu.Lock()
		n = len(conns)
		mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	w.remove("n2")
	a.Drop("n2")
	wg.Wait()
	for i, c := range conns {
		if err := talk(c, "x"); err == nil {
			t.Fatalf("connection %d of %d is open", i, len(conns))
		}
		c.Close()
	}
}

// dialBlind dials as a node that does not know of its removal.
func dialBlind(ctx context.Context, n *node, to string) (net.Conn, error) {
	addr, err := n.w.Addr(to)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: n.store.ClientTLS(to, ProtoRaft)}
	return d.DialContext(ctx, "tcp", addr)
}

func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager, func(c *Config) { c.MaxHandshakes = 8; c.HandshakeTimeout = 3 * time.Second })
	b := w.add("n2", stack.RoleManager, func(c *Config) { c.DialTimeout = time.Minute })
	a.HandleHTTP(http.HandlerFunc(whoami))
	flood := func(from string, n int) (open []net.Conn) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		for range n {
			c, err := d.Dial("tcp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			open = append(open, c)
		}
		return open
	}
	// One source that says nothing gets half of eight; the fifth is closed at once.
	silent := flood("127.0.0.9", 5)
	silent[4].SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent[4].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the fifth is kept: %v", err)
	}
	silent[3].SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := silent[3].Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("the fifth was closed when the fourth was: %v", err)
	}
	if _, err := get(t.Context(), b.HTTPClient("n1"), "http://n1/"); err != nil {
		t.Errorf("another node is kept out: %v", err)
	}
	// All slots taken from many sources: others wait until the timeout frees one.
	b.CloseIdle()
	for i := range 4 {
		flood(fmt.Sprintf("127.0.1.%d", i+1), 2)
	}
	if _, err := get(t.Context(), b.HTTPClient("n1"), "http://n1/"); err != nil {
		t.Errorf("kept out for good: %v", err)
	}
	// Whoever said nothing is out.
	silent[0].SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a silent connection is kept: %v", err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestStrangersAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager, func(c *Config) { c.MaxStrangers = 8 })
	b := w.add("n2", stack.RoleWorker)
	a.HandleHTTP(http.HandlerFunc(whoami))
	var kept []net.Conn
	for range 4 {
		c, err := stranger(a.Addr().String(), ProtoHTTP)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, c)
		defer c.Close()
	}
	for strangersOf(a) < 4 { // counted after the handshake
		time.Sleep(time.Millisecond)
	}
	if !refused(stranger(a.Addr().String(), ProtoHTTP)) {
		t.Error("a fifth of one source is let in")
	}
	if _, err := get(t.Context(), b.HTTPClient("n1"), "http://n1/"); err != nil {
		t.Errorf("a node is kept out: %v", err)
	}
	for _, c := range kept[:3] {
		c.Close()
	}
	for strangersOf(a) > 1 {
		time.Sleep(time.Millisecond)
	}
	c := tlsClient(a.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ProtoHTTP}}, time.Minute)
	if _, err := get(t.Context(), c, "http://x"+RootPath); err != nil {
		t.Errorf("after one left: %v", err)
	}
}

func strangersOf(n *node) int {
	n.strangers.mu.Lock()
	defer n.strangers.mu.Unlock()
	return n.strangers.all
}

// TestOneNodeHasSoManyConnections: a node that opens them without end runs into
// its own bound, and the others do not notice.
func TestOneNodeHasSoManyConnections(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager, func(c *Config) { c.MaxPerNode = 4 })
	echo(t, a.GRPC())
	greedy, other := w.add("n2", stack.RoleWorker), w.add("n3", stack.RoleWorker)
	var open []net.Conn
	for range 4 {
		c := mustDial(t, greedy.Port, "n1", ProtoGRPC)
		if _, err := greeting(c); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		if !refused(greedy.Dial(ctx, "n1", ProtoGRPC)) {
			t.Error("one more is let in")
		}
	}
	if _, err := greeting(mustDial(t, other.Port, "n1", ProtoGRPC)); err != nil {
		t.Errorf("another node: %v", err)
	}
	open[0].Close()
	for { // the other end notices in its own time
		c, err := greedy.Dial(ctx, "n1", ProtoGRPC)
		if err == nil {
			_, err = greeting(c)
			c.Close()
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("there is no room again")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.made["n2"] > 4 || a.made["n3"] != 1 {
		t.Errorf("%v", a.made)
	}
}

// twoPages is a book that was lied to about where a node is.
type twoPages struct {
	*world
	lie string
}

func (b twoPages) Addr(string) (string, error) { return b.lie, nil }
func (b twoPages) Others(node string) []string {
	addr, err := b.world.Addr(node)
	if err != nil {
		return nil
	}
	return []string{addr}
}

// TestALieAboutAnAddressKeepsNobodyApart: neither one that leads to another
// node, nor one that leads nowhere.
func TestALieAboutAnAddressKeepsNobodyApart(t *testing.T) {
	w := newWorld(t)
	a, liar := w.add("n1", stack.RoleManager), w.add("liar", stack.RoleWorker)
	echo(t, a.GRPC())
	hole, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	for what, lie := range map[string]string{"another node": liar.Addr().String(), "nobody": "127.0.0.1:1", "silence": hole.Addr().String()} {
		b := w.add("asks"+strings.Fields(what)[0], stack.RoleManager, func(c *Config) { c.Book = twoPages{w, lie} })
		if got, err := greeting(mustDial(t, b.Port, "n1", ProtoGRPC)); err != nil || !strings.HasPrefix(got, b.id) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}
