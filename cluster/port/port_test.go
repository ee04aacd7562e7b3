package port

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/stack"
)

// serveAll answers all three protocols on n.
func serveAll(t testing.TB, p *Port) {
	t.Helper()
	echo(t, p.Raft())
	g := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	l := p.GRPC()
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
	p.HandleHTTP(http.HandlerFunc(whoami))
}

// useAll speaks all three protocols from p to the node.
func useAll(t *testing.T, p *Port, to, self string) {
	t.Helper()
	c, err := p.Raft().Dial(to, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if line, err := greeting(c); err != nil || line != self {
		t.Fatalf("raft: %q, %v; want %q", line, err, self)
	}
	if err := talk(c, "entries"); err != nil {
		t.Fatal(err)
	}
	useGRPC(t, p, to)
	got, err := get(t.Context(), p.HTTPClient(to), "http://"+to+"/x")
	if err != nil || got != self+" true" {
		t.Fatalf("http: %q, %v", got, err)
	}
}

func useGRPC(t *testing.T, p *Port, to string) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+to,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the port's connections are TLS already
		grpc.WithContextDialer(func(ctx context.Context, node string) (net.Conn, error) { return p.Dial(ctx, node, ProtoGRPC) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	res, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || res.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("grpc: %v, %v", res, err)
	}
}

func TestThreeProtocolsOnOnePort(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n-1", stack.RoleManager), w.add("N_2", stack.RoleManager)
	serveAll(t, b.Port)
	useAll(t, a.Port, "N_2", "n-1 manager")
}

func TestANodeAloneNeedsNoListenerAndNoCertificate(t *testing.T) {
	checkLeaks(t)
	store, err := identity.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(identity.Peer, string) error { return errors.New("not in the list") }
	p := New(Config{Node: "n1", Identity: store, Authorize: refuse})
	t.Cleanup(func() { p.Close() })
	serveAll(t, p)
	c := mustDial(t, p, "n1", ProtoRaft)
	if line, err := greeting(c); err != nil || line != "n1 manager" {
		t.Fatalf("%q, %v", line, err)
	}
	useGRPC(t, p, "n1")
	got, err := get(t.Context(), p.HTTPClient("n1"), "http://n1/x")
	if err != nil || got != "n1 manager true" {
		t.Fatalf("%q, %v", got, err)
	}
	if p.Raft().Addr().String() != "n1" || p.Addr() != nil {
		t.Fatal("addresses")
	}
	if _, err := p.Dial(t.Context(), "n2", ProtoGRPC); !errors.Is(err, identity.ErrNoCertificate) {
		t.Fatalf("another node: %v", err)
	}
	if err := p.Listen("127.0.0.1:0"); !errors.Is(err, identity.ErrNoCertificate) {
		t.Fatalf("listen: %v", err)
	}
}

func TestDialingAProtocolThatNobodyServes(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	if _, err := a.Dial(t.Context(), "n1", ProtoRaft); !errors.Is(err, errNobody) {
		t.Fatalf("oneself: %v", err)
	}
	if _, err := a.Dial(t.Context(), "n1", "spdy"); err == nil {
		t.Fatal("an unknown protocol")
	}
	c := mustDial(t, a.Port, "n2", ProtoRaft)
	if _, err := greeting(c); err == nil {
		t.Fatal("somebody answers")
	}
	// Promoted, demoted, promoted: the log's door opens and closes.
	s := b.Raft()
	s.Close()
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	echo(t, b.Raft())
	if line, err := greeting(mustDial(t, a.Port, "n2", ProtoRaft)); err != nil || line != "n1 manager" {
		t.Fatalf("%q, %v", line, err)
	}
}

func TestUpgradeWithHalfClose(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	upper := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		rw.Flush()
		in, err := io.ReadAll(rw) // until the client's half-close
		if err != nil {
			t.Error(err)
		}
		io.WriteString(c, strings.ToUpper(string(in)))
	})
	a.HandleHTTP(upper)
	b.HandleHTTP(upper)
	for _, to := range []string{"n1", "n2"} { // itself, and the other
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+to+"/attach", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
		res, err := a.HTTPClient(to).Do(req)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %v %v", to, res, err)
		}
		body := res.Body.(io.ReadWriteCloser)
		io.WriteString(body, "typed")
		if err := body.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(body)
		if err != nil || string(out) != "TYPED" {
			t.Fatalf("%s: %q, %v", to, out, err)
		}
		body.Close()
	}
}

func TestHTTPKeepsItsConnections(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	b.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	first, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/"); err != nil || again != first {
			t.Fatalf("%s, then %s, %v", first, again, err)
		}
	}
	a.CloseIdle()
	if again, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/"); err != nil || again == first {
		t.Fatalf("after CloseIdle: %s, %v", again, err)
	}
}

func TestANodeWithAnotherAddressIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager), w.add("n3", stack.RoleWorker)
	b.HandleHTTP(http.HandlerFunc(whoami))
	c.HandleHTTP(http.HandlerFunc(whoami))
	old := b.Addr().String()
	if _, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/"); err != nil {
		t.Fatal(err)
	}
	if err := b.CloseListener(); err != nil {
		t.Fatal(err)
	}
	b.Drop("n1")
	if err := b.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := b.Listen("127.0.0.1:0"); err == nil {
		t.Fatal("listens twice")
	}
	w.put("n2", b.Addr().String())
	if _, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/"); err != nil {
		t.Fatal(err)
	}
	// Its old address went to another node of the cluster.
	if err := c.CloseListener(); err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(old); err != nil {
		t.Fatal(err)
	}
	w.put("n2", old)
	if _, err := a.Dial(t.Context(), "n2", ProtoHTTP); !errors.Is(err, identity.ErrWrongNode) || !strings.Contains(err.Error(), "n3") {
		t.Fatalf("the wrong node: %v", err)
	}
}

func TestADeadNodeFailsSoonAndByName(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager, func(c *Config) { c.DialTimeout = 200 * time.Millisecond })
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	w.put("mute", mute.Addr().String())
	w.put("gone", "127.0.0.1:1")
	for _, id := range []string{"mute", "gone", "unknown"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // longer than any dialling
		_, err := get(ctx, a.HTTPClient(id), "http://"+id+"/")
		if err == nil || !strings.Contains(err.Error(), "node "+id) || ctx.Err() != nil {
			t.Errorf("%s: %v", id, err)
		}
		cancel()
	}
	if _, err := a.HTTPClient("").Get("http://x/"); err == nil {
		t.Error("a client of no node")
	}
}

func TestCloseWaitsForHandlersAndEndsThem(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	echo(t, b.Raft())
	began, ended := make(chan struct{}), make(chan struct{})
	b.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	}))
	stream := mustDial(t, a.Port, "n2", ProtoRaft)
	if _, err := greeting(stream); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := get(context.Background(), a.HTTPClient("n2"), "http://n2/")
		answered <- err
	}()
	<-began
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Fatal("Close did not wait for the handler")
	}
	if err := <-answered; err == nil {
		t.Fatal("the request has an answer")
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Fatal("a stream outlives Close")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(t.Context(), "n1", ProtoHTTP); err == nil {
		t.Fatal("dials after Close")
	}
	if _, err := b.Dial(t.Context(), "n2", ProtoHTTP); err == nil {
		t.Fatal("dials itself after Close")
	}
}

func TestAHandlerMayStreamBothWays(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("n1", stack.RoleManager), w.add("n2", stack.RoleManager)
	b.HandleHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			fmt.Fprintln(w, strings.ToUpper(in.Text()))
			rc.Flush()
		}
	}))
	r, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://n2/", r)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(pw, "one\n")
	res, err := a.HTTPClient("n2").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	out := bufio.NewScanner(res.Body)
	for _, word := range []string{"ONE", "TWO"} {
		if !out.Scan() || out.Text() != word {
			t.Fatalf("%q, %v", out.Text(), out.Err())
		}
		if word == "ONE" {
			io.WriteString(pw, "two\n")
		}
	}
	pw.Close()
	if out.Scan() {
		t.Fatalf("and %q", out.Text())
	}
}

// TestABurstOfRequestsPasses: more at once than one address may shake hands.
func TestABurstOfRequestsPasses(t *testing.T) {
	w := newWorld(t)
	a := w.add("n1", stack.RoleManager, func(c *Config) { c.DialTimeout = 20 * time.Second })
	b := w.add("n2", stack.RoleManager)
	b.HandleHTTP(http.HandlerFunc(whoami))
	var wg sync.WaitGroup
	for range 400 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := get(t.Context(), a.HTTPClient("n2"), "http://n2/"); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	// A request that got another's connection leaves its own dial to end by itself.
	end := time.Now().Add(20 * time.Second)
	for lanesOf(a) > 0 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	if n := lanesOf(a); n != 0 {
		t.Errorf("%d lanes are left", n)
	}
}

func lanesOf(n *node) int {
	n.lanes.mu.Lock()
	defer n.lanes.mu.Unlock()
	return len(n.lanes.nodes)
}
