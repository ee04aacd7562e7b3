package main

import (
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"
)

// rangeFlags are the addresses of a network that is to be made.
type rangeFlags struct {
	subnets, gateways, ranges, reserved []string
	options                             map[string]string
	driver                              string
}

func (f *rangeFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.subnets, "subnet", nil, "`SUBNET` of the network, IPv4 or IPv6 (default: a free one of the pools)")
	fl.StringSliceVar(&f.gateways, "gateway", nil, "`ADDRESS` of the gateway in its subnet (default: the first)")
	fl.StringSliceVar(&f.ranges, "ip-range", nil, "`SUBNET` within a subnet: addresses are taken from there")
	fl.StringSliceVar(&f.reserved, "aux-address", nil, "`NAME=ADDRESS` that is given to no container")
	fl.StringVar(&f.driver, "ipam-driver", "default", "there is default")
	fl.StringToStringVar(&f.options, "ipam-opt", nil, "KEY=VALUE; the driver default has none")
	mustHide(c, "ipam-driver")
	mustHide(c, "ipam-opt")
}

// ipam puts each address to the subnet that has it; nil when nothing was asked for.
func (f *rangeFlags) ipam() (*network.IPAM, error) {
	out := &network.IPAM{Driver: f.driver, Options: f.options}
	for _, text := range f.subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--subnet %s: use a subnet such as 10.20.0.0/24 or fd00:20::/64", text)
		}
		out.Config = append(out.Config, network.IPAMConfig{Subnet: p})
	}
	for _, text := range f.gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usagef("--gateway %s: use an IP address", text)
		}
		cfg := owner(out.Config, a)
		switch {
		case cfg == nil:
			return nil, usagef("--gateway %s: no --subnet has this address", text)
		case cfg.Gateway.IsValid():
			return nil, usagef("--gateway %s: subnet %s has the gateway %s already", text, cfg.Subnet, cfg.Gateway)
		}
		cfg.Gateway = a
	}
	for _, text := range f.ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--ip-range %s: use a subnet such as 10.20.0.128/25", text)
		}
		cfg := owner(out.Config, p.Masked().Addr())
		switch {
		case cfg == nil || p.Bits() < cfg.Subnet.Bits():
			return nil, usagef("--ip-range %s: it is not inside a --subnet", text)
		case cfg.IPRange.IsValid():
			return nil, usagef("--ip-range %s: subnet %s has the range %s already", text, cfg.Subnet, cfg.IPRange)
		}
		cfg.IPRange = p
	}
	if err := f.reserve(out.Config); err != nil {
		return nil, err
	}
	if out.Config == nil && f.driver == "default" && f.options == nil {
		return nil, nil
	}
	return out, nil
}

func (f *rangeFlags) reserve(all []network.IPAMConfig) error {
	for _, text := range f.reserved {
		name, addr, found := strings.Cut(text, "=")
		a, err := netip.ParseAddr(addr)
		if !found || name == "" || err != nil {
			return usagef("--aux-address %s: use NAME=ADDRESS", text)
		}
		cfg := owner(all, a)
		if cfg == nil {
			return usagef("--aux-address %s: no --subnet has this address", text)
		}
		if cfg.AuxAddress == nil {
			cfg.AuxAddress = map[string]netip.Addr{}
		}
		cfg.AuxAddress[name] = a
	}
	return nil
}

// owner is the subnet that has an address; nil: none.
func owner(all []network.IPAMConfig, a netip.Addr) *network.IPAMConfig {
	for i := range all {
		if all[i].Subnet.Masked().Contains(a) {
			return &all[i]
		}
	}
	return nil
}
