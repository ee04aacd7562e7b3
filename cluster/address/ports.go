package address

import (
	"cmp"
	"fmt"

	"github.com/dhow-project/dhow/stack"
)

// What host ports that nobody names are chosen from, as in Swarm and Kubernetes:
// below what kernels give to outgoing connections.
const (
	FirstPort = 30000
	LastPort  = 32767
)

// port is one host port of all nodes.
type port struct {
	number uint16
	proto  string
}

func portOf(number uint16, p stack.Port) port { return port{number, cmp.Or(p.Protocol, "tcp")} }

// claim makes these the ports of a service: those that its spec names, of any
// mode, and those that were chosen.
func (b *Books) claim(service string, spec *stack.Service, chosen []uint16) {
	for _, p := range b.claimed[service] {
		if delete(b.ports[p], service); len(b.ports[p]) == 0 {
			delete(b.ports, p)
		}
	}
	delete(b.claimed, service)
	if spec == nil || !spec.Container.OwnNetworks() {
		return
	}
	var list []port
	for _, p := range spec.Container.Ports {
		if !p.Dynamic() {
			list = append(list, portOf(p.HostPort, p))
		}
	}
	i := 0
	for _, p := range spec.IngressPorts() {
		if p.Dynamic() && i < len(chosen) {
			list = append(list, portOf(chosen[i], p))
			i++
		}
	}
	for _, p := range list {
		if b.ports[p] == nil {
			b.ports[p] = map[string]bool{}
		}
		b.ports[p][service] = true
	}
	if len(list) > 0 {
		b.claimed[service] = list
	}
}

// TakePorts chooses the host ports of a service's ingress ports that name none,
// or a range, in their order: those it has, as far as they still do, or free ones.
func (b *Books) TakePorts(service string, spec *stack.Service, has []uint16) ([]uint16, error) {
	var out []uint16
	mine := map[port]bool{}
	for _, p := range spec.IngressPorts() {
		if !p.Dynamic() {
			continue
		}
		first, last := p.HostPort, p.HostPortEnd
		if first == 0 {
			first, last = FirstPort, LastPort
		}
		free := func(n uint16) bool {
			k := portOf(n, p)
			others := b.ports[k]
			return n >= first && n <= last && !mine[k] && (len(others) == 0 || len(others) == 1 && others[service] && !named(spec, k))
		}
		var got uint16
		if i := len(out); i < len(has) && free(has[i]) {
			got = has[i]
		}
		for n := int(first); got == 0 && n <= int(last); n++ {
			if free(uint16(n)) { //nolint:gosec // between two ports
				got = uint16(n) //nolint:gosec // likewise
			}
		}
		if got == 0 {
			return nil, fmt.Errorf("container port %d: host ports %d to %d/%s %w: all are published by services: publish fewer, or name a port or a wider range (ports: \"20000-20999:%d\")",
				p.ContainerPort, first, last, portOf(0, p).proto, ErrExhausted, p.ContainerPort)
		}
		mine[portOf(got, p)] = true
		out = append(out, got)
	}
	b.claim(service, spec, out)
	return out, nil
}

// named reports whether a spec names a port itself.
func named(spec *stack.Service, k port) bool {
	for _, p := range spec.Container.Ports {
		if !p.Dynamic() && portOf(p.HostPort, p) == k {
			return true
		}
	}
	return false
}
