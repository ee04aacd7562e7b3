package cluster

import (
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// ingressPorts are the ports of a service that every node publishes in an open cluster.
func ingressPorts(s *stack.Service) (out []stack.Port) {
	if !s.Container.OwnNetworks() {
		return nil
	}
	for _, p := range s.Container.Ports {
		if p.Mode != "host" {
			out = append(out, p)
		}
	}
	return out
}

// chosenPorts are the ingress ports of a service, those that name no single host
// port with the one that was chosen; without those that have none yet.
func chosenPorts(sv *state.Service) []stack.Port {
	all := ingressPorts(&sv.Spec)
	chosen := sv.Ports
	out := make([]stack.Port, 0, len(all))
	for _, p := range all {
		if !dynamic(p) {
			out = append(out, p)
			continue
		}
		if len(chosen) == 0 {
			continue
		}
		p.HostPort, p.HostPortEnd, chosen = chosen[0], 0, chosen[1:]
		if p.HostPort != 0 {
			out = append(out, p)
		}
	}
	return slices.Clip(out)
}

// dynamic reports whether a port's host port is to be chosen.
func dynamic(p stack.Port) bool { return p.HostPort == 0 || p.HostPortEnd > p.HostPort }
