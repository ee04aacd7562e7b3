package server

import (
	"net"
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// fromNetworks shows where c is in its networks: as it came out while it
// runs, as asked for before.
func fromNetworks(c *runtime.Container) *inspectNetworks {
	out := &inspectNetworks{}
	out.SandboxKey = c.NetNS
	if c.NetNS != "" {
		out.SandboxID = c.ID
	}
	out.Ports = publishedPorts(c)
	out.Networks = endpointMap(c)
	for _, e := range c.Endpoints {
		if e.Network != defaultNetwork {
			continue
		}
		ep := out.Networks[e.Network]
		out.EndpointID, out.MacAddress = ep.EndpointID, e.MacAddress
		out.IPAddress, out.IPPrefixLen, out.Gateway = addr(ep.IPAddress), ep.IPPrefixLen, e.Gateway
		out.GlobalIPv6Address, out.GlobalIPv6PrefixLen, out.IPv6Gateway = addr(ep.GlobalIPv6Address), ep.GlobalIPv6PrefixLen, e.Gateway6
	}
	return out
}

// endpointMap is c's networks by name. A container in host or no network has
// an entry of that name, as in Docker.
func endpointMap(c *runtime.Container) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	asked := map[string]stack.Attachment{}
	for _, a := range c.Spec.Networks {
		asked[a.Network] = a
		out[a.Network] = fromAttachment(a)
	}
	for _, e := range c.Endpoints {
		a, ok := asked[e.Network]
		if !ok {
			if byID, found := asked[e.NetworkID]; found {
				a = byID
				delete(out, e.NetworkID)
			}
		}
		out[e.Network] = fromEndpoint(e, a)
	}
	if mode := c.Spec.NetworkMode; mode == "host" || mode == "none" {
		if out[mode] == nil {
			out[mode] = &network.EndpointSettings{NetworkID: builtinID(mode)}
		}
	}
	return out
}

func fromAttachment(a stack.Attachment) *network.EndpointSettings {
	ep := &network.EndpointSettings{Aliases: a.Aliases, DriverOpts: a.DriverOpts, GwPriority: a.GwPriority, MacAddress: mac(a.MacAddress)}
	v4, v6 := parseAddr(a.IPv4), parseAddr(a.IPv6)
	if v4.IsValid() || v6.IsValid() || len(a.LinkLocalIPs) > 0 {
		ep.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: v4, IPv6Address: v6}
		for _, ip := range a.LinkLocalIPs {
			ep.IPAMConfig.LinkLocalIPs = append(ep.IPAMConfig.LinkLocalIPs, parseAddr(ip))
		}
	}
	return ep
}

func fromEndpoint(e runtime.Endpoint, a stack.Attachment) *network.EndpointSettings {
	ep := fromAttachment(a)
	ep.NetworkID, ep.EndpointID, ep.MacAddress = e.NetworkID, e.EndpointID, mac(e.MacAddress)
	ep.DNSNames = e.DNSNames
	if len(e.Aliases) > 0 {
		ep.Aliases = e.Aliases
	}
	if p, err := netip.ParsePrefix(e.IPv4); err == nil {
		ep.IPAddress, ep.IPPrefixLen = p.Addr(), p.Bits()
	}
	if p, err := netip.ParsePrefix(e.IPv6); err == nil {
		ep.GlobalIPv6Address, ep.GlobalIPv6PrefixLen = p.Addr(), p.Bits()
	}
	ep.Gateway, ep.IPv6Gateway = parseAddr(e.Gateway), parseAddr(e.Gateway6)
	return ep
}

func parseAddr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s) // invalid is the zero address
	return a
}

func mac(s string) network.HardwareAddr {
	hw, _ := net.ParseMAC(s) // invalid is no address
	return network.HardwareAddr(hw)
}

// publishedPorts has an entry for every exposed port; it is null, as in
// Docker, when the port is not published.
func publishedPorts(c *runtime.Container) network.PortMap {
	out := network.PortMap{}
	if c.State.Status != runtime.Running && c.State.Status != runtime.Paused {
		return out
	}
	for p := range exposed(append(append([]string{}, c.Image.ExposedPorts...), c.Spec.Expose...)) {
		out[p] = nil
	}
	for _, b := range c.Ports {
		key, ok := network.PortFrom(b.ContainerPort, network.IPProtocol(first(b.Protocol, "tcp")))
		if !ok {
			continue
		}
		out[key] = append(out[key], network.PortBinding{HostIP: parseAddr(b.HostIP), HostPort: portString(b.HostPort)})
	}
	return out
}

// portSummary is the ports column of docker ps.
func portSummary(c *runtime.Container) []container.PortSummary {
	out := []container.PortSummary{}
	for p, bindings := range publishedPorts(c) {
		if len(bindings) == 0 {
			out = append(out, container.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
	}
	for _, b := range c.Ports {
		if c.State.Status == runtime.Running || c.State.Status == runtime.Paused {
			out = append(out, container.PortSummary{IP: parseAddr(b.HostIP), PrivatePort: b.ContainerPort, PublicPort: b.HostPort, Type: first(b.Protocol, "tcp")})
		}
	}
	sortPorts(out)
	return out
}
