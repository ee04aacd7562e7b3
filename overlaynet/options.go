package overlaynet

import (
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
)

// Driver options that are honoured, in Docker's words.
const (
	optMTU         = "com.docker.network.driver.mtu"
	optBridge      = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	optDefault     = "com.docker.network.bridge.default_bridge" // accepted: it means nothing here
	optPrefix      = "com.docker.network.container_iface_prefix"
	optSysctls     = "com.docker.network.endpoint.sysctls"
	optIfname      = "com.docker.network.endpoint.ifname"
)

// networkOptions sets what a network's driver option says; the error says
// what is wrong with the value.
var networkOptions = map[string]func(n *network, v string) error{
	optMTU: (*network).setMTU,
	"mtu":  (*network).setMTU,
	optBridge: func(n *network, v string) error {
		n.seg.Bridge = v
		return checkInterfaceName(v)
	},
	optICC: func(n *network, v string) error {
		icc, err := boolean(v)
		n.seg.Separate = !icc
		return err
	},
	optMasquerade: func(n *network, v string) (err error) {
		n.seg.Masquerade, err = boolean(v)
		return err
	},
	optHostBinding: func(n *network, v string) (err error) {
		if n.hostIP, err = netip.ParseAddr(v); err != nil || !n.hostIP.Is4() {
			return fmt.Errorf("%q is not an IPv4 address", v)
		}
		return nil
	},
	optMode4: gatewayMode,
	optMode6: gatewayMode,
	optPrefix: func(n *network, v string) error {
		if n.prefix = v; len(v) > 10 {
			return fmt.Errorf("%q leaves no room for a number in the 15 characters of an interface name", v)
		}
		return checkInterfaceName(v)
	},
	optDefault: func(*network, string) error { return nil },
}

func (n *network) options(opts map[string]string) error {
	for _, k := range sortedKeys(opts) {
		set := networkOptions[k]
		if set == nil {
			known := make([]string, 0, len(networkOptions))
			for name := range networkOptions {
				known = append(known, name)
			}
			sort.Strings(known)
			return fmt.Errorf("driver option %s is not honoured; these are: %s", k, strings.Join(known, ", "))
		}
		if err := set(n, opts[k]); err != nil {
			return fmt.Errorf("driver option %s: %w", k, err)
		}
	}
	return nil
}

func (n *network) setMTU(v string) error {
	mtu, err := strconv.Atoi(v)
	switch {
	case err != nil || mtu < 68 || mtu > 65535: // RFC 791, and the kernel's limit for veth
		return fmt.Errorf("%q is not an MTU: want 68 to 65535 bytes", v)
	case mtu < minMTU6 && n.has(true):
		return fmt.Errorf("%d bytes are too few for IPv6, which needs %d", mtu, minMTU6)
	}
	n.mtu = mtu
	return nil
}

func gatewayMode(_ *network, v string) error {
	switch v {
	case "", "nat":
		return nil
	case "isolated":
		return errors.New("isolated is not honoured; internal: true keeps a network from the outside")
	case "routed", "nat-unprotected":
		return fmt.Errorf("%s is not honoured, nat is; enable_ip_masquerade \"false\" keeps the containers' own addresses on the way out", v)
	}
	return fmt.Errorf("%q is not a mode; nat is honoured", v)
}

func boolean(v string) (bool, error) {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", v)
	}
	return b, nil
}

// checkInterfaceName follows dev_valid_name of the kernel.
func checkInterfaceName(v string) error {
	if v == "" || len(v) > 15 || v == "." || v == ".." || strings.ContainsAny(v, "/: \t\n\v\f\r%") {
		return fmt.Errorf("%q is not an interface name: want 1 to 15 characters without spaces, slashes and colons", v)
	}
	return nil
}
