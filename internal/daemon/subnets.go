package daemon

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// subnets chooses address ranges that meet neither another network nor what
// the host itself reaches.
type subnets struct {
	pools []ipam.Pool // none of a family: the default ones
	avoid func() ([]netip.Prefix, error)
}

// Pick fits cluster.SubnetPicker: the subnets asked for, checked, and one
// more from the pools for each family that is wanted and has none; for a network
// that spans nodes also a range of virtual addresses for each family.
func (s subnets) Pick(want stack.Network, beside cluster.Beside) (cluster.Picked, error) {
	var picked cluster.Picked
	if want.Driver == "host" || want.Driver == "none" || want.Driver == "null" {
		return picked, nil
	}
	taken, err := prefixes(beside.Networks)
	if err != nil {
		return picked, err
	}
	avoid, err := s.avoided(beside.Nodes)
	if err != nil {
		return picked, err
	}
	out, has, err := asked(want.Subnets, taken, avoid)
	if err != nil {
		return picked, err
	}
	c := cutter{subnets: s, beside: beside, mesh: want.Name == stack.IngressNetwork, avoid: prefixesOf(avoid)}
	for _, t := range append(taken, holdings(out)...) {
		c.taken = append(c.taken, t.prefix)
	}
	for _, v6 := range []bool{false, true} {
		wanted := v6 && want.EnableIPv6 || !v6 && (want.EnableIPv4 == nil || *want.EnableIPv4)
		if wanted && !has[v6] {
			p, err := c.cut(v6)
			if err != nil {
				return picked, err
			}
			out = append(out, stack.Subnet{CIDR: p.String()})
		}
	}
	if picked.Subnets, err = withGateways(out); err != nil {
		return picked, err
	}
	want.Subnets = picked.Subnets
	if err := overlaynet.CheckNetwork(want); err != nil {
		return picked, unnamed{err, "network " + want.Name + ": "}
	}
	if want.Name == stack.LocalNetwork || c.mesh {
		return picked, nil
	}
	picked.Virtual, err = c.virtual(picked.Subnets)
	return picked, err
}

// cutter cuts ranges from the pools for one network.
type cutter struct {
	subnets
	beside cluster.Beside
	mesh   bool // of addresses of nodes, not of containers
	taken  []netip.Prefix
	avoid  []netip.Prefix
}

func (c *cutter) cut(v6 bool) (netip.Prefix, error) {
	pools := c.family(v6, c.beside)
	if c.mesh {
		pools = widened(pools)
	}
	p, err := ipam.PickSubnet(pools, c.taken, c.avoid)
	if err == nil {
		c.taken = append(c.taken, p)
	}
	return p, err
}

// virtual picks a range for each family of the subnets.
func (c *cutter) virtual(list []stack.Subnet) (out []string, err error) {
	families := map[bool]bool{}
	for _, h := range holdings(list) {
		families[h.prefix.Addr().Is6()] = true
	}
	for _, v6 := range []bool{false, true} {
		if !families[v6] {
			continue
		}
		p, err := c.cut(v6)
		if err != nil {
			return nil, fmt.Errorf("range of virtual addresses: %w", err)
		}
		out = append(out, p.String())
	}
	return out, nil
}

// meshBits is the size of the network between nodes where the pools have room
// for it: 16,000 of them.
const meshBits = 18

func widened(pools []ipam.Pool) []ipam.Pool {
	out := slices.Clone(pools)
	for i, p := range out {
		if p.Base.Addr().Is4() {
			out[i].Bits = min(p.Bits, max(meshBits, p.Base.Bits()))
		}
	}
	return out
}

// avoided is what this machine and the others use themselves.
func (s subnets) avoided(nodes map[string][]string) ([]holding, error) {
	own, err := s.avoid()
	if err != nil {
		return nil, err
	}
	var out []holding
	for _, p := range own {
		out = append(out, holding{p, "this host"})
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		for _, text := range nodes[name] {
			if p, err := netip.ParsePrefix(text); err == nil { // what it says of itself was checked
				out = append(out, holding{p.Masked(), "node " + name})
			}
		}
	}
	return out, nil
}

func prefixesOf(list []holding) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, h := range list {
		out[i] = h.prefix
	}
	return out
}

// unnamed is an error without the name of the network, which the caller adds.
type unnamed struct {
	error
	prefix string
}

func (e unnamed) Error() string { return strings.TrimPrefix(e.error.Error(), e.prefix) }
func (e unnamed) Unwrap() error { return e.error }

// asked checks the subnets that a person wrote down; has tells of which
// families they are.
func asked(in []stack.Subnet, taken, avoid []holding) (out []stack.Subnet, has map[bool]bool, err error) {
	has = map[bool]bool{}
	for _, sn := range in {
		if sn.CIDR == "" {
			if sn.Gateway != "" || sn.Range != "" || len(sn.Aux) > 0 {
				return nil, nil, fmt.Errorf("gateway, ip_range and aux_addresses need a subnet beside them: %w", runtime.ErrInvalid)
			}
			continue
		}
		p, err := netip.ParsePrefix(sn.CIDR)
		if err != nil {
			return nil, nil, fmt.Errorf("subnet %q: %w: %w", sn.CIDR, err, runtime.ErrInvalid)
		}
		p = p.Masked()
		for _, t := range taken {
			if p.Overlaps(t.prefix) {
				return nil, nil, fmt.Errorf("subnet %s overlaps %s of network %s: %w", p, t.prefix, t.owner, runtime.ErrConflict)
			}
		}
		// A wider route (a VPN's 10.0.0.0/8) goes on to serve the rest; a
		// narrower one, or the same, would be cut off.
		for _, a := range avoid {
			if p.Overlaps(a.prefix) && a.prefix.Bits() >= p.Bits() {
				return nil, nil, fmt.Errorf("subnet %s would hide %s, which %s uses itself (ip addr, ip route): choose another: %w", p, a.prefix, a.owner, runtime.ErrConflict)
			}
		}
		has[p.Addr().Is6()] = true
		sn.CIDR = p.String()
		out = append(out, sn)
	}
	return out, has, nil
}

// withGateways writes the default gateways down: the first address.
func withGateways(list []stack.Subnet) ([]stack.Subnet, error) {
	for i, sn := range list {
		if sn.Gateway == "" {
			p, err := netip.ParsePrefix(sn.CIDR)
			if err != nil {
				return nil, err
			}
			list[i].Gateway = p.Masked().Addr().Next().String()
		}
	}
	return list, nil
}

// holding is a range that somebody has.
type holding struct {
	prefix netip.Prefix
	owner  string // a network, or who else
}

func holdings(list []stack.Subnet) (out []holding) {
	for _, sn := range list {
		if p, err := netip.ParsePrefix(sn.CIDR); err == nil {
			out = append(out, holding{prefix: p})
		}
	}
	return out
}

func prefixes(networks []stack.Network) (out []holding, err error) {
	for _, n := range networks {
		for _, sn := range n.Subnets {
			p, err := netip.ParsePrefix(sn.CIDR)
			if err != nil {
				return nil, fmt.Errorf("network %s: subnet %q: %w", n.Name, sn.CIDR, err)
			}
			out = append(out, holding{p, n.Name})
		}
		for _, v := range n.Virtual {
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return nil, fmt.Errorf("network %s: range %q: %w", n.Name, v, err)
			}
			out = append(out, holding{p, n.Name})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].prefix.Addr().Less(out[j].prefix.Addr()) })
	return out, nil
}

// family returns the pools of one family: those of the cluster and then the
// configured ones, else the configured ones alone, else the default ones, which for IPv6 is the cluster's own
// unique local range.
func (s subnets) family(v6 bool, b cluster.Beside) []ipam.Pool {
	seed := b.Seed
	if seed == "" {
		seed = machineID()
	}
	own := clusterPools(b)
	if len(own) > 0 && !slices.Equal(s.pools, ipam.DefaultPools()) {
		own = append(own, s.pools...) // how a person enlarges them later
	}
	for _, pools := range [][]ipam.Pool{own, s.pools, ipam.DefaultPools(), {ipam.ULAPool(seed)}} {
		var out []ipam.Pool
		for _, p := range pools {
			if p.Base.Addr().Is6() == v6 {
				out = append(out, p)
			}
		}
		if out != nil {
			return out
		}
	}
	return nil
}

// clusterPools are those that a person gave the whole cluster.
func clusterPools(b cluster.Beside) (out []ipam.Pool) {
	for _, text := range b.Pools {
		p, err := netip.ParsePrefix(text)
		if err != nil { // was checked
			continue
		}
		bits := b.Size
		if bits == 0 {
			bits = 24
		}
		if p.Addr().Is6() {
			bits = 64
		}
		out = append(out, ipam.Pool{Base: p.Masked(), Bits: max(bits, p.Bits())})
	}
	return out
}

// machineID is what tells this machine from all others: machine-id(5), and
// the host's name where there is none.
func machineID() string {
	if b, err := os.ReadFile("/etc/machine-id"); err == nil && len(b) > 0 {
		return string(b)
	}
	name, _ := os.Hostname()
	return name
}
