package cluster

import (
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// chosenPorts are the ingress ports of a service, those that name no single host
// port with the one that was chosen; without those that have none yet.
func chosenPorts(sv *state.Service) []stack.Port {
	all := sv.Spec.IngressPorts()
	chosen := sv.Ports
	out := make([]stack.Port, 0, len(all))
	for _, p := range all {
		if !p.Dynamic() {
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
