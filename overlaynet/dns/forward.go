package dns

import "strings"

// forward returns the resolvers for a name. Those of the longest domain that
// it lies in, of the asker's networks before the node's own; known tells
// whether there is one. Otherwise the asker's own; none: the node's.
func (s *Server) forward(name string, a asker) (servers []string, known bool) {
	inside := !a.outside()
	for rest := name; rest != ""; {
		for _, h := range a.all {
			if to := h.zone.now.Load().Forward[rest]; to != nil {
				return to, true
			}
		}
		// What the node knows is the world: not for those in internal networks only.
		if to := s.domains[rest]; to != nil && !inside {
			return to, true
		}
		_, rest, _ = strings.Cut(rest, ".")
	}
	return a.me.servers(), false
}

func foldDomains(in map[string][]string) map[string][]string {
	out := make(map[string][]string, len(in))
	for domain, servers := range in {
		if len(servers) > 0 {
			out[fold(domain)] = servers
		}
	}
	return out
}
