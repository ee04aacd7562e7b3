package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// This file is what the API and the other parts of the daemon ask, wherever
// this machine stands. What needs the replicated state is answered by the
// Manager; on a worker it is refused, as the API passes such requests on.

// Self is the ID of this node.
func (n *Node) Self() string { return n.now().node }

// ClusterID is the ID of the cluster.
func (n *Node) ClusterID() string { return n.now().cluster }

// Local is what this node knows of itself.
func (n *Node) Local() cluster.LocalStatus {
	e := n.now()
	st := cluster.LocalStatus{Node: e.node, State: cluster.Alone, Manager: e.managing() != nil}
	m := e.memberNow()
	if m == nil {
		return st
	}
	st.State, st.Advertise, st.Listen, st.Error = cluster.Joined, e.advertised(m), m.Listen, e.problem()
	if st.Error != "" {
		st.State = cluster.Broken
	}
	for _, p := range e.heard() {
		if p.Role == stack.RoleManager {
			st.Managers = append(st.Managers, p)
		}
	}
	return st
}

// Leader is the node that leads, as far as this one knows.
func (n *Node) Leader() (string, bool) {
	l := n.now().leader()
	return l, l != ""
}

// LeaderChanged is closed when Leader may answer otherwise.
func (n *Node) LeaderChanged() <-chan struct{} {
	e := n.now()
	if m := e.managing(); m != nil {
		return m.LeaderChanged()
	}
	return e.client.Changed()
}

// Peers are all nodes but this one, by ID. Down are those that the cluster holds
// for dead; while no manager is known to lead, also those that this node takes
// for dead itself.
func (n *Node) Peers() []cluster.Peer { return n.now().heard() }

// Index of the last change applied here; 0 without a copy of the state.
func (n *Node) Index() uint64 {
	if m := n.Manager(); m != nil {
		return m.Index()
	}
	return 0
}

// Transport carries requests to a node's port, below /forward.
func (n *Node) Transport(node string) http.RoundTripper {
	e := n.now()
	return forward{e.port.HTTPClient(node).Transport, node}
}

// forward puts a request below /forward of a node.
type forward struct {
	next http.RoundTripper
	node string
}

func (f forward) RoundTrip(r *http.Request) (*http.Response, error) {
	c := r.Clone(r.Context())
	c.URL.Scheme, c.URL.Host, c.URL.Path = "http", f.node, "/forward"+r.URL.Path
	if r.URL.RawPath != "" {
		c.URL.RawPath = "/forward" + r.URL.RawPath
	}
	res, err := f.next.RoundTrip(c)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		err = fmt.Errorf("%w: %w", cluster.ErrUnreachable, err)
	}
	return res, err
}

// dialPatience bounds connecting to another node.
const dialPatience = 2 * time.Second

// Dial connects to a node's port for one request.
func (n *Node) Dial(ctx context.Context, node string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	c, err := n.now().port.Dial(ctx, node, "http/1.1")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrUnreachable, err)
	}
	return c, nil
}

// with calls f with the manager.
func with[T any](n *Node, f func(*cluster.Manager) (T, error)) (T, error) {
	m := n.Manager()
	if m == nil {
		var zero T
		return zero, fmt.Errorf("this node is a worker: %w", cluster.ErrNotLeader)
	}
	return f(m)
}

func do(n *Node, f func(*cluster.Manager) error) error {
	_, err := with(n, func(m *cluster.Manager) (struct{}, error) { return struct{}{}, f(m) })
	return err
}

// Verify returns when everything acknowledged before can be read here.
func (n *Node) Verify(ctx context.Context) error {
	return do(n, func(m *cluster.Manager) error { return m.Verify(ctx) })
}

// MayAsk reports whether requests that a node passes on to this one are to be answered.
func (n *Node) MayAsk(node string) bool {
	e := n.now()
	if m := e.managing(); m != nil && m.Known() {
		return m.MayAsk(node)
	}
	v := e.client.View()
	other, ok := v.Node(node)
	return ok && (other.Role == stack.RoleManager || v.Workers != "none")
}

// Locate finds the container of a task.
func (n *Node) Locate(ref string) (cluster.Location, bool) {
	if m := n.Manager(); m != nil {
		return m.Locate(ref)
	}
	return cluster.Location{}, false
}

// Swarm describes the cluster.
func (n *Node) Swarm(ctx context.Context) (cluster.Swarm, error) {
	return with(n, func(m *cluster.Manager) (cluster.Swarm, error) { return m.Swarm(ctx) })
}

// UpdateSwarm changes settings and tokens.
func (n *Node) UpdateSwarm(ctx context.Context, version uint64, set cluster.Settings, rotate cluster.RotateTokens) error {
	return do(n, func(m *cluster.Manager) error { return m.UpdateSwarm(ctx, version, set, rotate) })
}

// RotateCA begins to replace the root of the authority.
func (n *Node) RotateCA(ctx context.Context, opt cluster.RotateCA) error {
	return do(n, func(m *cluster.Manager) error { return m.RotateCA(ctx, opt) })
}

// Nodes returns all nodes.
func (n *Node) Nodes(ctx context.Context) ([]cluster.NodeStatus, error) {
	return with(n, func(m *cluster.Manager) ([]cluster.NodeStatus, error) { return m.Nodes(ctx) })
}

// Node finds one.
func (n *Node) Node(ctx context.Context, ref string) (cluster.NodeStatus, error) {
	return with(n, func(m *cluster.Manager) (cluster.NodeStatus, error) { return m.Node(ctx, ref) })
}

// UpdateNode changes what a person decides about a node.
func (n *Node) UpdateNode(ctx context.Context, ref string, version uint64, spec cluster.NodeSpec) error {
	return do(n, func(m *cluster.Manager) error { return m.UpdateNode(ctx, ref, version, spec) })
}

// RemoveNode forgets a node.
func (n *Node) RemoveNode(ctx context.Context, ref string, force bool) error {
	return do(n, func(m *cluster.Manager) error { return m.RemoveNode(ctx, ref, force) })
}

// SaveSnapshot writes the cluster's state.
func (n *Node) SaveSnapshot(ctx context.Context, w io.Writer) error {
	return do(n, func(m *cluster.Manager) error { return m.SaveSnapshot(ctx, w) })
}

// RestoreSnapshot replaces the cluster's state.
func (n *Node) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	return do(n, func(m *cluster.Manager) error { return m.RestoreSnapshot(ctx, r) })
}

// InspectSnapshot reads an archive.
func (n *Node) InspectSnapshot(_ context.Context, r io.Reader) (cluster.SnapshotInfo, error) {
	return cluster.InspectSnapshot(r)
}

// Deploy makes a stack the wish.
func (n *Node) Deploy(ctx context.Context, d cluster.Deployment) (*plan.Plan, uint64, error) {
	m := n.Manager()
	if m == nil {
		return nil, 0, fmt.Errorf("this node is a worker: %w", cluster.ErrNotLeader)
	}
	return m.Deploy(ctx, d)
}

// RemoveStack takes a stack down.
func (n *Node) RemoveStack(ctx context.Context, name string, opt cluster.RemoveOptions) error {
	return do(n, func(m *cluster.Manager) error { return m.RemoveStack(ctx, name, opt) })
}

// Control acts on services.
func (n *Node) Control(ctx context.Context, name string, action cluster.Action, opt cluster.ControlOptions) error {
	return do(n, func(m *cluster.Manager) error { return m.Control(ctx, name, action, opt) })
}

// Scale sets numbers of tasks.
func (n *Node) Scale(ctx context.Context, name string, counts map[string]int) error {
	return do(n, func(m *cluster.Manager) error { return m.Scale(ctx, name, counts) })
}

// ForgetVolume drops what is known of where a volume is.
func (n *Node) ForgetVolume(ctx context.Context, name string) error {
	return do(n, func(m *cluster.Manager) error { return m.ForgetVolume(ctx, name) })
}

// Stacks returns all stacks.
func (n *Node) Stacks() []cluster.StackStatus {
	if m := n.Manager(); m != nil {
		return m.Stacks()
	}
	return nil
}

// Stack returns one.
func (n *Node) Stack(name string) (cluster.StackStatus, error) {
	return with(n, func(m *cluster.Manager) (cluster.StackStatus, error) { return m.Stack(name) })
}

// StackSince returns one if it has changed.
func (n *Node) StackSince(name string, index uint64) (cluster.StackStatus, bool, error) {
	m := n.Manager()
	if m == nil {
		return cluster.StackStatus{}, false, fmt.Errorf("this node is a worker: %w", cluster.ErrNotLeader)
	}
	return m.StackSince(name, index)
}

// CreateNetwork adds a network made by hand.
func (n *Node) CreateNetwork(ctx context.Context, nw stack.Network) (stack.Network, error) {
	return with(n, func(m *cluster.Manager) (stack.Network, error) { return m.CreateNetwork(ctx, nw) })
}

// RemoveNetwork removes a network that no stack made or uses.
func (n *Node) RemoveNetwork(ctx context.Context, ref string) error {
	return do(n, func(m *cluster.Manager) error { return m.RemoveNetwork(ctx, ref) })
}

// NetworkView looks at a network as the managers know it.
func (n *Node) NetworkView(ref string) (stack.NetworkView, error) {
	return with(n, func(m *cluster.Manager) (stack.NetworkView, error) { return m.NetworkView(ref) })
}

// Network finds a network on any node.
func (n *Node) Network(ref string) (stack.Network, bool) {
	m, v := n.now().networks()
	if m != nil {
		return m.Network(ref)
	}
	return find(v, ref)
}

// Networks returns all networks, on any node.
func (n *Node) Networks() []stack.Network {
	m, v := n.now().networks()
	if m != nil {
		return m.Networks()
	}
	return v.Networks
}

// networks is who knows them: the manager that leads, and elsewhere what the
// leader has told this node, with its tasks. A manager that follows may be behind
// that: after a restart it would put a task into the network that was there before.
func (e *epoch) networks() (*cluster.Manager, dispatch.View) {
	v := e.client.View()
	if m := e.managing(); m != nil && (m.Leading() || v.Cluster == "") {
		return m, v
	}
	return nil, v
}

// find is the view's network of a name, an ID, or the unique beginning of one.
func find(v dispatch.View, ref string) (stack.Network, bool) {
	var found []stack.Network
	for _, nw := range v.Networks {
		if nw.Name == ref || nw.ID == ref {
			return nw, true
		}
		if ref != "" && len(nw.ID) > len(ref) && nw.ID[:len(ref)] == ref {
			found = append(found, nw)
		}
	}
	if len(found) != 1 {
		return stack.Network{}, false
	}
	return found[0], true
}
