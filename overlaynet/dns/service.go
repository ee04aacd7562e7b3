package dns

import "github.com/dhow-project/dhow/overlaynet"

// SetService adds or replaces what is known of a service in a network.
func (s *Server) SetService(x overlaynet.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if z := s.records.zones[x.Network]; z != nil {
		next := service{Service: x, known: true}
		if old := z.members[x.Service]; old != nil {
			next.hosts = old.hosts
		}
		z.setService(next)
	}
}

// RemoveService forgets it; its containers keep their names.
func (s *Server) RemoveService(network, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	z := s.records.zones[network]
	if z == nil || z.members[name] == nil {
		return
	}
	z.setService(service{Service: overlaynet.Service{Network: network, Service: name}, hosts: z.members[name].hosts})
}
