package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// Config of New.
type Config struct {
	Log        *slog.Logger
	ResolvConf string // the host's; "": /etc/resolv.conf
}

// Server is the resolver of one node.
type Server struct {
	log      *slog.Logger
	upstream *upstream

	mu      sync.RWMutex
	records *records // guarded by mu

	listenMu sync.Mutex
	listen   map[netip.Addr]*listener // guarded by listenMu
	closed   sync.WaitGroup
}

var _ overlaynet.Names = (*Server)(nil)

// New returns a resolver without networks.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	return &Server{log: c.Log, upstream: newUpstream(c.ResolvConf), records: newRecords(), listen: map[netip.Addr]*listener{}}
}

// listener serves one gateway address.
type listener struct {
	network string
	port    uint16
	udp     *dns.Server
	tcp     *dns.Server
}

// SetZone serves the network's gateway addresses: on port 53, or on another
// when that is taken.
func (s *Server) SetZone(z overlaynet.Zone) (map[netip.Addr]uint16, error) {
	s.mu.Lock()
	s.records.setZone(z)
	s.mu.Unlock()
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	ports := map[netip.Addr]uint16{}
	for _, a := range z.Gateways {
		if s.listen[a] == nil {
			l, err := s.open(a)
			if err != nil {
				return nil, fmt.Errorf("resolver of network %s: %w", z.Name, err)
			}
			l.network = z.Network
			s.listen[a] = l
		}
		ports[a] = s.listen[a].port
	}
	return ports, nil
}

// open listens on both protocols with the same port.
func (s *Server) open(a netip.Addr) (*listener, error) {
	var last error
	for try, port := 0, uint16(53); try < 8; try, port = try+1, 0 {
		pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		if err != nil {
			if last = err; errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
				continue
			}
			return nil, err
		}
		port = pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		if err != nil {
			pc.Close()
			last = err
			continue
		}
		l := &listener{port: port}
		h := s.handler(a)
		l.udp = &dns.Server{PacketConn: pc, Handler: h, UDPSize: dns.MaxMsgSize, NotifyStartedFunc: func() {}}
		l.tcp = &dns.Server{Listener: ln, Handler: h, MaxTCPQueries: -1}
		for _, srv := range []*dns.Server{l.udp, l.tcp} {
			s.closed.Go(func() { _ = srv.ActivateAndServe() })
		}
		return l, nil
	}
	return nil, last
}

// RemoveZone forgets the network and frees its sockets.
func (s *Server) RemoveZone(network string) {
	s.mu.Lock()
	s.records.removeZone(network)
	s.mu.Unlock()
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	for a, l := range s.listen {
		if l.network == network {
			l.close()
			delete(s.listen, a)
		}
	}
}

func (l *listener) close() {
	// The sockets are closed first: Shutdown alone refuses a server that has not started yet.
	l.udp.PacketConn.Close()
	l.tcp.Listener.Close()
	_ = l.udp.Shutdown()
	_ = l.tcp.Shutdown()
}

// SetHost adds or replaces one container's names in one network.
func (s *Server) SetHost(h overlaynet.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records.setHost(h)
}

// RemoveHost forgets them.
func (s *Server) RemoveHost(sandbox, network string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records.removeHost(sandbox, network)
}

// Close stops serving.
func (s *Server) Close() error {
	s.listenMu.Lock()
	for a, l := range s.listen {
		l.close()
		delete(s.listen, a)
	}
	s.listenMu.Unlock()
	s.closed.Wait()
	return nil
}

func (s *Server) handler(at netip.Addr) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		tcp := w.RemoteAddr().Network() == "tcp"
		var from netip.Addr
		if ap, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
			from = ap.Addr().Unmap().WithZone("")
		}
		if a := s.answer(q, from, at, tcp); a != nil {
			_ = w.WriteMsg(a)
		}
	})
}
