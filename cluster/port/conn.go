package port

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/stack"
)

// Conn is a connection whose other end is known.
type Conn struct {
	net.Conn          // *tls.Conn, or a socket when local
	raw      net.Conn // under TLS
	peer     identity.Peer
	stranger bool // showed no certificate
	outcast  bool // its certificate is good, but Authorize refuses it
	local    bool // with the own node
	inbound  bool // the other end has made it; never of a local one
	proto    string
	port     *Port
	watch    *time.Timer // nil: not looked after
	done     atomic.Bool // released
}

// Peer is who is at the other end; the zero Peer: it showed no certificate.
func (c *Conn) Peer() identity.Peer { return c.peer }

// Node is the ID of the other end, "" when it showed no certificate.
func (c *Conn) Node() string { return c.peer.Node }

// Role of the other end, as its certificate says.
func (c *Conn) Role() stack.Role { return c.peer.Role }

// NetConn is the connection below: TLS, or a socket when local. Who waits for
// the other side to be gone looks for the socket.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends what this side sends; the other side goes on.
func (c *Conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close ends the connection. What the other kernel has not taken although it was
// sent again goes with it, unless it is an answer: delivered once the network is
// well, it would be a request that everybody has given up.
func (c *Conn) Close() error {
	c.release()
	if !c.inbound && c.drop() {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

// abort ends the connection without a last word: TLS's could wait for a peer that is gone.
func (c *Conn) abort() {
	c.release()
	c.drop()
	c.raw.Close()
}

// drop has the kernel forget what it sends in vain; false: there is no such thing.
func (c *Conn) drop() bool {
	tcp, ok := c.raw.(*net.TCPConn)
	if !ok {
		return false
	}
	info := infoOf(tcp)
	return info != nil && info.Retransmits > 0 && tcp.SetLinger(0) == nil
}

func (c *Conn) release() {
	if c.done.Swap(true) {
		return
	}
	if c.watch != nil {
		c.watch.Stop()
	}
	c.port.forget(c)
	if c.stranger || c.outcast {
		c.port.strangers.leave(c.raw)
	}
}
