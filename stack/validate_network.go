package stack

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// networking checks the attachments and ports of one service.
func (v *validator) networking(at string, svc Service) {
	c := svc.Container
	if c.NetworkMode != "" && len(c.Networks) > 0 {
		v.add(at+".network_mode", "network_mode and networks exclude each other")
	}
	for _, a := range c.Networks {
		v.attachment(at+".networks."+a.Network, svc, a)
	}
	if c.MacAddress != "" {
		if _, err := net.ParseMAC(c.MacAddress); err != nil {
			v.add(at+".mac_address", "%q is not a MAC address", c.MacAddress)
		}
	}
	own := c.NetworkMode == "host" || c.NetworkMode == "none" || strings.HasPrefix(c.NetworkMode, "service:") || strings.HasPrefix(c.NetworkMode, "container:")
	if own && len(c.Ports) > 0 {
		v.add(at+".ports", "with network_mode %s no port can be published", c.NetworkMode)
	}
	for i, p := range c.Ports {
		v.port(fmt.Sprintf("%s.ports[%d]", at, i), p)
	}
	for i, d := range c.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			v.add(fmt.Sprintf("%s.dns[%d]", at, i), "%q is not an address", d)
		}
	}
	for _, h := range c.ExtraHosts {
		name, addr, _ := strings.Cut(h, ":")
		if _, err := netip.ParseAddr(addr); err != nil && addr != "host-gateway" {
			v.add(at+".extra_hosts."+name, "%q is neither an address nor host-gateway", addr)
		}
	}
}

func (v *validator) attachment(at string, svc Service, a Attachment) {
	n, ok := v.stack.Networks[a.Network]
	if !ok {
		v.add(at, "network %s is not defined under networks", a.Network)
	}
	for _, ip := range []struct {
		key, value string
		v6         bool
	}{{"ipv4_address", a.IPv4, false}, {"ipv6_address", a.IPv6, true}} {
		if ip.value == "" {
			continue
		}
		addr, err := netip.ParseAddr(ip.value)
		switch {
		case err != nil || addr.Is4() == ip.v6:
			v.add(at+"."+ip.key, "%q is not such an address", ip.value)
		case ok && !n.External && len(n.Subnets) > 0 && !n.contains(addr):
			v.add(at+"."+ip.key, "%s is in no subnet of network %s", ip.value, a.Network)
		case svc.Replicas > 1 || svc.Mode == Global:
			v.add(at+"."+ip.key, "only one task can have the address %s", ip.value)
		}
	}
	if a.MacAddress != "" {
		if _, err := net.ParseMAC(a.MacAddress); err != nil {
			v.add(at+".mac_address", "%q is not a MAC address", a.MacAddress)
		}
	}
	if len(a.InterfaceName) > 15 {
		v.add(at+".interface_name", "%q has more than 15 characters", a.InterfaceName)
	}
}

func (n Network) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool {
		p, err := netip.ParsePrefix(s.CIDR)
		return err == nil && p.Contains(addr)
	})
}

func (v *validator) port(at string, p Port) {
	if p.ContainerPort == 0 {
		v.add(at, "port 0 is out of range")
	}
	if p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort {
		v.add(at, "host ports %d-%d run backwards", p.HostPort, p.HostPortEnd)
	}
	v.oneOf(at, p.Protocol, "", "tcp", "udp", "sctp")
	v.oneOf(at, p.Mode, "", "ingress", "host")
	if p.HostIP != "" {
		if _, err := netip.ParseAddr(p.HostIP); err != nil {
			v.add(at, "host address %q is not an address", p.HostIP)
		}
	}
}

// sharedPorts finds host ports that two services, or one service twice, publish.
func (v *validator) sharedPorts() {
	type holder struct {
		service string
		ip      string
	}
	held := map[string][]holder{}
	for _, name := range v.stack.ServiceNames() {
		for i, p := range v.stack.Services[name].Container.Ports {
			if p.HostPort == 0 || p.HostPortEnd > p.HostPort {
				continue
			}
			key := fmt.Sprintf("%d/%s", p.HostPort, protocol(p))
			for _, h := range held[key] {
				if h.ip == "" || p.HostIP == "" || h.ip == "0.0.0.0" || p.HostIP == "0.0.0.0" || h.ip == p.HostIP {
					v.add(fmt.Sprintf("services.%s.ports[%d]", name, i), "host port %s is already published by service %s", key, h.service)
					break
				}
			}
			held[key] = append(held[key], holder{name, p.HostIP})
		}
	}
}

func protocol(p Port) string {
	if p.Protocol == "" {
		return "tcp"
	}
	return p.Protocol
}

// sharedAddresses finds static addresses that two services want.
func (v *validator) sharedAddresses() {
	seen := map[string]string{}
	for _, name := range v.stack.ServiceNames() {
		for _, a := range v.stack.Services[name].Container.Networks {
			for _, ip := range []string{a.IPv4, a.IPv6} {
				key := a.Network + " " + ip
				if other, dup := seen[key]; dup && ip != "" {
					v.add("services."+name+".networks."+a.Network, "service %s also has the address %s", other, ip)
				}
				seen[key] = name
			}
		}
	}
}

func (v *validator) network(key string, n Network) {
	at := "networks." + key
	v.resource(at, n.Name)
	if n.External {
		return
	}
	v.oneOf(at+".driver", n.Driver, "", "bridge", "overlay", "host", "none")
	for _, domain := range slices.Sorted(maps.Keys(n.Forward)) {
		if err := CheckForward(domain, n.Forward[domain]); err != nil {
			v.add(at+".x-dhow.forward."+domain, "%v", err)
		}
	}
	for i, s := range n.Subnets {
		at := fmt.Sprintf("%s.ipam.config[%d]", at, i)
		p, err := netip.ParsePrefix(s.CIDR)
		if s.CIDR != "" && err != nil {
			v.add(at, "subnet %q is not an address range like 10.1.0.0/24", s.CIDR)
			continue
		}
		if s.CIDR == "" {
			if s.Gateway != "" || s.Range != "" || len(s.Aux) > 0 {
				v.add(at, "gateway, ip_range and aux_addresses need a subnet")
			}
			continue
		}
		if p.Masked() != p {
			v.add(at, "subnet %s has host bits set; did you mean %s?", s.CIDR, p.Masked())
		}
		if g, err := netip.ParseAddr(s.Gateway); s.Gateway != "" && (err != nil || !p.Contains(g)) {
			v.add(at, "gateway %q is not an address in %s", s.Gateway, s.CIDR)
		}
		if r, err := netip.ParsePrefix(s.Range); s.Range != "" && (err != nil || !p.Contains(r.Addr()) || r.Bits() < p.Bits()) {
			v.add(at, "ip_range %q is not inside %s", s.Range, s.CIDR)
		}
		for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
			if a, err := netip.ParseAddr(s.Aux[name]); err != nil || !p.Contains(a) {
				v.add(at+".aux_addresses."+name, "%q is not an address in %s", s.Aux[name], s.CIDR)
			}
		}
	}
}

// sharedSubnets finds networks of the stack whose subnets overlap.
func (v *validator) sharedSubnets() {
	type owner struct {
		key    string
		prefix netip.Prefix
	}
	var all []owner
	for _, key := range slices.Sorted(maps.Keys(v.stack.Networks)) {
		for i, s := range v.stack.Networks[key].Subnets {
			p, err := netip.ParsePrefix(s.CIDR)
			if err != nil {
				continue
			}
			for _, o := range all {
				if o.prefix.Overlaps(p) {
					v.add(fmt.Sprintf("networks.%s.ipam.config[%d]", key, i), "subnet %s overlaps %s of network %s", p, o.prefix, o.key)
				}
			}
			all = append(all, owner{key, p})
		}
	}
}
