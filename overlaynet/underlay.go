package overlaynet

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// standardPort is that of VXLAN (RFC 7348).
const standardPort = 4789

// followFabricLocked takes over how the other nodes are reached.
func (m *Manager) followFabricLocked(f Fabric) {
	if !f.Known || reflect.DeepEqual(f, m.fabric) {
		return
	}
	if f.Port == 0 {
		f.Port = standardPort
	}
	if reflect.DeepEqual(f, m.fabric) {
		return
	}
	m.fabric = f
	m.pending.mesh = true
	for _, n := range m.networks {
		m.lookAgainLocked(n)
	}
	m.lookAgainAtPublishedLocked()
}

// peerLocked is another node to which there is a way.
func (m *Manager) peerLocked(id string) (Peer, bool) {
	p, ok := m.fabric.Peers[id]
	local := m.underlayLocked()
	return p, ok && id != m.fabric.Node && local.IsValid() && p.Addr.IsValid() && p.Addr.Is4() == local.Is4()
}

// underlayLocked is this node's address among the nodes; invalid: it has none.
func (m *Manager) underlayLocked() netip.Addr { return m.fabric.Peers[m.fabric.Node].Addr }

// segmentOf is the segment as it is wanted now.
func (m *Manager) segmentOf(n *network) Segment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return n.seg
}

// shapeLocked makes the segment what fabric and directory want, and the plugs
// that are in it.
func (m *Manager) shapeLocked(n *network) {
	seg := n.seg
	seg.Tunnel, seg.Keep = nil, false
	if n.def.Spans() {
		if seg.Keep = !m.fabric.Known || n.dir == nil; len(n.hosts) > 0 {
			seg.Keep = false
			seg.Tunnel = &Tunnel{Device: tunnelName(m.mark, n.key()), VNI: uint32(n.def.VNI), Port: m.fabric.Port, Local: m.underlayLocked()}
		}
	}
	if seg.MTU = n.mtu; seg.MTU == 0 {
		seg.MTU = m.mtuLocked(n)
	}
	if reflect.DeepEqual(seg, n.seg) {
		return
	}
	resized := seg.MTU != n.seg.MTU
	n.seg = seg
	m.pending.segments[n] = true
	for id := range n.members {
		s := m.spaces[id]
		if s == nil {
			continue
		}
		for _, j := range s.joins {
			if j.net == n {
				j.plug.Segment = seg
			}
		}
		if resized && s.up {
			m.resized[id] = true
		}
	}
	if resized && len(m.resized) > 0 {
		signal(m.news)
	}
}

// minMTU6 is the least that IPv6 needs of a link (RFC 8200, section 5): below it
// the kernel takes the link's IPv6 addresses away. What is a little too large for
// the underlay is broken up over IPv4; over IPv6 it would be lost.
const minMTU6 = 1280

func (m *Manager) atLeastLocked(v6 bool) int {
	if v6 && m.underlayLocked().Is4() {
		return minMTU6
	}
	return 0
}

// mtuLocked is what fits without being broken up: through the uplink, and of
// networks that span nodes through their tunnels, but no less than their
// families need. 0: not known.
func (m *Manager) mtuLocked(n *network) int {
	switch {
	case n.def.Spans() && m.fabric.MTU != 0:
		return max(m.fabric.MTU, m.atLeastLocked(n.has(true)))
	case n.def.Spans() && !m.fabric.Known:
		return 0
	}
	return m.opt.Links.UplinkMTU()
}

// meshLocked is the link between nodes that published ports need; nil: there is none.
func (m *Manager) meshLocked() *Mesh {
	own := m.fabric.Peers[m.fabric.Node]
	if m.off || m.fabric.Mesh == nil || own.Number == 0 || !own.Addr.IsValid() {
		return nil
	}
	mesh := &Mesh{
		Tunnel: Tunnel{Device: MeshDevice(m.mark), VNI: uint32(m.fabric.Mesh.VNI), Port: m.fabric.Port, Local: own.Addr},
		MTU:    m.fabric.MTU, Addrs: meshAddrs(m.fabric.Mesh, own.Number), Peers: map[uint16]MeshPeer{}, Routes: map[netip.Addr]uint16{},
	}
	if mesh.MTU != 0 && len(mesh.Addrs) > 0 {
		mesh.MTU = max(mesh.MTU, m.atLeastLocked(mesh.Addrs[len(mesh.Addrs)-1].Addr().Is6()))
	}
	for id, p := range m.fabric.Peers {
		if id == m.fabric.Node || p.Number == 0 || !p.Addr.IsValid() || p.Addr.Is4() != own.Addr.Is4() {
			continue
		}
		addrs := bare(meshAddrs(m.fabric.Mesh, p.Number))
		if len(addrs) > 0 {
			mesh.Peers[p.Number] = MeshPeer{Via: p.Addr, Addrs: addrs, MAC: MAC(addrs[0])}
		}
	}
	for _, d := range m.behind {
		for _, a := range d.addrs {
			if d.number != 0 {
				mesh.Routes[a] = d.number
			}
		}
	}
	return mesh
}

// meshAddrs are a node's addresses on the mesh, IPv4 first: the subnet's base
// and its number.
func meshAddrs(def *stack.Network, number uint16) (out []netip.Prefix) {
	for _, s := range def.Subnets {
		p, err := netip.ParsePrefix(s.CIDR)
		if err != nil {
			continue
		}
		b := p.Masked().Addr().AsSlice()
		carry := uint32(number)
		for i := len(b) - 1; i >= 0 && carry > 0; i-- {
			carry += uint32(b[i])
			b[i] = byte(carry)
			carry >>= 8
		}
		if a, ok := netip.AddrFromSlice(b); ok && p.Contains(a) {
			out = append(out, netip.PrefixFrom(a, p.Bits()))
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return out
}

func bare(in []netip.Prefix) (out []netip.Addr) {
	for _, p := range in {
		out = append(out, p.Addr())
	}
	return out
}

// inboundLocked is from whom tunnels may receive: the nodes of the cluster,
// also those that are taken for down.
func (m *Manager) inboundLocked() Inbound {
	if m.off || !m.fabric.Known || len(m.fabric.Peers) < 2 {
		return Inbound{}
	}
	in := Inbound{Port: m.fabric.Port, Peers: map[netip.Addr]bool{}, Nodes: map[netip.Addr]bool{}}
	for id, p := range m.fabric.Peers {
		if id == m.fabric.Node {
			continue
		}
		if p.Addr.IsValid() {
			in.Peers[p.Addr], in.Nodes[p.Addr] = true, true
		}
		for _, a := range p.Addrs {
			in.Nodes[a] = true
		}
	}
	if mesh := m.meshLocked(); mesh != nil {
		in.Mesh, in.Marks = mesh.Device, map[string]uint16{}
		for number, p := range mesh.Peers {
			in.Marks[p.MAC] = number
		}
	}
	return in
}

// peerProblemsLocked says which nodes cannot be reached, and why.
func (m *Manager) peerProblemsLocked() (out []string) {
	if len(m.fabric.Peers) < 2 {
		return nil
	}
	local := m.underlayLocked()
	if !local.IsValid() {
		return []string{"this node has no address for traffic between containers: start its daemon with --data-path-addr"}
	}
	if local.Is6() && m.fabric.MTU > 0 && m.fabric.MTU < minMTU6 {
		out = append(out, fmt.Sprintf("the smallest link between the nodes leaves packets of %d bytes to containers: IPv6, which needs %d, does not work in networks over nodes; raise that link's MTU, or use IPv4 between the nodes (--data-path-addr)", m.fabric.MTU, minMTU6))
	}
	for _, id := range sortedKeys(m.fabric.Peers) {
		switch p := m.fabric.Peers[id]; {
		case id == m.fabric.Node:
		case !p.Addr.IsValid():
			out = append(out, fmt.Sprintf("node %s has no address for traffic between containers: start its daemon with --data-path-addr", id))
		case p.Addr.Is4() != local.Is4():
			out = append(out, fmt.Sprintf("node %s has %s for traffic between containers, and this one %s: both must be IPv4, or both IPv6", id, p.Addr, local))
		}
	}
	return out
}
