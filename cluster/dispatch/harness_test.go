package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// fakeCore is a state that one or several managers share.
type fakeCore struct {
	mu       sync.Mutex
	index    uint64
	change   chan struct{}
	tasks    map[string][]stack.Assignment // by node
	view     View
	log      []Touched // one per change; index i+1
	verify   func(context.Context) error
	report   func(context.Context, string, []stack.TaskReport) error
	hello    func(context.Context, string, Description) error
	statuses map[string]stack.TaskStatus
	hellos   map[string]Description
	calls    int // of Assignments

	topics      map[string][]string         // by node
	directories map[string]*stack.Directory // by topic
	asked       int                         // keys that Directory was asked for
}

func newCore() *fakeCore {
	return &fakeCore{change: make(chan struct{}), tasks: map[string][]stack.Assignment{}, statuses: map[string]stack.TaskStatus{}, hellos: map[string]Description{},
		topics: map[string][]string{}, directories: map[string]*stack.Directory{}}
}

func (c *fakeCore) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change
}

func (c *fakeCore) Index() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index
}

func (c *fakeCore) Touched(since uint64) Touched {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Touched{Index: c.index, Nodes: map[string][]string{}, Topics: map[string][]string{}}
	if since > c.index {
		out.All = true
		return out
	}
	for _, t := range c.log[since:] {
		out.All, out.View = out.All || t.All, out.View || t.View
		for n, ids := range t.Nodes {
			if was, ok := out.Nodes[n]; ids == nil || ok && was == nil {
				out.Nodes[n] = nil
			} else {
				out.Nodes[n] = append(was, ids...)
			}
		}
		for topic, keys := range t.Topics {
			if was, ok := out.Topics[topic]; keys == nil || ok && was == nil {
				out.Topics[topic] = nil
			} else {
				out.Topics[topic] = append(was, keys...)
			}
		}
	}
	return out
}

func (c *fakeCore) Assignments(node string) []stack.Assignment {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return slices.Clone(c.tasks[node])
}

func (c *fakeCore) Topics(node string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.topics[node])
}

func (c *fakeCore) Directory(topic string, keys []string) *stack.Directory {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked += max(len(keys), 1)
	out := &stack.Directory{}
	for _, it := range records(c.directories[topic]) {
		if keys != nil && !slices.Contains(keys, it.key) {
			continue
		}
		switch r := it.record.(type) {
		case *stack.Endpoint:
			out.Endpoints = append(out.Endpoints, *r)
		case *stack.ServiceAddress:
			out.Services = append(out.Services, *r)
		case *stack.Published:
			out.Published = append(out.Published, *r)
		}
	}
	return out
}

// file makes a directory what it is to be, touching these keys; nil: all.
func (c *fakeCore) file(topic string, d *stack.Directory, keys ...string) uint64 {
	return c.do(Touched{Topics: map[string][]string{topic: keys}}, func() { c.directories[topic] = d })
}

// subscribe gives a node its topics.
func (c *fakeCore) subscribe(node string, topics ...string) uint64 {
	return c.do(Touched{Nodes: map[string][]string{node: {}}}, func() { c.topics[node] = topics })
}

func (c *fakeCore) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view
	v.Nodes, v.Networks = slices.Clone(v.Nodes), slices.Clone(v.Networks)
	return v
}

func (c *fakeCore) Verify(ctx context.Context) error {
	c.mu.Lock()
	f := c.verify
	c.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (c *fakeCore) Hello(ctx context.Context, node string, d Description) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hello != nil {
		return c.hello(ctx, node, d)
	}
	c.hellos[node] = d
	return nil
}

func (c *fakeCore) Report(ctx context.Context, node string, reports []stack.TaskReport) error {
	c.mu.Lock()
	f := c.report
	c.mu.Unlock()
	if f != nil {
		if err := f(ctx, node, reports); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range reports {
		c.statuses[r.Task] = r.Status
	}
	return nil
}

// do makes one change.
func (c *fakeCore) do(t Touched, f func()) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.index++
	t.Index = c.index
	c.log = append(c.log, t)
	close(c.change)
	c.change = make(chan struct{})
	return c.index
}

// place gives a node exactly these tasks.
func (c *fakeCore) place(node string, list ...stack.Assignment) uint64 {
	return c.do(Touched{Nodes: map[string][]string{node: nil}}, func() { c.tasks[node] = list })
}

// setView replaces the view.
func (c *fakeCore) setView(v View) uint64 {
	return c.do(Touched{View: true}, func() { c.view = v })
}

// task makes an assignment of service web at a version.
func task(id string, svc *stack.Service, st *stack.Stack) stack.Assignment {
	return stack.Assignment{Task: stack.Task{ID: id, Stack: st.Name, Service: svc.Name, Slot: 1, Desired: stack.DesiredRun, Created: 1}, Service: svc, Stack: st, Hash: "h"}
}

// sent is a part of an update as it arrives.
func sent(t interface {
	Helper()
	Fatal(args ...any)
}, p update) (u update) {
	t.Helper()
	data, err := json.Marshal(p)
	if err == nil {
		err = json.Unmarshal(data, &u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// named is a connection that says who is at its other end.
type named struct {
	net.Conn
	node string
}

// world is managers and the ways to them.
type world struct {
	t   *testing.T
	log *slog.Logger

	mu     sync.Mutex
	hosts  map[string]*host
	conns  map[*named]string
	cut    map[string]bool // hosts that cannot be reached
	leader string
	change chan struct{}
}

type host struct {
	id     string
	server *Server
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	served chan error
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.accept:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}
func (h *host) Close() error   { h.once.Do(func() { close(h.closed) }); return nil }
func (h *host) Addr() net.Addr { return &net.UnixAddr{Name: h.id, Net: "unix"} }

func newWorld(t *testing.T, managers ...string) *world {
	w := &world{t: t, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), hosts: map[string]*host{}, conns: map[*named]string{}, cut: map[string]bool{}, change: make(chan struct{})}
	for _, m := range managers {
		w.add(m, nil)
	}
	return w
}

func (w *world) add(id string, terms func(int) Terms) *host {
	h := &host{id: id, accept: make(chan net.Conn), closed: make(chan struct{}), served: make(chan error, 1)}
	h.server = NewServer(ServerConfig{
		Node: id, Log: w.log.With("server", id), Terms: terms,
		Leader:        func() string { w.mu.Lock(); defer w.mu.Unlock(); return w.leader },
		LeaderChanged: func() <-chan struct{} { w.mu.Lock(); defer w.mu.Unlock(); return w.change },
		Peer:          func(c net.Conn) (string, bool) { n, ok := c.(*named); return n.node, ok },
	})
	w.mu.Lock()
	w.hosts[id] = h
	w.mu.Unlock()
	go func() { h.served <- h.server.Serve(h) }()
	w.t.Cleanup(func() {
		h.server.Stop()
		if err := <-h.served; err != nil {
			w.t.Error(err)
		}
	})
	return h
}

// elect makes a manager known as the leader; "": none is.
func (w *world) elect(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = id
	close(w.change)
	w.change = make(chan struct{})
}

// lead lets a manager lead until the returned function is called.
func (w *world) lead(id string, core Core) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := w.hosts[id].server
	go func() { done <- srv.Lead(ctx, core) }()
	w.elect(id)
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	w.t.Cleanup(func() { stop() })
	return stop
}

// dial connects from a node to a manager.
func (w *world) dial(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		w.mu.Lock()
		h, cut := w.hosts[to], w.cut[to] || w.cut[from]
		w.mu.Unlock()
		if h == nil || cut {
			return nil, fmt.Errorf("no way to %s", to)
		}
		a, b, err := pair()
		if err != nil {
			return nil, err
		}
		far := &named{b, from}
		w.mu.Lock()
		w.conns[far] = to
		w.mu.Unlock()
		select {
		case h.accept <- far:
			return a, nil
		case <-h.closed:
			err = errors.New("connection refused")
		case <-ctx.Done():
			err = ctx.Err()
		}
		return nil, errors.Join(err, a.Close(), b.Close())
	}
}

// sever cuts a host off: connections break and none can be made.
func (w *world) sever(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[id] = true
	for c, to := range w.conns {
		if to == id || c.node == id {
			c.Close()
			delete(w.conns, c)
		}
	}
}

// pair is a connection within the kernel: it has buffers, as a real one.
func pair() (net.Conn, net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var out [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if out[i], err = net.FileConn(f); err != nil {
			return nil, nil, err
		}
		f.Close()
	}
	return out[0], out[1], nil
}

// client starts a node's client.
func (w *world) client(id string, change func(*ClientConfig)) *Client {
	cfg := ClientConfig{
		Node: id, Cluster: "c1", Dial: w.dial(id), Log: w.log.With("client", id),
		Managers: func() []string {
			w.mu.Lock()
			defer w.mu.Unlock()
			var out []string
			for m := range w.hosts {
				out = append(out, m)
			}
			slices.Sort(out)
			return out
		},
		Describe: func() Description { return Description{Node: stack.Node{Hostname: id}} },
	}
	if change != nil {
		change(&cfg)
	}
	c := NewClient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return c
}

// patience is longer than anything takes, also on a busy machine.
const patience = time.Minute

// eventually waits until ok, woken by changes of any kind.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// ids of a client's tasks.
func ids(c *Client) string {
	var out []string
	for _, a := range c.Assignments(c.cfg.Node) {
		out = append(out, a.Task.ID)
	}
	return strings.Join(out, " ")
}
