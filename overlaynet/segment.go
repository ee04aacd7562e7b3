package overlaynet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"

	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// network is one network as the Manager keeps it.
type network struct {
	def     stack.Network
	seg     Segment // guarded by Manager.mu: its tunnel and MTU change
	ipam    *ipam.Network
	hostIP  netip.Addr      // published ports without an address bind here; invalid: everywhere
	prefix  string          // of interface names: "eth"
	mtu     int             // that its options ask for; 0: none
	members map[string]bool // guarded by Manager.mu

	dir       *stack.Directory                 // guarded by Manager.mu: the last that was followed; nil: none has come yet
	hosts     map[string]*distant              // guarded by Manager.mu: containers of other nodes, by endpoint ID
	byService index[*distant]                  // guarded by Manager.mu
	byAddr    map[netip.Addr]string            // guarded by Manager.mu: endpoint ID
	services  map[string]*stack.ServiceAddress // guarded by Manager.mu
	virtuals  map[netip.Addr]string            // guarded by Manager.mu: whose address
	groups    index[*space]                    // guarded by Manager.mu: containers of this node that are up
	live      bool                             // guarded by Manager.mu: the resolver and the rules know the network

	up        keyLock               // held while the bridge is made or removed; before Manager.mu
	made      bool                  // guarded by up
	begun     bool                  // guarded by up: something of it may be there, also when it is not made
	resolvers map[netip.Addr]uint16 // guarded by up
	forward   map[string][]string   // guarded by up: def's may have changed since
	sent      Segment               // guarded by up: what the kernel has
	remotes   []Remote              // guarded by up: what the kernel has, if told
	told      bool                  // guarded by up
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
	invalid := func(err error) error {
		return fmt.Errorf("network %s: %w: %w", def.Name, err, runtime.ErrInvalid)
	}
	switch def.Driver {
	case "", "bridge", "overlay", "default":
	default:
		return nil, invalid(fmt.Errorf("driver %q has no containers of its own", def.Driver))
	}
	if err := checkAddressing(def); err != nil {
		return nil, invalid(err)
	}
	pool, err := ipam.NewNetwork(def.Name, def.Subnets)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	n := &network{
		def: def, ipam: pool, prefix: "eth", members: map[string]bool{}, up: newKeyLock(), hosts: map[string]*distant{}, byService: index[*distant]{},
		byAddr: map[netip.Addr]string{}, services: map[string]*stack.ServiceAddress{}, virtuals: map[netip.Addr]string{}, groups: index[*space]{},
	}
	n.forward = def.Forward
	n.seg = Segment{ID: networkKey(def), Name: def.Name, Bridge: bridgeName(mark, networkKey(def)), Gateways: pool.Gateways(), Internal: def.Internal, Masquerade: true}
	if err := n.options(def.DriverOpts); err != nil {
		return nil, invalid(err)
	}
	for _, v := range def.Virtual {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, invalid(fmt.Errorf("range of virtual addresses: %w", err))
		}
		n.seg.Virtual = append(n.seg.Virtual, p)
	}
	return n, nil
}

// checkAddressing refuses what would otherwise be ignored.
func checkAddressing(def stack.Network) error {
	v4, v6 := def.EnableIPv4 == nil || *def.EnableIPv4, def.EnableIPv6
	if !v4 && !v6 {
		return errors.New("neither IPv4 nor IPv6 is enabled: containers would have no address; network_mode none is for that")
	}
	for _, sn := range def.Subnets {
		p, err := netip.ParsePrefix(sn.CIDR)
		switch {
		case err != nil: // said by ipam
		case p.Addr().Is6() && !v6:
			return fmt.Errorf("subnet %s is IPv6, which is not enabled: add enable_ipv6: true", p)
		case p.Addr().Is4() && !v4:
			return fmt.Errorf("subnet %s is IPv4, which is disabled: remove enable_ipv4: false", p)
		}
	}
	if d := def.IPAMDriver; d != "" && d != "default" {
		return fmt.Errorf("ipam driver %q is not known: there is default", d)
	}
	for _, k := range sortedKeys(def.IPAMOpts) {
		return fmt.Errorf("ipam option %s is not known: the default driver has none", k)
	}
	return nil
}

// has tells whether containers get an address of the family.
func (n *network) has(v6 bool) bool { return n.gateway(v6).IsValid() }

// gateway is the first of the family.
func (n *network) gateway(v6 bool) netip.Addr {
	for _, g := range n.seg.Gateways {
		if g.Addr().Is6() == v6 {
			return g.Addr()
		}
	}
	return netip.Addr{}
}

func (n *network) hasGateway(p netip.Prefix) bool {
	return slices.ContainsFunc(n.seg.Gateways, func(g netip.Prefix) bool { return g.Addr() == p.Addr() })
}

func (n *network) isMade() bool {
	n.up.Lock()
	defer n.up.Unlock()
	return n.made
}

// gatewayOf is the one in the subnet of a container's address.
func (n *network) gatewayOf(p netip.Prefix) netip.Addr {
	for _, g := range n.seg.Gateways {
		if p.IsValid() && g.Masked() == p.Masked() {
			return g.Addr()
		}
	}
	return netip.Addr{}
}

func (n *network) zone() Zone {
	z := Zone{Network: n.key(), Name: n.def.Name, Internal: n.def.Internal, Forward: n.forward}
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
