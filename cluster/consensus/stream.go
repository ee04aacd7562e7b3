package consensus

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Stream carries bytes between managers. Nodes are dialled by ID; who may
// connect is the stream's to decide.
type Stream interface {
	Accept() (net.Conn, error)
	Close() error
	Addr() net.Addr
	Dial(node string, timeout time.Duration) (net.Conn, error)
}

// layer is a Stream as raft wants it. It answers this node's own ID in memory,
// so that a node that nobody else can reach can talk to itself, and knows its
// connections, so that it can fall silent at once.
type layer struct {
	id    string
	inner Stream
	in    chan accepted
	done  chan struct{}

	mu     sync.Mutex
	conns  map[*conn]bool // guarded by mu; open ones
	muted  bool           // guarded by mu
	closed bool           // guarded by mu
}

type accepted struct {
	conn net.Conn
	err  error
}

type nodeAddr string

func (nodeAddr) Network() string  { return "node" }
func (a nodeAddr) String() string { return string(a) }

var (
	errMuted  = errors.New("this manager keeps silent until its disk answers")
	errClosed = errors.New("the connections are closed")
)

func newLayer(id string, inner Stream) *layer {
	l := &layer{id: id, inner: inner, in: make(chan accepted), done: make(chan struct{}), conns: map[*conn]bool{}}
	go l.accept() // until Close closes inner
	return l
}

func (l *layer) accept() {
	for {
		c, err := l.inner.Accept()
		if !l.offer(accepted{c, err}) {
			if c != nil {
				c.Close()
			}
			return
		}
	}
}

func (l *layer) offer(a accepted) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	select {
	case l.in <- a:
		return true
	case <-l.done:
		return false
	}
}

// Accept returns the next connection from another manager.
func (l *layer) Accept() (net.Conn, error) {
	select {
	case a := <-l.in:
		if a.err != nil {
			return nil, a.err
		}
		return l.keep(a.conn)
	case <-l.done:
		return nil, errClosed
	}
}

// Addr is the node's ID.
func (l *layer) Addr() net.Addr { return nodeAddr(l.id) }

// Dial connects to a node, and gives up when the layer is cut.
func (l *layer) Dial(node raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if string(node) == l.id {
		near, far := net.Pipe()
		go func() {
			if !l.offer(accepted{far, nil}) {
				far.Close()
			}
		}()
		return l.keep(near)
	}
	if err := l.usable(); err != nil {
		return nil, err
	}
	dialled := make(chan accepted, 1)
	go func() {
		c, err := l.inner.Dial(string(node), timeout)
		dialled <- accepted{c, err}
	}()
	select {
	case a := <-dialled:
		if a.err != nil {
			return nil, a.err
		}
		return l.keep(a.conn)
	case <-l.done:
		go func() {
			if a := <-dialled; a.conn != nil {
				a.conn.Close()
			}
		}()
		return nil, errClosed
	}
}

func (l *layer) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errClosed
	case l.muted:
		return errMuted
	}
	return nil
}

// keep remembers an open connection; one that comes while the layer is silent is closed.
func (l *layer) keep(c net.Conn) (net.Conn, error) {
	k := &conn{Conn: c, layer: l}
	l.mu.Lock()
	if !l.closed && !l.muted {
		l.conns[k] = true
		l.mu.Unlock()
		return k, nil
	}
	l.mu.Unlock()
	c.Close()
	return k, nil // its first use says that it is closed
}

// mute closes all connections and makes no new ones: for the others this
// manager is dead, until it is called with false.
func (l *layer) mute(on bool) {
	if on {
		l.silence(func() { l.muted = true })
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = false
}

// cut is mute for good.
func (l *layer) cut() {
	l.silence(func() {
		if !l.closed {
			l.closed = true
			close(l.done)
		}
	})
}

func (l *layer) silence(set func()) {
	l.mu.Lock()
	set()
	var open []*conn
	for c := range l.conns {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}

// Close cuts and closes the stream below.
func (l *layer) Close() error {
	l.cut()
	return l.inner.Close()
}

type conn struct {
	net.Conn
	layer *layer
}

func (c *conn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
