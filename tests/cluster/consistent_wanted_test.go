package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// labMTU is what fits into a tunnel over the lab's switch, in bytes.
const labMTU = 1450

// wanted are the facts about a host that the state asks for.
func (w *world) wanted(h *netlab.Host) facts {
	f := facts{}
	for name, v := range w.networks {
		mine, others := w.sides(v, h)
		if len(mine) == 0 {
			continue // nothing of it is on this host
		}
		w.segment(f, h, name, v, len(others) > 0)
		for _, e := range others {
			w.remote(f, name, e)
		}
		f.add("net %s: %d plugs", name, len(mine))
		for _, s := range v.Services {
			w.virtual(f, name, v, s)
		}
		for _, e := range mine {
			w.plug(f, v, e)
		}
	}
	w.published(f, h)
	w.meshWanted(f, h)
	return f
}

// segment is the bridge of a network, and its tunnel if there is somebody elsewhere.
func (w *world) segment(f facts, h *netlab.Host, name string, v stack.NetworkView, tunnel bool) {
	for _, sn := range v.Network.Subnets {
		p := netip.MustParsePrefix(sn.CIDR)
		f.add("net %s: bridge with %s/%d", name, sn.Gateway, p.Bits())
	}
	f.add("net %s: bridge of %d bytes", name, labMTU)
	if tunnel {
		f.add("net %s: tunnel %d from %s", name, v.Network.VNI, h.Addr)
	}
}

// remote is what leads to a container of another node.
func (w *world) remote(f facts, name string, e stack.Endpoint) {
	for _, a := range []string{e.IPv4, e.IPv6} {
		if a != "" {
			f.add("net %s: neighbour %s is %s", name, a, macOf(e))
		}
	}
	f.add("net %s: frames to %s into the tunnel", name, macOf(e))
	f.add("net %s: way to %s by %s", name, macOf(e), w.nodes[e.Node].host.Addr)
}

// virtual is the address of a service, and who answers there.
func (w *world) virtual(f facts, name string, v stack.NetworkView, s stack.ServiceAddress) {
	for i, addr := range []string{s.IPv4, s.IPv6} {
		if addr == "" {
			continue
		}
		var all []stack.Endpoint
		for _, e := range v.Endpoints {
			if e.Service == s.Service {
				all = append(all, e)
			}
		}
		var to []string
		for _, e := range pool(all) {
			if a := of(e, i == 1); a != "" {
				to = append(to, a)
			}
		}
		f.add("net %s: %s leads to %s", name, addr, targets(to))
	}
}

// targets are backends as a fact tells them.
func targets(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ", ")
}

// plug is one container's place in a network, seen from within.
func (w *world) plug(f facts, v stack.NetworkView, e stack.Endpoint) {
	ct := short(e.Container)
	f.add("container %s: namespace", ct)
	for i, a := range []string{e.IPv4, e.IPv6} {
		if a == "" {
			continue
		}
		addr := netip.MustParseAddr(a)
		gateway := ""
		for _, sn := range v.Network.Subnets {
			if p := netip.MustParsePrefix(sn.CIDR); p.Contains(addr) {
				f.add("container %s: %s/%d", ct, a, p.Bits())
				gateway = sn.Gateway
			}
		}
		for _, r := range v.Network.Virtual {
			if p := netip.MustParsePrefix(r); p.Addr().Is6() == (i == 1) {
				f.add("container %s: %s through %s", ct, r, gateway)
			}
		}
		if st, sv := w.serviceOf(e.Service); sv != nil && w.exit(st, sv, i == 1) == e.Network {
			f.add("container %s: everything through %s", ct, gateway)
		}
	}
	_, sv := w.serviceOf(e.Service)
	for _, s := range v.Services {
		if s.Service == e.Service && s.IPv4+s.IPv6 != "" || sv != nil && len(sv.Container.Ports) > 0 {
			for _, a := range []string{e.IPv4, e.IPv6} {
				if a != "" {
					f.add("self %s", a)
				}
			}
		}
	}
}

// short is the ID of a container as facts tell it.
func short(id string) string { return id[:min(12, len(id))] }

// published are the host ports of all services on this host.
func (w *world) published(f facts, h *netlab.Host) {
	for _, st := range w.stacks {
		for _, sv := range st.Stack.Services {
			all := w.behind(st, &sv)
			for _, p := range sv.Container.Ports {
				w.port(f, h, p, all, sv.PreferLocal)
			}
		}
	}
}

func (w *world) port(f facts, h *netlab.Host, p stack.Port, all []stack.Endpoint, near bool) {
	proto := p.Protocol
	if proto == "" {
		proto = "tcp"
	}
	away := func(e stack.Endpoint) bool { return w.nodes[e.Node].host != h }
	if p.Mode == "host" {
		all = slices.DeleteFunc(slices.Clone(all), away)
	}
	to := pool(all)
	if here := slices.DeleteFunc(slices.Clone(to), away); near && len(here) > 0 {
		to = here
	}
	w.front(f, proto, p, to)
	for _, six := range []bool{false, true} {
		for _, e := range all {
			a := of(e, six)
			if a == "" || p.Mode == "host" {
				continue
			}
			if w.nodes[e.Node].host != h {
				f.add("mesh: route to %s through %s", a, w.meshAddr(w.nodes[e.Node].number, six))
			} else if e.Up {
				f.add("mesh: %s %s %d may be reached", proto, a, p.ContainerPort)
			}
		}
	}
}

// front is one port of the host itself.
func (w *world) front(f facts, proto string, p stack.Port, pool []stack.Endpoint) {
	for any, six := range map[string]bool{"0.0.0.0": false, "::": true} {
		var to []string
		for _, e := range pool {
			if a := of(e, six); a != "" {
				to = append(to, netip.AddrPortFrom(netip.MustParseAddr(a), p.ContainerPort).String())
			}
		}
		if len(to) > 0 {
			f.add("port %s %s %d leads to %s", proto, any, p.HostPort, targets(to))
		}
	}
}

// meshWanted is the link to the other nodes.
func (w *world) meshWanted(f facts, h *netlab.Host) {
	for _, n := range w.nodes {
		four, six := w.meshAddr(n.number, false), w.meshAddr(n.number, true)
		mac := overlaynet.MAC(netip.MustParseAddr(four))
		if n.host == h {
			f.add("mesh: %s from %s", mac, h.Addr)
			f.add("mesh: has %s", four)
			f.add("mesh: has %s", six)
			for _, family := range []int{4, 6} {
				f.add("mesh: IPv%d rule of mark 0x1000", family)
			}
			continue
		}
		f.add("tunnels take from %s", n.host.Addr)
		f.add("mesh: mark of %s is %d", mac, n.number)
		f.add("mesh: way to %s by %s", mac, n.host.Addr)
		for i, a := range []string{four, six} {
			f.add("mesh: neighbour %s is %s", a, mac)
			f.add("mesh: back to %d through %s", n.number, a)
			f.add("mesh: IPv%d rule of mark 0x%x", 4+2*i, 0x1000+n.number)
		}
	}
}

// meshAddr is the address of a node on the mesh: the subnet's base and its number.
func (w *world) meshAddr(number int, six bool) string {
	for _, sn := range w.mesh.Subnets {
		if p := netip.MustParsePrefix(sn.CIDR); p.Addr().Is6() == six {
			a := p.Masked().Addr()
			for range number {
				a = a.Next()
			}
			return a.String()
		}
	}
	return fmt.Sprintf("no address of node %d", number)
}
