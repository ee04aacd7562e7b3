package overlaynet

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"

	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Driver options that are honoured, in Docker's words.
const (
	optMTU         = "com.docker.network.driver.mtu"
	optBridge      = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optDefault     = "com.docker.network.bridge.default_bridge" // accepted: it means nothing here
	optPrefix      = "com.docker.network.container_iface_prefix"
	optSysctls     = "com.docker.network.endpoint.sysctls"
	optIfname      = "com.docker.network.endpoint.ifname"
)

// network is one network as the Manager keeps it.
type network struct {
	def     stack.Network
	seg     Segment
	ipam    *ipam.Network
	hostIP  netip.Addr // published ports without an address bind here; invalid: everywhere
	prefix  string     // of interface names: "eth"
	members map[string]bool

	up        keyLock               // held while the bridge is made or removed
	made      bool                  // guarded by up
	resolvers map[netip.Addr]uint16 // guarded by up
}

func (n *network) key() string { return networkKey(n.def) }

func networkKey(n stack.Network) string {
	if n.ID != "" {
		return n.ID
	}
	return n.Name
}

// CheckNetwork says whether a network can be made: known options, resolved
// or resolvable subnets. It wraps runtime.ErrInvalid.
func CheckNetwork(def stack.Network) error {
	_, err := newNetwork("dh", def)
	return err
}

func newNetwork(mark string, def stack.Network) (*network, error) {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("network %s: %s: %w", def.Name, fmt.Sprintf(format, args...), runtime.ErrInvalid)
	}
	switch def.Driver {
	case "", "bridge", "overlay", "default":
	default:
		return nil, invalid("driver %q has no containers of its own", def.Driver)
	}
	pool, err := ipam.NewNetwork(def.Name, def.Subnets)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	n := &network{def: def, ipam: pool, prefix: "eth", members: map[string]bool{}, up: newKeyLock()}
	n.seg = Segment{ID: networkKey(def), Name: def.Name, Bridge: bridgeName(mark, networkKey(def)), Gateways: pool.Gateways(), Internal: def.Internal, Masquerade: true}
	if def.EnableIPv4 != nil && !*def.EnableIPv4 {
		n.seg.Gateways = only6(n.seg.Gateways)
	}
	for _, k := range sortedKeys(def.DriverOpts) {
		v := def.DriverOpts[k]
		var err error
		switch k {
		case optMTU, "mtu":
			if n.seg.MTU, err = strconv.Atoi(v); err == nil && (n.seg.MTU < 68 || n.seg.MTU > 65535) {
				err = fmt.Errorf("%d is not an MTU", n.seg.MTU)
			}
		case optBridge:
			if n.seg.Bridge = v; v == "" || len(v) > 15 {
				err = fmt.Errorf("%q is not an interface name", v)
			}
		case optICC:
			var icc bool
			icc, err = strconv.ParseBool(v)
			n.seg.Separate = !icc
		case optMasquerade:
			n.seg.Masquerade, err = strconv.ParseBool(v)
		case optHostBinding:
			n.hostIP, err = netip.ParseAddr(v)
		case optPrefix:
			if n.prefix = v; v == "" || len(v) > 10 {
				err = fmt.Errorf("%q is not a prefix of interface names", v)
			}
		case optDefault:
		default:
			err = fmt.Errorf("not known")
		}
		if err != nil {
			return nil, invalid("driver option %s: %v", k, err)
		}
	}
	return n, nil
}

func only6(in []netip.Prefix) (out []netip.Prefix) {
	for _, p := range in {
		if p.Addr().Is6() {
			out = append(out, p)
		}
	}
	return out
}

// has tells whether containers get an address of the family.
func (n *network) has(v6 bool) bool {
	if v6 && !n.def.EnableIPv6 {
		return false
	}
	for _, g := range n.seg.Gateways {
		if g.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

func (n *network) gateway(v6 bool) netip.Addr {
	for _, g := range n.seg.Gateways {
		if g.Addr().Is6() == v6 {
			return g.Addr()
		}
	}
	return netip.Addr{}
}

func (n *network) zone() Zone {
	z := Zone{Network: n.key(), Name: n.def.Name, Internal: n.def.Internal}
	for _, g := range n.seg.Gateways {
		z.Gateways = append(z.Gateways, g.Addr())
	}
	return z
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
