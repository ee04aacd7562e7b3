package port

import (
	"errors"
	"net"
	"sync"
	"time"
)

// door leads the connections of one protocol to whoever serves it at the time:
// a manager's log is opened and closed as the node is promoted and demoted.
type door struct {
	mu     sync.Mutex
	closed bool
	inside *acceptor // nil: nobody serves
}

var errNobody = errors.New("this protocol is not served here")

func newDoor() *door { return &door{} }

// open makes a new acceptor; the one before gets no more connections.
func (d *door) open(addr func() net.Addr) *acceptor {
	a := &acceptor{door: d, addr: addr, conns: make(chan *Conn), done: make(chan struct{})}
	d.mu.Lock()
	before, closed := d.inside, d.closed
	d.inside = a
	d.mu.Unlock()
	if before != nil {
		before.Close()
	}
	if closed {
		a.Close()
	}
	return a
}

// shut closes the door for good.
func (d *door) shut() {
	d.mu.Lock()
	a := d.inside
	d.closed = true
	d.mu.Unlock()
	if a != nil {
		a.Close()
	}
}

// deliver hands c to Accept. It owns c and closes it when nobody takes it in time.
func (d *door) deliver(c *Conn, wait time.Duration) error {
	d.mu.Lock()
	a := d.inside
	d.mu.Unlock()
	if a == nil {
		c.Close()
		return errNobody
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case a.conns <- c:
		return nil
	case <-a.done:
	case <-c.port.ctx.Done():
	case <-t.C:
	}
	c.Close()
	return errNobody
}

// acceptor is the net.Listener behind a door.
type acceptor struct {
	door  *door
	addr  func() net.Addr
	conns chan *Conn // never closed
	done  chan struct{}
	once  sync.Once
}

// Accept waits for the next connection; it is a *Conn.
func (a *acceptor) Accept() (net.Conn, error) {
	select {
	case <-a.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-a.conns:
		return c, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Accepted connections stay.
func (a *acceptor) Close() error {
	a.once.Do(func() {
		close(a.done)
		a.door.mu.Lock()
		defer a.door.mu.Unlock()
		if a.door.inside == a {
			a.door.inside = nil
		}
	})
	return nil
}

func (a *acceptor) Addr() net.Addr { return a.addr() }

// nodeAddr is the address of a node as raft knows it: its ID.
type nodeAddr string

func (nodeAddr) Network() string  { return "dhow" }
func (a nodeAddr) String() string { return string(a) }
