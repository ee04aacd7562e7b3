package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// The protocols of the port, as ALPN names them.
const (
	ProtoRaft = "dhow-raft/1"
	ProtoGRPC = "h2"
	ProtoHTTP = "http/1.1"
)

// What a client without certificate may reach.
const (
	RootPath = "/cluster/v1/root" // GET
	JoinPath = "/cluster/v1/join" // POST
	// StandingPath answers any node with a certificate of the cluster, also one
	// that Authorize refuses: it learns why nobody talks to it.
	StandingPath = "/cluster/v1/standing" // POST
)

// Identity is what the port needs of a node's identity; *identity.Store is one.
type Identity interface {
	Self() (identity.Peer, bool)
	ServerTLS(alpn ...string) *tls.Config
	ClientTLS(node, alpn string) *tls.Config
}

// Book knows where nodes are. One that also has
//
//	Others(node string) []string
//
// names more addresses, to be tried when another machine, or none, answers at Addr.
type Book interface {
	Addr(node string) (string, error) // host:port
}

// Config of a Port.
type Config struct {
	Node     string // own ID: known before there is a certificate
	Identity Identity
	Book     Book // nil: only the own node can be dialed
	// Authorize says whether a verified peer may use proto now, with what the
	// node list says now. It is asked for every connection, accepted or dialed,
	// and for every HTTP request, and must not block. It is not asked about the
	// own node. nil: every certificate of the cluster is good.
	Authorize func(p identity.Peer, proto string) error
	Log       *slog.Logger

	HandshakeTimeout time.Duration // default 5 s
	DialTimeout      time.Duration // to connect and shake hands, when the context has no earlier end; default 2 s
	MaxHandshakes    int           // under way at a time; from one address a quarter of it when half are; default 256
	MaxStrangers     int           // open connections without certificate, in the same way; default 256
	MaxPerNode       int           // open connections that one node has made; default 4096
}

// Port of one node. It works without listener: see Listen.
type Port struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // of everything the port runs; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	raft, grpc, http *door
	server           *http.Server
	handler          atomic.Pointer[http.Handler]
	transport        *http.Transport
	slots            chan struct{} // one in it per handshake under way, and one for the next
	shaking          *crowd        // handshakes under way
	strangers        *crowd        // open connections without certificate
	lanes            lanes         // dials under way

	mu       sync.Mutex // guards what follows
	closed   bool
	listener *listener // nil: not listening
	conns    map[*Conn]struct{}
	made     map[string]int // of conns, those that a node has made
}

// New makes a Port that does not listen.
func New(cfg Config) *Port {
	setDefault(&cfg.HandshakeTimeout, 5*time.Second)
	setDefault(&cfg.DialTimeout, 2*time.Second)
	setDefault(&cfg.MaxHandshakes, 256)
	setDefault(&cfg.MaxStrangers, 256)
	setDefault(&cfg.MaxPerNode, 4096)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Port{
		cfg: cfg, log: cfg.Log,
		slots:   make(chan struct{}, cfg.MaxHandshakes),
		shaking: newCrowd(cfg.MaxHandshakes), strangers: newCrowd(cfg.MaxStrangers),
		conns: map[*Conn]struct{}{}, made: map[string]int{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.raft, p.grpc, p.http = newDoor(), newDoor(), newDoor()
	p.transport = newTransport(p)
	p.startHTTP()
	return p
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Self is who this node is on connections to itself: its certificate's peer, or
// without certificate a manager of a cluster of its own.
func (p *Port) Self() identity.Peer {
	if self, ok := p.certified(); ok {
		return self
	}
	return identity.Peer{Node: p.cfg.Node, Role: stack.RoleManager}
}

// certified is who this node's certificate says it is; false without one.
func (p *Port) certified() (identity.Peer, bool) {
	if p.cfg.Identity == nil {
		return identity.Peer{}, false
	}
	return p.cfg.Identity.Self()
}

func (p *Port) authorize(c *Conn, proto string) error {
	switch {
	case proto == ProtoRaft && c.peer.Role != stack.RoleManager:
		return fmt.Errorf("%w: node %s is not a manager", runtime.ErrForbidden, c.peer.Node)
	case c.local:
		return nil
	case c.peer.Node == p.Self().Node:
		return fmt.Errorf("%w: another machine uses the identity of this node, %s: one of them is a copy, and must leave and join anew", runtime.ErrConflict, c.peer.Node)
	case p.cfg.Authorize == nil:
		return nil
	}
	return p.cfg.Authorize(c.peer, proto)
}

// Drop closes all connections with a node, of both directions, or with protos
// those of these protocols. Change what Authorize says first, and none can slip
// through. It does not keep the node from being dialed, or from dialing, again.
func (p *Port) Drop(node string, protos ...string) {
	p.mu.Lock()
	var drop []*Conn
	for c := range p.conns {
		if c.peer.Node == node && !c.local && (len(protos) == 0 || slices.Contains(protos, c.proto)) {
			drop = append(drop, c)
		}
	}
	p.mu.Unlock()
	for _, c := range drop {
		c.abort()
	}
	if len(drop) > 0 {
		p.log.Info("connections of a node closed", "peer", node, "count", len(drop))
	}
}

// CloseIdle closes the HTTP connections that no request uses now: what is
// dialed next shows the certificate of then. For a change of the own role.
func (p *Port) CloseIdle() { p.transport.CloseIdleConnections() }

// Close ends everything and waits for it; handlers see their contexts end.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	err := p.CloseListener()
	// Connections first: a handler that sees its context end must not answer
	// as if it had done its work, and TLS's last word would wait for peers that are gone.
	for _, c := range p.open() {
		c.abort()
	}
	p.cancel()
	for _, d := range []*door{p.raft, p.grpc, p.http} {
		d.shut()
	}
	err = errors.Join(err, p.server.Close())
	p.transport.CloseIdleConnections()
	p.wg.Wait()
	return err
}

func (p *Port) open() []*Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		out = append(out, c)
	}
	return out
}

var errClosed = errors.New("cluster port is closed")

// track makes c known to Drop and Close. It is refused once the port is closed,
// and when its node has too many.
func (p *Port) track(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if c.inbound && !c.stranger {
		if p.made[c.peer.Node] >= p.cfg.MaxPerNode {
			return fmt.Errorf("node %s: %w", c.peer.Node, errCrowded)
		}
		p.made[c.peer.Node]++
	}
	p.conns[c] = struct{}{}
	return nil
}

func (p *Port) forget(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.conns[c]; !known {
		return
	}
	delete(p.conns, c)
	if !c.inbound || c.stranger {
		return
	}
	if p.made[c.peer.Node]--; p.made[c.peer.Node] == 0 {
		delete(p.made, c.peer.Node)
	}
}
