package overlaynet

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Sandbox is what one container wants of the network.
type Sandbox struct {
	ID          string             // the container's ID; names the namespace file
	Name        string             // the container's name, for messages
	Stack       string             // that it belongs to; "": none
	Attachments []stack.Attachment // Network is a real name or an ID
	DNSNames    []string           // its own names in each of its networks: container name, short ID, hostname
	Ports       []stack.Port
	PortGroup   string   // sandboxes of one group share fixed host ports and are balanced; "": none
	PublishAll  bool     // publish every port of Exposed on a free host port
	Exposed     []string // "80/tcp", "8000-8010/udp"
	DNS         []string // upstream resolvers instead of the host's
	DNSSearch   []string // recorded only: the engine writes resolv.conf
	DNSOptions  []string // recorded only: the engine writes resolv.conf
	None        bool     // a namespace with a loopback interface and nothing else
}

// Connected is how a sandbox came out.
type Connected struct {
	NetNS       string // path of the namespace
	Endpoints   []runtime.Endpoint
	Ports       []runtime.PortBinding
	Nameservers []string // for resolv.conf: the gateway that serves the sandbox's names; nil without networks
}

// Restored is a sandbox that exists.
type Restored struct {
	Sandbox
	Connected
	Ready bool // false: left out of shared names and balancing while others are ready
}

// Config is the desired network of one node. A sandbox without Endpoints gets
// addresses; one with Endpoints keeps them. The zero Config is nothing at all.
type Config struct {
	Sandboxes []Restored
}

// Source is the replicated state as far as networks go. All but Enter and Leave
// answer at once and never call the Manager.
type Source interface {
	Network(nameOrID string) (stack.Network, bool)
	Networks() []stack.Network
	// Changed returns a channel that is closed, or receives, when networks
	// may have changed since the call.
	Changed() <-chan struct{}

	// Fabric is how this node reaches the others now.
	Fabric() Fabric
	// Directory is what is known of a network by its name, or of published
	// ports ("" for a name); nil: nothing. The same pointer is the same content.
	Directory(network string) *stack.Directory
	// Enter gives a container without a task its addresses in a network that
	// spans nodes, and tells the other nodes of it. It may be repeated.
	Enter(ctx context.Context, e stack.Endpoint) (stack.Endpoint, error)
	// Leave takes such a container out of a network.
	Leave(ctx context.Context, id, network string) error
}

// Segment is one network as this node's kernel has it: a bridge.
type Segment struct {
	ID         string         // of the network
	Name       string         // of the network, for messages
	Bridge     string         // interface name
	Gateways   []netip.Prefix // the bridge's addresses with the subnets' lengths, IPv4 first
	Internal   bool
	Masquerade bool           // hide containers' addresses behind the node's
	Separate   bool           // no traffic between the containers of this network
	MTU        int            // bytes; 0: the kernel's default
	Virtual    []netip.Prefix // ranges of services' addresses, routed to the gateway by each sandbox
	Tunnel     *Tunnel        // to other nodes; nil: none of them has containers of this network
	Keep       bool           // Tunnel is not known yet: what there is of it stays as it is
}

// Has6 tells whether the segment has an IPv6 subnet.
func (s Segment) Has6() bool {
	return slices.ContainsFunc(s.Gateways, func(g netip.Prefix) bool { return g.Addr().Is6() })
}

// Plug is a sandbox's place in a segment.
type Plug struct {
	Segment   Segment
	Host      string         // name of the veth's end on the bridge
	Interface string         // name inside the sandbox: "eth0"
	MAC       string         // "02:42:ac:11:00:02"
	Addrs     []netip.Prefix // the first of each family is the endpoint's, the rest link-local extras
	Gateway4  netip.Addr     // default route through here; invalid: none
	Gateway6  netip.Addr
	Sysctls   map[string]string // of this interface: "net.ipv4.conf.eth0.arp_notify" -> "1"
}

// Zone is what the resolver knows of one network.
type Zone struct {
	Network  string // ID
	Name     string // for PTR answers: "web.shop_front"
	Gateways []netip.Addr
	Internal bool
	Forward  map[string][]string // domain to the resolvers that know it
}

// Host is one sandbox's names and addresses in one network.
type Host struct {
	Sandbox string // ID
	Network string // ID
	Addrs   []netip.Addr
	Service string   // that it belongs to: "shop/web"; "": none
	Remote  bool     // on another node: it asks nothing here
	Names   []string // its own, the first is the PTR answer
	Shared  []string // service names and aliases, answered with all ready sandboxes
	Ready   bool
	DNS     []string // upstream resolvers; nil: the host's
}

// Service is what the resolver knows of a service in one network. Names of a
// service with addresses are answered with those, "tasks." and the name with
// those of its hosts.
type Service struct {
	Network string       // ID
	Service string       // "shop/web"
	Addrs   []netip.Addr // virtual; none: the hosts' own (dnsrr)
	Names   []string
	Single  bool // its one host calls itself by its own address
}
