package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/runtime"
)

// Dial connects to a node by its ID and speaks proto; what comes back is a
// *Conn. It ends with ctx, and after Config.DialTimeout at the latest. Errors
// name the node.
func (p *Port) Dial(ctx context.Context, node, proto string) (net.Conn, error) {
	if node == p.Self().Node {
		c, err := p.dialSelf(proto)
		if err != nil {
			return nil, fmt.Errorf("dial this node: %s: %w", proto, err)
		}
		return c, nil
	}
	c, err := p.dialPeer(ctx, node, proto)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", node, err)
	}
	return c, nil
}

func (p *Port) dialPeer(ctx context.Context, node, proto string) (*Conn, error) {
	if _, ok := p.certified(); !ok || p.cfg.Book == nil {
		return nil, identity.ErrNoCertificate
	}
	addr, err := p.cfg.Book.Addr(node)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	stop := context.AfterFunc(p.ctx, cancel)
	defer stop()
	leave, err := p.lanes.enter(ctx, node)
	if err != nil {
		return nil, fmt.Errorf("%s: too many connections are being made: %w", addr, err)
	}
	defer leave()
	addrs := []string{addr}
	if b, ok := p.cfg.Book.(interface{ Others(node string) []string }); ok {
		addrs = append(addrs, b.Others(node)...)
	}
	var errs []error
	for i, addr := range addrs {
		share := p.cfg.DialTimeout / time.Duration(len(addrs)-i+1) // some is left for the next
		if i == len(addrs)-1 {
			share = p.cfg.DialTimeout
		}
		limited, cancel := context.WithTimeout(ctx, share)
		c, err := p.dialAt(limited, node, proto, addr)
		cancel()
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// dialAt connects to a node at one address.
func (p *Port) dialAt(ctx context.Context, node, proto, addr string) (*Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	t := tls.Client(raw, p.cfg.Identity.ClientTLS(node, proto))
	if err := t.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	peer, _ := identity.PeerOf(t.ConnectionState())
	c := &Conn{Conn: t, raw: raw, peer: peer, proto: proto, port: p}
	if err := p.admit(c); err != nil {
		raw.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

// dialSelf connects this process with itself. A pair of sockets, because it has
// buffers, deadlines and half-close as the others' connections do.
func (p *Port) dialSelf(proto string) (*Conn, error) {
	switch proto {
	case ProtoRaft, ProtoGRPC, ProtoHTTP:
	default:
		return nil, fmt.Errorf("%w: no such protocol", runtime.ErrInvalid)
	}
	near, far, err := socketPair()
	if err != nil {
		return nil, err
	}
	self := p.Self()
	a := &Conn{Conn: near, raw: near, peer: self, local: true, proto: proto, port: p}
	b := &Conn{Conn: far, raw: far, peer: self, local: true, proto: proto, port: p}
	for _, c := range []*Conn{a, b} {
		if err := p.admit(c); err != nil {
			a.abort()
			b.abort()
			return nil, err
		}
	}
	if err := p.doorOf(proto).deliver(b, p.cfg.DialTimeout); err != nil {
		a.abort()
		return nil, err
	}
	return a, nil
}

func socketPair() (net.Conn, net.Conn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, err := fileConn(fds[0])
	if err != nil {
		syscall.Close(fds[1])
		return nil, nil, err
	}
	far, err := fileConn(fds[1])
	if err != nil {
		near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// fileConn takes fd over.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "cluster-port")
	defer f.Close()
	return net.FileConn(f)
}

// Stream is the managers' side of the port, as the log's transport wants it.
type Stream struct {
	*acceptor
	port *Port
}

// Raft opens the door for the log: connections go to the Stream that was made
// last. Close the Stream when the log closes.
func (p *Port) Raft() *Stream {
	return &Stream{acceptor: p.raft.open(p.nodeAddr), port: p}
}

// nodeAddr: raft's configuration holds node IDs as addresses.
func (p *Port) nodeAddr() net.Addr { return nodeAddr(p.Self().Node) }

// Dial connects to another manager's log.
func (s *Stream) Dial(node string, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return s.port.Dial(ctx, node, ProtoRaft)
}

// GRPC opens the door for agent sessions: connections (each a *Conn, TLS done)
// go to the listener that was made last.
func (p *Port) GRPC() net.Listener {
	return p.grpc.open(func() net.Addr {
		if a := p.Addr(); a != nil {
			return a
		}
		return p.nodeAddr()
	})
}
