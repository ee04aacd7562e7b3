package overlaynet

import "net/netip"

// Frontend is one published port.
type Frontend struct {
	Protocol string     // "tcp", "udp", "sctp"
	Addr     netip.Addr // 0.0.0.0, :: or one of the host's addresses
	Port     uint16
}

// Backend is where a published port leads.
type Backend struct {
	Addr   netip.Addr // of the frontend's family
	Port   uint16     // of a virtual address: 0, as asked for
	Remote bool       // over the mesh; of a virtual address: never set
}

// Virtual is a service's address in one network.
type Virtual struct {
	Network string // ID of the segment
	Addr    netip.Addr
}

// Pool is who answers for a virtual address, and how they share the work. An
// empty one refuses connections at once.
type Pool struct {
	Backends []Backend
	Sticky   bool // a client's connections go to one backend
}

// Inbound says from whom tunnels may receive.
type Inbound struct {
	Port  uint16              // UDP, of VXLAN
	Peers map[netip.Addr]bool // of the underlay
	Nodes map[netip.Addr]bool // all addresses of other nodes: what they ask of published ports
	Mesh  string              // device of the mesh; "": none
	Marks map[string]uint16   // hardware address on the mesh -> number of the node
}

// Change is a step of the rules: applied in one transaction.
type Change struct {
	Segments  map[string]*Segment    // by network ID; nil removes
	Frontends map[Frontend][]Backend // empty removes
	Resolvers map[netip.Addr]uint16  // gateway address -> port that answers DNS there; 0 removes
	Sticky    map[Frontend]bool      // of those in Frontends: a client's connections go to one backend
	Virtuals  map[Virtual]*Pool      // nil removes
	Locals    map[netip.Addr]bool    // addresses of this node's sandboxes, which may reach themselves through others; false removes
	Inbound   *Inbound               // nil: as it is
	Inlets    map[Frontend]bool      // published ports of this node's tasks, at the task's own address, ready or not: what the mesh may reach; false removes
}
