package server

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/stack"
)

// scopeOf is the word for where a network exists. Docker's tools take "swarm"
// for networks that plain containers enter only when they are attachable, which
// is so of overlay networks alone; the others span nodes as well, but take everybody.
func scopeOf(n *stack.Network) string {
	if n.Driver == "overlay" {
		return "swarm"
	}
	return "local"
}

// isIngress reports whether a network is the one of published ports.
func isIngress(n *stack.Network) bool { return n.Name == stack.IngressNetwork && n.Stack == "" }

// networkView is what the managers know of a network; false: none can be asked.
func (s *server) networkView(r *http.Request, n *stack.Network) (v stack.NetworkView, known bool) {
	if !n.Spans() {
		return v, false
	}
	ctx, cancel := context.WithTimeout(r.Context(), downTime)
	defer cancel()
	if !s.alone(r) {
		leader, found := s.Cluster.Leader()
		if stale, err := wantsStale(r); !stale && err == nil && found && leader != s.Cluster.Self() &&
			s.fetch(ctx, leader, "/dhow/v1/networks/"+n.ID, &v) == nil {
			return v, true
		}
	}
	v, err := s.Networks.NetworkView(n.ID)
	return v, err == nil
}

// peersOf are the nodes that tunnels of a network lead to.
func peersOf(v *stack.NetworkView) (out []network.PeerInfo) {
	for _, n := range v.Nodes {
		if n.Addr != "" {
			out = append(out, network.PeerInfo{Name: first(n.Hostname, n.ID), IP: parseAddr(n.Addr)})
		}
	}
	return out
}

// servicesOf are the services of a network with their tasks, as Docker shows
// them when asked for more.
func servicesOf(v *stack.NetworkView) map[string]network.ServiceInfo {
	out := map[string]network.ServiceInfo{}
	hosts := map[string]string{}
	for _, n := range v.Nodes {
		hosts[n.ID] = n.Addr
	}
	ports := map[string][]string{}
	for _, p := range v.Published {
		for _, port := range p.Ports {
			ports[p.Service] = append(ports[p.Service], fmt.Sprintf("Target: %d, Publish: %d", port.ContainerPort, port.HostPort))
		}
	}
	for _, sv := range v.Services {
		info := network.ServiceInfo{VIP: parseAddr(first(sv.IPv4, sv.IPv6)), Ports: list(ports[sv.Service]), Tasks: []network.Task{}}
		for _, e := range v.Endpoints {
			if e.Service == sv.Service {
				info.Tasks = append(info.Tasks, network.Task{Name: e.Name, EndpointID: e.ID, EndpointIP: parseAddr(first(e.IPv4, e.IPv6)),
					Info: map[string]string{"Host IP": hosts[e.Node]}})
			}
		}
		stackName, name, _ := strings.Cut(sv.Service, "/")
		out[serviceName(stackName, name)] = info
	}
	return out
}

// withHostPorts are a service's ports with the host ports that the cluster chose.
func withHostPorts(spec *stack.Service, chosen []uint16) []stack.Port {
	out := slices.Clone(spec.Container.Ports)
	for i, p := range out {
		if p.Mode == "host" || !p.Dynamic() || len(chosen) == 0 {
			continue
		}
		out[i].HostPort, out[i].HostPortEnd, chosen = chosen[0], 0, chosen[1:]
	}
	return out
}

// virtualIPs are a service's addresses by the ID of their network.
func virtualIPs(list []stack.TaskAddress, ids map[string]string) (out []swarm.EndpointVirtualIP) {
	for _, a := range list {
		for _, text := range []string{a.IPv4, a.IPv6} {
			if ip, err := netip.ParseAddr(text); err == nil {
				out = append(out, swarm.EndpointVirtualIP{NetworkID: ids[a.Network], Addr: netip.PrefixFrom(ip, ip.BitLen())})
			}
		}
	}
	return out
}
