package server

import (
	"context"
	"io"
	"net"
	"net/http"

	"github.com/dhow-project/dhow/cluster"
)

// Cluster is this node's place among others. The first group answers from
// what the node has in memory and never blocks; the second acts on this node;
// the third is only called on a node that leads, or with reads that may be
// stale on any manager.
type Cluster interface {
	Self() string               // ID of this node
	Local() cluster.LocalStatus // what it knows of itself
	// Leader is the node that leads, as far as this one knows. On a node that
	// leads it is Self as long as it has not heard otherwise.
	Leader() (node string, known bool)
	// LeaderChanged is closed when Leader answers otherwise. Take it before asking.
	LeaderChanged() <-chan struct{}
	Peers() []cluster.Peer // all nodes but this, by ID
	Index() uint64         // of the last change applied here; 0 without a replicated state
	// Verify returns when everything that was acknowledged before the call can be
	// read here; ErrNotLeader when this node does not lead.
	Verify(ctx context.Context) error
	// Locate finds the container of a task by the container's ID, a unique
	// beginning of it, its name, or STACK-SERVICE-SLOT, in this node's copy of the state.
	Locate(ref string) (cluster.Location, bool)

	// Transport carries requests to a node's port; the URL's host does not
	// matter. Connections are kept. The path is the API's own: what has to stand
	// before it on the port is added. Errors wrap ErrUnreachable when nothing has been sent.
	Transport(node string) http.RoundTripper
	// Dial connects to a node's port for one request that is hijacked there. The
	// connection has CloseWrite, and NetConn down to the socket, if there is one.
	Dial(ctx context.Context, node string) (net.Conn, error)

	Init(ctx context.Context, opt cluster.InitOptions) (node string, err error)
	Join(ctx context.Context, opt cluster.JoinOptions) error
	Leave(ctx context.Context, force bool) error

	Swarm(ctx context.Context) (cluster.Swarm, error)
	// UpdateSwarm replaces the settings. A version other than the record's is ErrConflict; 0 is any.
	UpdateSwarm(ctx context.Context, version uint64, set cluster.Settings, rotate cluster.RotateTokens) error
	RotateCA(ctx context.Context, opt cluster.RotateCA) error // returns when the rotation has begun
	Nodes(ctx context.Context) ([]cluster.NodeStatus, error)  // by hostname, ID
	// Node finds a node by ID, "self", hostname or a unique beginning of its ID.
	// A name that fits several is ErrInvalid.
	Node(ctx context.Context, ref string) (cluster.NodeStatus, error)
	UpdateNode(ctx context.Context, ref string, version uint64, spec cluster.NodeSpec) error
	RemoveNode(ctx context.Context, ref string, force bool) error
	SaveSnapshot(ctx context.Context, w io.Writer) error
	RestoreSnapshot(ctx context.Context, r io.Reader) error
	InspectSnapshot(ctx context.Context, r io.Reader) (cluster.SnapshotInfo, error) // on any node
}
