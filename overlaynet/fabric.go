package overlaynet

import (
	"net/netip"

	"github.com/dhow-project/dhow/stack"
)

// Fabric is what lies under the networks. The zero Fabric is not known yet, and
// what there is of tunnels stays; a node alone is Known and has no peers.
type Fabric struct {
	Known bool
	Node  string          // this one's ID
	Port  uint16          // UDP, of VXLAN
	MTU   int             // bytes of a container's packets that fit into every node's link; 0: not known
	Peers map[string]Peer // by node ID, with this node; empty: it is alone
	Mesh  *stack.Network  // the ingress network; nil: there is none
}

// Peer is a node as others reach it.
type Peer struct {
	Addr    netip.Addr   // of the underlay
	Addrs   []netip.Addr // that it has besides, of either family: it may ask from each
	Number  uint16       // small, of this node alone; 0: none yet
	Down    bool
	Control netip.AddrPort // where its daemon listens for other nodes; invalid: not known
}

// Tunnel is the VXLAN device of a segment.
type Tunnel struct {
	Device string // interface name
	VNI    uint32
	Port   uint16     // UDP
	Local  netip.Addr // of the underlay; its family is that of the tunnel
}

// Remote is a container of another node.
type Remote struct {
	Addrs []netip.Addr
	MAC   string
	Via   netip.Addr // its node's, in the underlay
}

// Mesh is the link between nodes over which published ports reach tasks elsewhere.
type Mesh struct {
	Tunnel
	MTU    int                   // bytes
	Addrs  []netip.Prefix        // this node's own, one of each family at most
	Peers  map[uint16]MeshPeer   // by number, without this node
	Routes map[netip.Addr]uint16 // address of a task elsewhere -> number of its node
}

// MeshPeer is another node on the mesh.
type MeshPeer struct {
	Via   netip.Addr   // underlay
	Addrs []netip.Addr // on the mesh
	MAC   string       // of its device
}
