package link

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// meshState is what belongs to the mesh beside its device, as data: wanted, or
// found in the kernel.
type meshState struct {
	addrs  map[netip.Prefix]bool
	hosts  map[netip.Addr]mac // neighbours
	ways   map[mac]netip.Addr // to the node that has this address in the underlay
	routes map[meshRoute]meshHop
	rules  map[meshRule]bool
}

// meshRoute leads to the tasks of one address, or in a table of one peer to everything.
type meshRoute struct {
	table uint32
	dst   netip.Prefix
}

// meshHop is a peer's address on the mesh, and the device.
type meshHop struct {
	via   netip.Addr
	index int
}

// meshRule is a policy rule: packets whose mark is this, under the mask, look
// into the table, or go on at the rule of priority target. One with neither is
// a place to go on at.
type meshRule struct {
	v6                                  bool
	priority, mark, mask, table, target uint32
}

func newMeshState() meshState {
	return meshState{map[netip.Prefix]bool{}, map[netip.Addr]mac{}, map[mac]netip.Addr{}, map[meshRoute]meshHop{}, map[meshRule]bool{}}
}

func (s meshState) has6() bool {
	for a := range s.addrs {
		if a.Addr().Is6() {
			return true
		}
	}
	return false
}

// The tables and priorities of a node derive from its mark, so that what an
// earlier process has left is found; all carry our protocol number.
const (
	meshProtocol   = 0x44       // in the range that nobody is given (rtnetlink(7): above RTPROT_STATIC, below 186)
	meshTables     = 0x44 << 24 // and 12 bits of the mark, and 12 bits of the peer's number; 0 is the table of the tasks
	meshPriorities = 4096       // to 5119: before Tailscale's (5210), which may take everything; four for each of 256 marks
)

func markHash(mark string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(mark))
	return h.Sum32()
}

func meshTable(mark string, peer uint16) uint32 {
	return meshTables | markHash(mark)&0xfff<<12 | uint32(peer)
}

func meshPriority(mark string) uint32 { return meshPriorities + markHash(mark)&0xff*4 }

// ownsTable tells whether a table belongs to the mesh of the node with this mark.
func ownsTable(mark string, table uint32) bool { return table>>12 == meshTable(mark, 0)>>12 }

// meshWant is what m asks for. A peer that cannot be part of it is left out,
// and the error says why.
func (l *Links) meshWant(m *overlaynet.Mesh) (meshState, error) {
	s := newMeshState()
	var errs []error
	for _, a := range m.Addrs {
		s.addrs[a] = true
		s.addRules(l.mark, a.Addr().Is6(), m.Peers)
	}
	for n, p := range m.Peers {
		if err := s.addPeer(l.mark, n, p); err != nil {
			errs = append(errs, fmt.Errorf("mesh: node of number %d: %w", n, err))
		}
	}
	table := meshTable(l.mark, 0)
	for a, n := range m.Routes {
		for _, via := range m.Peers[n].Addrs {
			if via.Is4() == a.Is4() && s.hosts[via] != (mac{}) {
				s.routes[meshRoute{table, netip.PrefixFrom(a, a.BitLen())}] = meshHop{via: via}
			}
		}
	}
	return s, errors.Join(errs...)
}

// addRules adds those of one family. Packets without our bit, nearly all, pass
// one rule. No mark outlives the packet filter's last hook, so that the outer
// packets of tunnels, which inherit it, are never caught here.
func (s meshState) addRules(mark string, v6 bool, peers map[uint16]overlaynet.MeshPeer) {
	first := meshPriority(mark)
	s.rules[meshRule{v6: v6, priority: first, mask: overlaynet.MeshMark, target: first + 3}] = true
	s.rules[meshRule{v6: v6, priority: first + 1, mark: overlaynet.MeshMark, mask: overlaynet.MeshMask, table: meshTable(mark, 0)}] = true
	for n, p := range peers {
		for _, a := range p.Addrs {
			if a.Is6() == v6 && n > 0 && n <= overlaynet.MeshPeers {
				s.rules[meshRule{v6: v6, priority: first + 2, mark: overlaynet.MeshMark + uint32(n), mask: overlaynet.MeshMask, table: meshTable(mark, n)}] = true
			}
		}
	}
	s.rules[meshRule{v6: v6, priority: first + 3}] = true
}

func (s meshState) addPeer(mark string, n uint16, p overlaynet.MeshPeer) error {
	hw, err := net.ParseMAC(p.MAC)
	switch {
	case err != nil || len(hw) != len(mac{}):
		return fmt.Errorf("hardware address %q", p.MAC)
	case n == 0 || n > overlaynet.MeshPeers:
		return fmt.Errorf("published ports reach nodes of numbers 1 to %d only", overlaynet.MeshPeers)
	case !p.Via.IsValid():
		return errors.New("its address for traffic between containers is not known")
	}
	s.ways[mac(hw)] = p.Via
	for _, a := range p.Addrs {
		s.hosts[a] = mac(hw)
		s.routes[meshRoute{meshTable(mark, n), netip.PrefixFrom(zero(a), 0)}] = meshHop{via: a}
	}
	return nil
}

// zero is 0.0.0.0, or :: for an IPv6 address.
func zero(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// towards returns the steps from s to want on the device with this index:
// rules go first and come last, so that none leads to where nothing is.
func (s meshState) towards(want meshState, index int) (steps []step) {
	add := func(what string, st step) { st.what = what + ": " + st.what; steps = append(steps, st) }
	for r := range s.rules {
		if !want.rules[r] {
			add("remove", step{r.String(), ruleRequest(r, true), gone})
		}
	}
	for r := range s.routes {
		if _, ok := want.routes[r]; !ok {
			add("remove", step{"route " + r.dst.String(), meshRouteRequest(r, meshHop{}, true), gone})
		}
	}
	steps = append(steps, s.entriesTowards(want, index)...)
	for r, hop := range want.routes {
		hop.index = index
		if have, ok := s.routes[r]; !ok || have.via != hop.via || have.index != 0 && have.index != index {
			add("add", step{"route " + r.dst.String(), meshRouteRequest(r, hop, false), nil})
		}
	}
	for r := range want.rules {
		if !s.rules[r] {
			add("add", step{r.String(), ruleRequest(r, false), exists})
		}
	}
	return steps
}

// entriesTowards is towards for what the device itself has. What goes, goes
// after what comes: a peer that moves is never without.
func (s meshState) entriesTowards(want meshState, index int) (steps []step) {
	for a := range want.addrs {
		if !s.addrs[a] {
			steps = append(steps, step{"add address " + a.String(), address(index, a, false), nil})
		}
	}
	for m, via := range want.ways {
		if have, ok := s.ways[m]; !ok || have != via {
			if ok {
				steps = append(steps, step{"remove way to " + net.HardwareAddr(m[:]).String(), noWay(index, m, unix.NTF_SELF), gone})
			}
			steps = append(steps, step{"add way to " + net.HardwareAddr(m[:]).String(), meshWay(index, m, via), nil})
		}
	}
	for a, m := range want.hosts {
		if have, ok := s.hosts[a]; !ok || have != m {
			steps = append(steps, step{"add neighbour " + a.String(), neighbour(index, a, m), nil})
		}
	}
	if index == 0 {
		return steps // they go with the device
	}
	for a := range maps.Keys(s.hosts) {
		if _, ok := want.hosts[a]; !ok {
			steps = append(steps, step{"remove neighbour " + a.String(), noNeighbour(index, a), gone})
		}
	}
	for m := range s.ways {
		if _, ok := want.ways[m]; !ok {
			steps = append(steps, step{"remove way to " + net.HardwareAddr(m[:]).String(), noWay(index, m, unix.NTF_SELF), gone})
		}
	}
	for a := range s.addrs {
		if !want.addrs[a] {
			steps = append(steps, step{"remove address " + a.String(), address(index, a, true), gone})
		}
	}
	return steps
}
