package dns

import "github.com/dhow-project/dhow/overlaynet"

// SetService fits overlaynet.Names.
func (s *Server) SetService(overlaynet.Service) {}

// RemoveService fits overlaynet.Names.
func (s *Server) RemoveService(network, service string) {}
