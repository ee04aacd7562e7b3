package daemon

import (
	"fmt"
	"net/netip"

	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/stack"
)

// subnets chooses address ranges that meet neither another network nor what
// the host itself reaches.
type subnets struct {
	pools []ipam.Pool
	avoid func() ([]netip.Prefix, error)
}

// Pick fits cluster.SubnetPicker.
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
	out := append([]stack.Subnet(nil), want.Subnets...)
	has := map[bool]bool{} // family -> a subnet was asked for
	for i, sn := range out {
		if sn.CIDR == "" {
			continue
		}
		p, err := netip.ParsePrefix(sn.CIDR)
		if err != nil {
			return nil, fmt.Errorf("subnet %q: %w", sn.CIDR, err)
		}
		for other, name := range taken {
			if p.Overlaps(other) {
				return nil, fmt.Errorf("subnet %s overlaps %s of network %s", p, other, name)
			}
		}
		has[p.Addr().Is6()] = true
		out[i].CIDR = p.Masked().String()
	}
	out = withoutEmpty(out)
	list := make([]netip.Prefix, 0, len(taken))
	for p := range taken {
		list = append(list, p)
	}
	for _, v6 := range []bool{false, true} {
		wanted := v6 && want.EnableIPv6 || !v6 && (want.EnableIPv4 == nil || *want.EnableIPv4)
		if !wanted || has[v6] {
			continue
		}
		p, err := ipam.PickSubnet(family(s.pools, v6), list, avoid)
		if err != nil {
			return nil, err
		}
		out = append(out, stack.Subnet{CIDR: p.String()})
	}
	return withGateways(out)
}

func withoutEmpty(in []stack.Subnet) []stack.Subnet {
	var out []stack.Subnet
	for _, s := range in {
		if s.CIDR != "" {
			out = append(out, s)
		}
	}
	return out
}

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

func prefixes(networks []stack.Network) (map[netip.Prefix]string, error) {
	out := map[netip.Prefix]string{}
	for _, n := range networks {
		for _, sn := range n.Subnets {
			p, err := netip.ParsePrefix(sn.CIDR)
			if err != nil {
				return nil, fmt.Errorf("network %s: subnet %q: %w", n.Name, sn.CIDR, err)
			}
			out[p] = n.Name
		}
	}
	return out, nil
}

func family(pools []ipam.Pool, v6 bool) []ipam.Pool {
	var out []ipam.Pool
	for _, p := range pools {
		if p.Base.Addr().Is6() == v6 {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		for _, p := range ipam.DefaultPools() {
			if p.Base.Addr().Is6() == v6 {
				out = append(out, p)
			}
		}
	}
	return out
}
