package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"sort"
	"strings"

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
// more from the pools for each family that is wanted and has none.
func (s subnets) Pick(want stack.Network, used []stack.Network) ([]stack.Subnet, error) {
	if want.Driver == "host" || want.Driver == "none" || want.Driver == "null" {
		return nil, nil
	}
	taken, err := prefixes(used)
	if err != nil {
		return nil, err
	}
	avoid, err := s.avoid()
	if err != nil {
		return nil, err
	}
	out, has, err := asked(want.Subnets, taken, avoid)
	if err != nil {
		return nil, err
	}
	list := make([]netip.Prefix, 0, len(taken))
	for _, t := range taken {
		list = append(list, t.prefix)
	}
	for _, v6 := range []bool{false, true} {
		wanted := v6 && want.EnableIPv6 || !v6 && (want.EnableIPv4 == nil || *want.EnableIPv4)
		if !wanted || has[v6] {
			continue
		}
		p, err := ipam.PickSubnet(s.family(v6), list, avoid)
		if err != nil {
			return nil, err
		}
		out = append(out, stack.Subnet{CIDR: p.String()})
	}
	if out, err = withGateways(out); err != nil {
		return nil, err
	}
	want.Subnets = out
	if err := overlaynet.CheckNetwork(want); err != nil {
		return nil, unnamed{err, "network " + want.Name + ": "}
	}
	return out, nil
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
func asked(in []stack.Subnet, taken []holding, avoid []netip.Prefix) (out []stack.Subnet, has map[bool]bool, err error) {
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
				return nil, nil, fmt.Errorf("subnet %s overlaps %s of network %s: %w", p, t.prefix, t.network, runtime.ErrConflict)
			}
		}
		// A wider route (a VPN's 10.0.0.0/8) goes on to serve the rest; a
		// narrower one, or the same, would be cut off.
		for _, a := range avoid {
			if p.Overlaps(a) && a.Bits() >= p.Bits() {
				return nil, nil, fmt.Errorf("subnet %s would hide %s, which this host uses itself (ip addr, ip route): choose another: %w", p, a, runtime.ErrConflict)
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

// holding is a range that a network has.
type holding struct {
	prefix  netip.Prefix
	network string
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
	}
	sort.Slice(out, func(i, j int) bool { return out[i].prefix.Addr().Less(out[j].prefix.Addr()) })
	return out, nil
}

// family returns the pools of one family: the configured ones, else the
// default ones, which for IPv6 is this machine's own unique local range.
func (s subnets) family(v6 bool) []ipam.Pool {
	for _, pools := range [][]ipam.Pool{s.pools, ipam.DefaultPools(), {ipam.ULAPool(machineID())}} {
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

// machineID is what tells this machine from all others: machine-id(5), and
// the host's name where there is none.
func machineID() string {
	if b, err := os.ReadFile("/etc/machine-id"); err == nil && len(b) > 0 {
		return string(b)
	}
	name, _ := os.Hostname()
	return name
}
