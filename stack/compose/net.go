package compose

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/dhow-project/dhow/stack"
)

// attachments translates a service's networks, the one with the highest priority first.
func (l *load) attachments(path string, s types.ServiceConfig) []stack.Attachment {
	if s.Provider != nil {
		return nil
	}
	var out []stack.Attachment
	for _, key := range s.NetworksByPriority() {
		a := stack.Attachment{Network: key}
		if n := s.Networks[key]; n != nil {
			a.Aliases = n.Aliases
			a.IPv4, a.IPv6 = n.Ipv4Address, n.Ipv6Address
			a.LinkLocalIPs = n.LinkLocalIPs
			a.MacAddress = n.MacAddress
			a.Priority, a.GwPriority = n.Priority, n.GatewayPriority
			a.InterfaceName = n.InterfaceName
			a.DriverOpts = copied(n.DriverOpts)
			l.knownOptions(path+".networks."+key+".driver_opts", n.DriverOpts, stack.AttachmentOptions)
			if !n.ServiceNameAliasEnabled() {
				l.fail(path+".networks."+key+".use_service_name_alias", "false is not honoured yet")
			}
		}
		out = append(out, a)
	}
	return out
}

// ports translates published ports; compose-go has expanded ranges of both sides.
func (l *load) ports(path string, list []types.ServicePortConfig) []stack.Port {
	var out []stack.Port
	for i, p := range list {
		port := stack.Port{
			HostIP:      strings.Trim(p.HostIP, "[]"),
			Protocol:    p.Protocol,
			Mode:        p.Mode,
			Name:        p.Name,
			AppProtocol: p.AppProtocol,
		}
		if p.Target > math.MaxUint16 || p.Target == 0 {
			l.failItem(path+".ports", i, l.matchTarget(p.Target), "port %d is out of range", p.Target)
			continue
		}
		port.ContainerPort = uint16(p.Target)
		first, last, isRange := strings.Cut(p.Published, "-")
		ok := true
		port.HostPort, ok = hostPort(first, ok)
		if isRange {
			port.HostPortEnd, ok = hostPort(last, ok)
		}
		if !ok || isRange && port.HostPortEnd < port.HostPort {
			l.failItem(path+".ports", i, l.matchTarget(p.Target), "host port %q is out of range", p.Published)
			continue
		}
		if port.HostPortEnd == port.HostPort {
			port.HostPortEnd = 0
		}
		out = append(out, port)
	}
	return out
}

// hostPort reads a port; "" and "0" ask for any.
func hostPort(text string, ok bool) (uint16, bool) {
	if text == "" {
		return 0, ok
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), ok && err == nil
}

// matchPort finds the item that a translated port comes from.
func (l *load) matchPort(p stack.Port) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool {
		for _, c := range l.parsePort(n) {
			host, _, _ := strings.Cut(c.Published, "-")
			published := host == "" && p.HostPort == 0 || host == strconv.Itoa(int(p.HostPort))
			if c.Target == uint32(p.ContainerPort) && published && strings.Trim(c.HostIP, "[]") == p.HostIP {
				return true
			}
		}
		return false
	}
}

func (l *load) matchTarget(target uint32) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool {
		for _, c := range l.parsePort(n) {
			if c.Target == target {
				return true
			}
		}
		return false
	}
}

// parsePort reads both forms of an item of ports; nil when it is neither.
func (l *load) parsePort(n *yaml.Node) []types.ServicePortConfig {
	text := func(key string) string {
		if v := child(n, key); v != nil {
			return l.expand(l.sources[0], v.Value)
		}
		return ""
	}
	if n.Kind == yaml.MappingNode {
		target, err := strconv.ParseUint(text("target"), 10, 32)
		if err != nil {
			return nil
		}
		return []types.ServicePortConfig{{Target: uint32(target), Published: text("published"), HostIP: text("host_ip")}}
	}
	list, err := types.ParsePortConfig(l.expand(l.sources[0], n.Value))
	if err != nil {
		return nil
	}
	return list
}

// expose adds the protocol that Compose lets people leave out.
func (l *load) expose(path string, list []string) []string {
	var out []string
	for i, e := range list {
		ports, protocol, ok := strings.Cut(e, "/")
		if !ok {
			protocol = "tcp"
		}
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		from, ok := hostPort(first, true)
		to, ok := hostPort(last, ok)
		if !ok || from == 0 || to < from || protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			l.fail(fmt.Sprintf("%s.expose[%d]", path, i), "%q is not a port like 80 or 53/udp", e)
			continue
		}
		out = append(out, ports+"/"+protocol)
	}
	return out
}

// networks translates the networks that services use.
func (l *load) networks(p *types.Project) map[string]stack.Network {
	out := map[string]stack.Network{}
	for _, key := range sortedKeys(p.Networks) {
		n := p.Networks[key]
		path := "networks." + key
		switch n.Driver {
		case "", "bridge", "overlay", "host", "none":
		case "macvlan", "ipvlan":
			l.fail(path+".driver", "%s is not honoured yet", n.Driver)
		default:
			l.fail(path+".driver", "%s is not honoured; use bridge or overlay", n.Driver)
		}
		net := stack.Network{
			Name:       n.Name,
			Key:        key,
			Stack:      l.name,
			External:   bool(n.External),
			Driver:     n.Driver,
			DriverOpts: copied(n.DriverOpts),
			Internal:   n.Internal,
			Attachable: n.Attachable,
			EnableIPv4: n.EnableIPv4,
			EnableIPv6: n.EnableIPv6 != nil && *n.EnableIPv6,
			IPAMOpts:   copied(n.Ipam.Options),
			Labels:     copied(n.Labels),
		}
		if net.External {
			net.Stack = ""
			l.onlyExternal(path)
		}
		if d := n.Ipam.Driver; d != "" && d != "default" {
			l.fail(path+".ipam.driver", "%s is not honoured; use default", d)
		}
		net.Forward = l.forward(path, n)
		l.knownOptions(path+".driver_opts", n.DriverOpts, stack.NetworkOptions)
		l.knownOptions(path+".ipam.options", n.Ipam.Options, nil)
		for i, pool := range n.Ipam.Config {
			if pool == nil {
				continue
			}
			if len(pool.Extensions) > 0 {
				l.extensionOnly(fmt.Sprintf("%s.ipam.config[%d]", path, i), pool.Extensions)
			}
			net.Subnets = append(net.Subnets, stack.Subnet{CIDR: pool.Subnet, Gateway: pool.Gateway, Range: pool.IPRange, Aux: copied(pool.AuxiliaryAddresses)})
		}
		out[key] = net
	}
	return out
}

// knownOptions refuses options that nothing honours.
func (l *load) knownOptions(path string, given map[string]string, known []string) {
	for _, key := range sortedKeys(given) {
		switch {
		case slices.Contains(known, key):
		case len(known) == 0:
			l.fail(path+"."+key, "is not honoured: there are no such options")
		default:
			l.fail(path+"."+key, "is not honoured; these are: %s", strings.Join(known, ", "))
		}
	}
}

func (l *load) extensionOnly(path string, ext types.Extensions) {
	for _, key := range sortedKeys(ext) {
		if !strings.HasPrefix(key, "x-") && key != "#extensions" {
			l.fail(path+"."+key, "unknown key")
		}
	}
}

// onlyExternal refuses a definition beside external: true.
func (l *load) onlyExternal(path string) {
	for i := len(l.sources) - 1; i >= 0; i-- {
		for _, doc := range l.sources[i].docs {
			n := descend(doc, path)
			if n == nil || n.Kind != yaml.MappingNode {
				continue
			}
			for j := 0; j+1 < len(n.Content); j += 2 {
				key := n.Content[j].Value
				if key != "name" && key != "external" && !strings.HasPrefix(key, "x-") {
					l.fail(path+"."+key, "has no place in what is external: it is made elsewhere")
				}
			}
		}
	}
}
