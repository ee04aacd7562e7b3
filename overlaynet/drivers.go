package overlaynet

import (
	"context"
	"io"
	"net/netip"
)

// Links is the kernel's links and namespaces; package link fits. Every call
// is safe to repeat and safe to make from several goroutines.
type Links interface {
	// SetSegment makes the bridge exist with its addresses.
	SetSegment(ctx context.Context, s Segment) error
	// RemoveSegment removes the bridge.
	RemoveSegment(ctx context.Context, s Segment) error
	// SetSandbox makes the namespace of id exist with these plugs. What is
	// there already is left untouched; it returns the namespace's path.
	SetSandbox(ctx context.Context, id string, plugs []Plug) (string, error)
	// Unplug takes one plug from a living sandbox.
	Unplug(ctx context.Context, id string, p Plug) error
	// Reroute makes the default routes of a living sandbox those of its plugs.
	Reroute(ctx context.Context, id string, plugs []Plug) error
	// RemoveSandbox removes the namespace and its links.
	RemoveSandbox(ctx context.Context, id string, plugs []Plug) error
	// Sweep removes every link and namespace with our mark that is not named
	// here. The mesh is SetMesh's.
	Sweep(ctx context.Context, segments []Segment, sandboxes map[string][]Plug) error
	// SetRemotes makes the containers of other nodes reachable through the
	// segment's tunnel: these and no others.
	SetRemotes(ctx context.Context, s Segment, remotes []Remote) error
	// SetMesh makes the link between nodes as m says; nil removes it.
	SetMesh(ctx context.Context, m *Mesh) error
	// Answers reports whether the machine behind an address answers, be it to
	// say that nobody listens there. It takes half a second at most.
	Answers(ctx context.Context, at netip.AddrPort) bool
	// Reset ends the TCP connections that these sandboxes have to addresses
	// where nobody is any more.
	Reset(ctx context.Context, sandboxes []string, addrs []netip.Addr) error
	// Forget drops tracked connections.
	Forget(ctx context.Context, f Flows) error
	// Avoid returns the address ranges that the host itself uses or has routes to.
	Avoid() ([]netip.Prefix, error)
	// BridgeFilter tells whether the packet filter can see what stays within
	// a bridge, which virtual addresses need.
	BridgeFilter() bool
	// UplinkMTU is the MTU of the link with the default route; 0: there is none.
	UplinkMTU() int
	// Run keeps spare namespaces ready and calls wake when a link of ours
	// has vanished, until ctx ends.
	Run(ctx context.Context, wake func()) error
}

// Flows selects tracked connections.
type Flows struct {
	Addrs []netip.Addr // from, to or answered by these
	UDP   []netip.Addr // the same, UDP only
	Ports []Frontend   // UDP to these, not translated: from before they were published
}

// Names is the resolver; package dns fits.
type Names interface {
	// SetZone serves a network's gateway addresses. ports tells where the
	// resolver of an address really listens when port 53 was taken.
	SetZone(z Zone) (ports map[netip.Addr]uint16, err error)
	RemoveZone(network string)
	SetHost(h Host) // by Sandbox and Network
	RemoveHost(sandbox, network string)
	SetService(s Service) // by Network and Service
	RemoveService(network, service string)
	Close() error
}

// Rules is the packet filter; package lb fits.
type Rules interface {
	// Apply changes the rules. The first call after New replaces whatever an
	// earlier process left, in the same transaction.
	Apply(ctx context.Context, c Change) error
	// Check compares the kernel with what was applied and repairs it whole.
	Check(ctx context.Context) (repaired bool, err error)
	// Warnings says what on this host stands in the way of the rules.
	Warnings() []string
	// Clear removes everything.
	Clear(ctx context.Context) error
	// Run calls wake when somebody else has changed the ruleset.
	Run(ctx context.Context, wake func()) error
}

// Ports reserves host ports; package lb fits.
type Ports interface {
	// Reserve keeps other processes from binding f until it is closed. A
	// taken port is a *PortTaken. Over IPv6 it also forwards what the kernel
	// cannot translate (::1, or every address when the container has IPv4
	// only) to the backends that the Forwarder is given.
	Reserve(f Frontend) (Reservation, error)
	// Ephemeral is the range that free ports are taken from.
	Ephemeral() (first, last uint16)
}

// Reservation of one host port.
type Reservation interface {
	io.Closer
	// Forward sets where connections that reach the reserved socket itself go.
	Forward(to []Backend)
}
