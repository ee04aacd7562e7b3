package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/runtime"
)

// listener is the open TCP port.
type listener struct {
	net.Listener
	tls  *tls.Config
	done chan struct{}  // closed with it
	wg   sync.WaitGroup // the accept loop
}

// keepAlive finds a peer whose machine is gone within about 12 s; a node that
// gossip declares dead is dropped sooner.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 6 * time.Second, Interval: 2 * time.Second, Count: 3}

// Listen opens addr (host:port) to the other nodes. The node must have a certificate.
func (p *Port) Listen(addr string) error {
	if _, ok := p.certified(); !ok {
		return fmt.Errorf("listen on %s: %w", addr, identity.ErrNoCertificate)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if p.listener != nil {
		return fmt.Errorf("listen on %s: %w: listening on %s already", addr, runtime.ErrConflict, p.listener.Addr())
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(p.ctx, "tcp", addr)
	if err != nil {
		return err
	}
	p.listener = &listener{Listener: l, tls: p.serverTLS(), done: make(chan struct{})}
	p.listener.wg.Add(1)
	p.wg.Add(1)
	go func(l *listener) {
		defer p.wg.Done()
		defer l.wg.Done()
		p.accept(l)
	}(p.listener)
	return nil
}

// CloseListener lets nobody in any more. Open connections stay.
func (p *Port) CloseListener() error {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	close(l.done)
	err := l.Close()
	l.wg.Wait()
	return err
}

// Addr is what the port listens on; nil when it does not.
func (p *Port) Addr() net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return nil
	}
	return p.listener.Addr()
}

// serverTLS lets clients without certificate in, to HTTP only: what they may
// reach there is for the handler to say.
func (p *Port) serverTLS() *tls.Config {
	cfg := p.cfg.Identity.ServerTLS(ProtoRaft, ProtoGRPC, ProtoHTTP)
	verify := cfg.VerifyConnection
	cfg.ClientAuth = tls.RequestClientCert
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 && cs.NegotiatedProtocol == ProtoHTTP {
			return nil
		}
		return verify(cs)
	}
	return cfg
}

// accept takes connections until the listener is closed.
func (p *Port) accept(l *listener) {
	for delay := time.Duration(0); ; {
		select { // no slot: the others wait in the kernel's queue
		case p.slots <- struct{}{}:
		case <-l.done:
			return
		}
		raw, err := l.Accept()
		if err != nil {
			<-p.slots
			if errors.Is(err, net.ErrClosed) || !l.pause(&delay) {
				return
			}
			p.log.Warn("accept on the cluster port", "error", err)
			continue
		}
		delay = 0
		if err := p.shaking.enter(raw); err != nil {
			raw.Close()
			<-p.slots
			continue
		}
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			p.receive(l, raw)
		}()
	}
}

// pause waits after an error of accept, such as too many open files; false: the listener is closed.
func (l *listener) pause(delay *time.Duration) bool {
	*delay = min(max(2**delay, 5*time.Millisecond), time.Second)
	t := time.NewTimer(*delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// receive takes one connection through its handshake to the door of its protocol.
func (p *Port) receive(l *listener, raw net.Conn) {
	c, err := p.handshake(l, raw)
	p.shaking.leave(raw)
	<-p.slots
	if err != nil {
		raw.Close()
		p.log.Debug("connection refused", "from", raw.RemoteAddr(), "error", err)
		return
	}
	if err := p.doorOf(c.proto).deliver(c, p.cfg.HandshakeTimeout); err != nil {
		p.log.Debug("connection refused", "from", raw.RemoteAddr(), "peer", c.peer.Node, "protocol", c.proto, "error", err)
	}
}

func (p *Port) handshake(l *listener, raw net.Conn) (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.HandshakeTimeout)
	defer cancel()
	t := tls.Server(raw, l.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := t.ConnectionState()
	peer, known := identity.PeerOf(cs)
	c := &Conn{Conn: t, raw: raw, peer: peer, stranger: !known, inbound: true, proto: cs.NegotiatedProtocol, port: p}
	return c, p.admit(c)
}

// admit makes a connection known and then asks whether it may be: in this order,
// a node removed meanwhile is seen by Authorize or by Drop.
func (p *Port) admit(c *Conn) error {
	if c.stranger {
		if err := p.strangers.enter(c.raw); err != nil {
			return fmt.Errorf("client without certificate: %w", err)
		}
	}
	watchConn(c)
	if err := p.track(c); err != nil {
		c.release()
		return err
	}
	if c.stranger {
		return nil
	}
	err := p.authorize(c, c.proto)
	if err != nil && c.inbound && c.proto == ProtoHTTP && p.strangers.enter(c.raw) == nil {
		c.outcast = true // let in to be told so
		return nil
	}
	if err != nil {
		c.release()
	}
	return err
}

func (p *Port) doorOf(proto string) *door {
	switch proto {
	case ProtoRaft:
		return p.raft
	case ProtoGRPC:
		return p.grpc
	}
	return p.http
}
