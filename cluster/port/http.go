package port

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
)

// Times and sizes of HTTP between nodes.
const (
	headerTimeout   = 10 * time.Second
	serverIdle      = 3 * time.Minute // longer than clientIdle: the client closes first, and no request meets a closing connection
	clientIdle      = 90 * time.Second
	maxHeader       = 64 << 10
	strangerTimeout = 30 * time.Second // for a whole request without certificate
	strangerBody    = 64 << 10
	idlePerNode     = 16
)

type connKey struct{}

// PeerOf is who sent a request of HandleHTTP; false: it came without certificate.
func PeerOf(r *http.Request) (identity.Peer, bool) { return PeerOfContext(r.Context()) }

// PeerOfContext is PeerOf for what has the request's context only.
func PeerOfContext(ctx context.Context) (identity.Peer, bool) {
	c, ok := ctx.Value(connKey{}).(*Conn)
	if !ok || c.stranger {
		return identity.Peer{}, false
	}
	return c.peer, true
}

// HandleHTTP serves node-to-node HTTP with h from now on; nil: nobody.
func (p *Port) HandleHTTP(h http.Handler) {
	if h == nil {
		p.handler.Store(nil)
		return
	}
	p.handler.Store(&h)
}

func (p *Port) startHTTP() {
	p.server = &http.Server{
		Handler:           http.HandlerFunc(p.serveHTTP),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       serverIdle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return p.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	in := p.http.open(p.nodeAddr)
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		if err := p.server.Serve(in); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) { // not by Close
			p.log.Error("requests of other nodes are not served any more", "error", err)
		}
	}()
}

// serveHTTP lets a request through to the handler, or not.
func (p *Port) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*Conn)
	if !ok || !p.begin() {
		http.Error(w, "this node is stopping", http.StatusServiceUnavailable)
		return
	}
	defer p.wg.Done()
	if c.stranger {
		if !open(r) {
			w.Header().Set("Connection", "close")
			http.Error(w, "a certificate of this cluster is needed", http.StatusForbidden)
			return
		}
		if !limit(w, r) {
			return
		}
	} else if err := p.authorize(c, ProtoHTTP); err != nil {
		w.Header().Set("Connection", "close")
		if r.URL.Path != StandingPath || r.Method != http.MethodPost {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		if !limit(w, r) {
			return
		}
	}
	h := p.handler.Load()
	if h == nil {
		http.Error(w, "this node serves nothing yet", http.StatusServiceUnavailable)
		return
	}
	(*h).ServeHTTP(w, r)
}

// begin counts a handler that Close waits for.
func (p *Port) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.wg.Add(1)
	return true
}

// open says what needs no certificate. Paths written in another way are not
// taken for them: a handler could read them differently.
func open(r *http.Request) bool {
	if r.URL.RawPath != "" || r.Header.Get("Upgrade") != "" {
		return false
	}
	return r.URL.Path == RootPath && r.Method == http.MethodGet || r.URL.Path == JoinPath && r.Method == http.MethodPost
}

// limit bounds what a stranger costs: one request of bounded time and size. A
// connection that cannot be bounded, as one that is closed, is not served: false.
func limit(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Connection", "close")
	rc, until := http.NewResponseController(w), time.Now().Add(strangerTimeout)
	if err := errors.Join(rc.SetReadDeadline(until), rc.SetWriteDeadline(until)); err != nil {
		http.Error(w, "bound the request: "+err.Error(), http.StatusServiceUnavailable)
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, strangerBody)
	return true
}

// HTTPClient sends requests to one node, whatever host they name; by custom that
// is the node's ID: http://ID/path. Connections are kept and shared; a 101 answer's
// body is an io.ReadWriteCloser with CloseWrite. Redirects are answers like others.
func (p *Port) HTTPClient(node string) *http.Client {
	return &http.Client{
		Transport:     nodeTransport{port: p, node: node},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type nodeTransport struct {
	port *Port
	node string
}

// RoundTrip aims the request at the node.
func (t nodeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.node == "" {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, errors.New("no node to send the request to")
	}
	to := r.Clone(r.Context())
	to.URL.Scheme, to.URL.Host = "http", t.node // TLS is the port's own matter
	return t.port.transport.RoundTrip(to)
}

func newTransport(p *Port) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return p.Dial(ctx, node, ProtoHTTP)
		},
		MaxIdleConnsPerHost:    idlePerNode,
		IdleConnTimeout:        clientIdle,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // forwarded bodies go through as they are
	}
}
