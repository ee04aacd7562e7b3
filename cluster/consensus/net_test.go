package consensus

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// network is a switch in memory. A link that is cut in one direction loses no
// byte: they wait, as they would in TCP, until it is healed or an end is closed.
type network struct {
	mu      sync.Mutex
	nodes   map[string]*endpoint   // guarded by mu; those that listen
	cuts    map[[2]string]bool     // guarded by mu; from, to
	delay   time.Duration          // guarded by mu; of every byte
	pipes   map[string][]*pipeConn // guarded by mu; by node that has the end
	changed chan struct{}          // guarded by mu; closed at every change
}

func newNetwork() *network {
	return &network{nodes: map[string]*endpoint{}, cuts: map[[2]string]bool{}, pipes: map[string][]*pipeConn{}, changed: make(chan struct{})}
}

func (n *network) update(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
	close(n.changed)
	n.changed = make(chan struct{})
}

// cut stops what from sends to to.
func (n *network) cut(from, to string) { n.update(func() { n.cuts[[2]string{from, to}] = true }) }

// split cuts all links between two groups.
func (n *network) split(a, b []string) {
	n.update(func() {
		for _, x := range a {
			for _, y := range b {
				n.cuts[[2]string{x, y}], n.cuts[[2]string{y, x}] = true, true
			}
		}
	})
}

func (n *network) heal() { n.update(func() { clear(n.cuts) }) }

func (n *network) slow(d time.Duration) { n.update(func() { n.delay = d }) }

// open returns the links' state and a channel that tells when to ask again.
func (n *network) open(from, to string) (bool, time.Duration, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cuts[[2]string{from, to}], n.delay, n.changed
}

// kill closes what a process has open when it dies.
func (n *network) kill(id string) {
	n.mu.Lock()
	e, pipes := n.nodes[id], n.pipes[id]
	delete(n.pipes, id)
	n.mu.Unlock()
	if e != nil {
		e.Close()
	}
	for _, p := range pipes {
		p.Close()
	}
}

// listen gives a node its stream.
func (n *network) listen(id string) *endpoint {
	e := &endpoint{net: n, id: id, in: make(chan net.Conn), done: make(chan struct{})}
	n.update(func() { n.nodes[id] = e })
	return e
}

type endpoint struct {
	net  *network
	id   string
	in   chan net.Conn
	once sync.Once
	done chan struct{}
}

func (e *endpoint) Accept() (net.Conn, error) {
	select {
	case c := <-e.in:
		return c, nil
	case <-e.done:
		return nil, net.ErrClosed
	}
}

func (e *endpoint) Close() error {
	e.once.Do(func() {
		close(e.done)
		e.net.update(func() {
			if e.net.nodes[e.id] == e {
				delete(e.net.nodes, e.id)
			}
		})
	})
	return nil
}

func (e *endpoint) Addr() net.Addr { return nodeAddr(e.id) }

func (e *endpoint) Dial(node string, timeout time.Duration) (net.Conn, error) {
	limit := time.After(timeout)
	for {
		there, _, changed := e.net.open(e.id, node)
		back, _, _ := e.net.open(node, e.id)
		if there && back {
			break
		}
		select {
		case <-changed:
		case <-limit:
			return nil, os.ErrDeadlineExceeded
		}
	}
	e.net.mu.Lock()
	peer := e.net.nodes[node]
	near, far := pipe(e.net, e.id, node)
	e.net.pipes[e.id] = append(e.net.pipes[e.id], near)
	e.net.pipes[node] = append(e.net.pipes[node], far)
	e.net.mu.Unlock()
	if peer == nil {
		return nil, errors.New("connection refused")
	}
	select {
	case peer.in <- far:
		return near, nil
	case <-peer.done:
		return nil, errors.New("connection refused")
	case <-limit:
		return nil, os.ErrDeadlineExceeded
	}
}

// stream is one direction of a connection.
type stream struct {
	net      *network
	from, to string
	mu       sync.Mutex
	chunks   []chunk       // guarded by mu
	ended    bool          // guarded by mu; no more will be written
	wake     chan struct{} // guarded by mu; closed at every change
}

type chunk struct {
	data []byte
	at   time.Time // when it was written
}

func (s *stream) update(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.wake)
	s.wake = make(chan struct{})
}

// take reads what has arrived; when nothing has, it returns what to wait for.
func (s *stream) take(b []byte) (n int, wake, changed <-chan struct{}, after time.Duration, err error) {
	open, delay, changed := s.net.open(s.from, s.to)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !open {
		return 0, s.wake, changed, time.Hour, nil
	}
	if len(s.chunks) == 0 {
		if s.ended {
			err = io.EOF
		}
		return 0, s.wake, changed, time.Hour, err
	}
	c := &s.chunks[0]
	if after = time.Until(c.at.Add(delay)); after > 0 {
		return 0, s.wake, changed, after, nil
	}
	n = copy(b, c.data)
	if c.data = c.data[n:]; len(c.data) == 0 {
		s.chunks = s.chunks[1:]
	}
	return n, s.wake, changed, 0, nil
}

type pipeConn struct {
	in, out  *stream
	once     sync.Once
	closed   chan struct{}
	mu       sync.Mutex
	deadline time.Time // guarded by mu
}

func pipe(n *network, a, b string) (near, far *pipeConn) {
	ab := &stream{net: n, from: a, to: b, wake: make(chan struct{})}
	ba := &stream{net: n, from: b, to: a, wake: make(chan struct{})}
	return &pipeConn{in: ba, out: ab, closed: make(chan struct{})}, &pipeConn{in: ab, out: ba, closed: make(chan struct{})}
}

func (p *pipeConn) Read(b []byte) (int, error) {
	for {
		select {
		case <-p.closed:
			return 0, net.ErrClosed
		default:
		}
		n, wake, changed, after, err := p.in.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		p.mu.Lock()
		deadline := p.deadline
		p.mu.Unlock()
		if !deadline.IsZero() {
			if left := time.Until(deadline); left <= 0 {
				return 0, os.ErrDeadlineExceeded
			} else {
				after = min(after, left)
			}
		}
		t := time.NewTimer(after)
		select {
		case <-wake:
		case <-changed:
		case <-t.C:
		case <-p.closed:
		}
		t.Stop()
	}
}

func (p *pipeConn) Write(b []byte) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	ended := false
	p.out.update(func() {
		if ended = p.out.ended; !ended {
			p.out.chunks = append(p.out.chunks, chunk{append([]byte(nil), b...), time.Now()})
		}
	})
	if ended {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func (p *pipeConn) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.out.update(func() { p.out.ended = true })
		p.in.update(func() { p.in.ended = true }) // what the other still writes is lost
	})
	return nil
}

func (p *pipeConn) LocalAddr() net.Addr  { return nodeAddr(p.out.from) }
func (p *pipeConn) RemoteAddr() net.Addr { return nodeAddr(p.out.to) }

func (p *pipeConn) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	return nil
}

func (p *pipeConn) SetReadDeadline(t time.Time) error { return p.SetDeadline(t) }
func (p *pipeConn) SetWriteDeadline(time.Time) error  { return nil } // writing does not wait
