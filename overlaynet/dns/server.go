package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/dhow-project/dhow/overlaynet"
)

// Config of New.
type Config struct {
	Log        *slog.Logger
	ResolvConf string              // the host's; "": /etc/resolv.conf
	Forward    map[string][]string // domain to the resolvers that know it, for containers of every network but internal ones
}

// Server is the resolver of one node.
type Server struct {
	log      *slog.Logger
	upstream *upstream
	domains  map[string][]string

	mu      sync.Mutex // one change at a time; answers do not wait for it
	records *records

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
	return &Server{
		log: c.Log, upstream: newUpstream(c.ResolvConf), domains: foldDomains(c.Forward),
		records: newRecords(), listen: map[netip.Addr]*listener{},
	}
}

// SetZone serves the network's gateway addresses: on port 53, or on another
// when that is taken. A zone that exists keeps its names.
func (s *Server) SetZone(z overlaynet.Zone) (map[netip.Addr]uint16, error) {
	z.Forward = foldDomains(z.Forward)
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

// RemoveZone forgets the network with all names in it and frees its sockets.
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

// SetHost adds or replaces one container's names in one network, whose zone is
// there already.
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

// Close stops serving and waits for all that it has begun; what the world has
// not answered yet, nobody waits for any more.
func (s *Server) Close() error {
	s.listenMu.Lock()
	for a, l := range s.listen {
		l.close()
		delete(s.listen, a)
	}
	s.listenMu.Unlock()
	s.closed.Wait() // nobody begins an errand now
	s.upstream.errands.Wait()
	return nil
}
