package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/stack"
)

// world is a cluster of ports on loopback.
type world struct {
	t  testing.TB
	mu sync.Mutex
	// what follows is guarded by mu
	ca      identity.CA
	addrs   map[string]string
	removed map[string]bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ca, err := identity.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	checkLeaks(t)
	return &world{t: t, ca: ca, addrs: map[string]string{}, removed: map[string]bool{}}
}

// checkLeaks fails the test when goroutines are left after all cleanups that come later.
func checkLeaks(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		end := time.Now().Add(time.Minute)
		for runtime.NumGoroutine() > before && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
		}
		if n := runtime.NumGoroutine(); n > before {
			buf := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
		}
	})
}

func (w *world) Addr(node string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.addrs[node]; ok {
		return a, nil
	}
	return "", errors.New("its address is not known")
}

func (w *world) authorize(p identity.Peer, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed[p.Node] {
		return fmt.Errorf("node %s was removed", p.Node)
	}
	return nil
}

func (w *world) remove(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed[node] = true
}

func (w *world) put(node, addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[node] = addr
}

func (w *world) authority() identity.CA {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ca
}

func (w *world) setAuthority(ca identity.CA) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ca = ca
}

// node is one port with its identity.
type node struct {
	*Port
	id    string
	role  stack.Role
	store *identity.Store
	w     *world
}

// add makes a node that listens. edit may change its configuration.
func (w *world) add(id string, role stack.Role, edit ...func(*Config)) *node {
	w.t.Helper()
	store, err := identity.OpenStore(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{id: id, role: role, store: store, w: w}
	n.renew(90*24*time.Hour, time.Now())
	cfg := Config{Node: id, Identity: store, Book: w, Authorize: w.authorize}
	for _, e := range edit {
		e(&cfg)
	}
	n.Port = New(cfg)
	w.t.Cleanup(func() { n.Close() })
	if err := n.Listen("127.0.0.1:0"); err != nil {
		w.t.Fatal(err)
	}
	w.put(id, n.Addr().String())
	return n
}

// renew gives n a new certificate from the authority of now.
func (n *node) renew(validity time.Duration, now time.Time) {
	n.w.t.Helper()
	csr, err := n.store.NewCSR()
	if err != nil {
		n.w.t.Fatal(err)
	}
	ca := n.w.authority()
	cert, err := ca.Sign(csr, identity.Peer{Node: n.id, Cluster: "c1", Role: n.role}, validity, now)
	if err != nil {
		n.w.t.Fatal(err)
	}
	if err := n.store.Install(cert, ca.Roots); err != nil {
		n.w.t.Fatal(err)
	}
}

// echo serves l: it sends back what it gets, after a line that names the peer.
func echo(t testing.TB, l net.Listener) {
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer c.Close()
				fmt.Fprintf(c, "%s %s\n", c.(*Conn).Node(), c.(*Conn).Role())
				io.Copy(c, c)
				c.(*Conn).CloseWrite()
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); wg.Wait() })
}

func mustDial(t testing.TB, p *Port, node, proto string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := p.Dial(ctx, node, proto)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// talk sends words over an echo connection and checks what comes back.
func talk(c net.Conn, words string) error {
	c.SetDeadline(time.Now().Add(time.Minute))
	defer c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, words); err != nil {
		return err
	}
	buf := make([]byte, len(words))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != words {
		return fmt.Errorf("%q came back as %q", words, buf)
	}
	return nil
}

// greeting is the first line of an echo connection.
func greeting(c net.Conn) (string, error) {
	c.SetReadDeadline(time.Now().Add(time.Minute))
	defer c.SetReadDeadline(time.Time{})
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// whoami answers with who asks.
func whoami(w http.ResponseWriter, r *http.Request) {
	p, ok := PeerOf(r)
	fmt.Fprintf(w, "%s %s %v", p.Node, p.Role, ok)
}

func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	return do(c, req)
}

func do(c *http.Client, req *http.Request) (string, error) {
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, b)
	}
	return string(b), err
}
