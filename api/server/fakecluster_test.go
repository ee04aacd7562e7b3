package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/runtimetest"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
	"github.com/dhow-project/dhow/volumes/volumestest"
)

// fleet is a cluster of servers in one process: each has an engine of its own
// and a TLS port, all share the cluster's state.
type fleet struct {
	stacks   *fakeStacks
	networks *fakeNetworks
	nodes    []*member // grows under mu until newFleet returns

	mu      sync.Mutex
	leader  string                      // guarded by mu; "" is none
	changed chan struct{}               // guarded by mu; closed and replaced when leader changes
	down    map[string]bool             // guarded by mu; as the cluster holds them
	cut     map[string]bool             // guarded by mu; nobody gets through to them
	silent  map[string]bool             // guarded by mu; connections are made and nothing comes back
	at      map[string]cluster.Location // guarded by mu; by name
	spec    map[string]cluster.NodeSpec // guarded by mu; by ID
	removed map[string]bool             // guarded by mu
	set     cluster.Settings            // guarded by mu
	version uint64                      // guarded by mu
	rotated []string                    // guarded by mu
	alone   bool                        // guarded by mu
}

// member is one node; it implements Cluster.
type member struct {
	*world
	f      *fleet
	id     string
	worker bool
	port   string
	onPut  func() error // asked before a stack is applied
}

// newFleet has node1..nodeN; node1 leads, the last one is a worker when there are more than two.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{stacks: newFakeStacks(), networks: newFakeNetworks(), leader: "node1", changed: make(chan struct{}), down: map[string]bool{},
		cut: map[string]bool{}, silent: map[string]bool{}, at: map[string]cluster.Location{}, spec: map[string]cluster.NodeSpec{}, removed: map[string]bool{}, version: 7}
	for i := range n {
		m := &member{f: f, id: fmt.Sprintf("node%d", i+1), worker: n > 2 && i == n-1}
		m.world = &world{engine: &echoEngine{Fake: runtimetest.NewFake(), ended: map[string]bool{}}, images: newFakeImages(), networks: f.networks, stacks: f.stacks}
		m.socket = filepath.Join(shortDir(t), "dhow.sock")
		h := New(Config{Engine: m.engine, Images: m.images, Networks: &sharedNetworks{f.networks, m}, Volumes: volumestest.New(t), Stacks: &sharedStacks{f.stacks, m}, Bus: m.engine.Bus, Cluster: m,
			Facts: Facts{Version: "0.1-test", NodeID: m.id, Hostname: "host" + m.id[4:], DataDir: "/var/lib/dhow", Runtimes: map[string]string{"runc": "runc"}}})
		m.listen(t, h)
		port := httptest.NewUnstartedServer(m.behindPort(Forwarded(h, func(r *http.Request) (string, bool) {
			peer := r.Header.Get("Test-Peer") // the real port knows it from the certificate
			return peer, peer != "nobody"
		})))
		port.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
		port.StartTLS()
		t.Cleanup(func() { port.CloseClientConnections(); port.Close() })
		f.mu.Lock()
		m.port = port.Listener.Addr().String()
		f.nodes = append(f.nodes, m)
		f.mu.Unlock()
	}
	return f
}

// behindPort holds requests up when the node is silent.
func (m *member) behindPort(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.f.is(m.f.silent, m.id) {
			_, _ = io.Copy(io.Discard, r.Body) // only then does a server notice that the client has gone
			<-r.Context().Done()
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (w *world) listen(t *testing.T, h http.Handler) {
	t.Helper()
	l, err := Listen(w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func (f *fleet) is(set map[string]bool, id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return set[id]
}

func (f *fleet) mark(set map[string]bool, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set[id] = true
}

// place says where a container is.
func (f *fleet) place(name string, at cluster.Location) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[name] = at
}

// settings are those that were set last.
func (f *fleet) settings() cluster.Settings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

// lead makes a node the leader; "" is nobody.
func (f *fleet) lead(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = id
	close(f.changed)
	f.changed = make(chan struct{})
}

func (m *member) Self() string { return m.id }
func (m *member) Local() cluster.LocalStatus {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	st := cluster.LocalStatus{Node: m.id, State: cluster.Joined, Manager: !m.worker, Advertise: "10.0.0." + m.id[4:] + ":2377"}
	if m.f.alone {
		st.State = cluster.Alone
	}
	st.Managers = []cluster.Peer{{ID: "node1", Addr: "10.0.0.1:2377"}}
	return st
}

func (m *member) Leader() (string, bool) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return m.f.leader, m.f.leader != ""
}

func (m *member) LeaderChanged() <-chan struct{} {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return m.f.changed
}

func (m *member) Peers() (out []cluster.Peer) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for _, o := range m.f.nodes {
		role := stack.RoleManager
		if o.worker {
			role = stack.RoleWorker
		}
		if o.id != m.id && !m.f.removed[o.id] {
			out = append(out, cluster.Peer{ID: o.id, Hostname: "host" + o.id[4:], Addr: o.port, Role: role, Down: m.f.down[o.id]})
		}
	}
	return out
}

func (m *member) Index() uint64 {
	m.f.stacks.mu.Lock()
	defer m.f.stacks.mu.Unlock()
	return m.f.stacks.index
}

func (m *member) Verify(context.Context) error {
	if leader, _ := m.Leader(); leader != m.id {
		return fmt.Errorf("verify: %w", cluster.ErrNotLeader)
	}
	return nil
}

func (m *member) Locate(ref string) (cluster.Location, bool) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	at, found := m.f.at[ref]
	return at, found && !m.worker
}

func (m *member) Dial(ctx context.Context, node string) (net.Conn, error) {
	if m.f.is(m.f.cut, node) {
		return nil, fmt.Errorf("dial %s: %w", node, cluster.ErrUnreachable)
	}
	for _, o := range m.f.nodes {
		if o.id == node {
			return (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", o.port) //nolint:gosec // a test
		}
	}
	return nil, fmt.Errorf("dial %s: %w", node, cluster.ErrUnreachable)
}

// stamped marks a connection's requests as the port's certificates do.
type stamped struct {
	m    *member
	node string
	rt   http.RoundTripper
}

func (s stamped) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Test-Peer", s.m.id)
	r.URL.Path = forwardPrefix + r.URL.Path
	return s.rt.RoundTrip(r)
}

func (m *member) Transport(node string) http.RoundTripper {
	return stamped{m, node, &http.Transport{DisableKeepAlives: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return m.Dial(ctx, node)
	}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return m.Dial(ctx, node) }}}
}

func (m *member) Init(_ context.Context, opt cluster.InitOptions) (string, error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if !m.f.alone {
		return "", fmt.Errorf("This node is already part of a swarm: %w", cluster.ErrInSwarm)
	}
	m.f.alone, m.f.set = false, opt.Settings
	m.f.rotated = append(m.f.rotated, fmt.Sprintf("init %s %s %s", opt.Listen, opt.Advertise, opt.Availability))
	return m.id, nil
}

func (m *member) Join(_ context.Context, opt cluster.JoinOptions) error {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.alone = false
	m.f.rotated = append(m.f.rotated, fmt.Sprintf("join %v %s", opt.Remotes, opt.Token))
	return nil
}

func (m *member) Leave(_ context.Context, force bool) error {
	if !force && !m.worker {
		return fmt.Errorf("You are attempting to leave the swarm on a node that is participating as a manager: %w", cluster.ErrInSwarm)
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.alone = true
	return nil
}

func (m *member) Swarm(context.Context) (cluster.Swarm, error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	return cluster.Swarm{ID: "cluster1", Created: 1, Version: m.f.version, Settings: m.f.set, Roots: []byte("-----BEGIN CERTIFICATE-----\n"),
		WorkerToken: fmt.Sprintf("DHOWTKN-1-worker-%d", m.f.version), ManagerToken: fmt.Sprintf("DHOWTKN-1-manager-%d", m.f.version)}, nil
}

func (m *member) UpdateSwarm(_ context.Context, version uint64, set cluster.Settings, rotate cluster.RotateTokens) error {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if version != 0 && version != m.f.version {
		return fmt.Errorf("update out of sequence: %w", runtime.ErrConflict)
	}
	m.f.version++
	m.f.set = set
	m.f.rotated = append(m.f.rotated, fmt.Sprintf("update %+v", rotate))
	return nil
}

func (m *member) RotateCA(context.Context, cluster.RotateCA) error {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.rotated = append(m.f.rotated, "ca")
	return nil
}

func (m *member) Nodes(context.Context) (out []cluster.NodeStatus, err error) {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for i, o := range m.f.nodes {
		if m.f.removed[o.id] {
			continue
		}
		n := cluster.NodeStatus{Version: uint64(10 + i), Leader: m.f.leader == o.id, Reachable: !m.f.down[o.id]}
		n.Node = stack.Node{ID: o.id, Hostname: "host" + o.id[4:], Role: stack.RoleManager, Addr: "10.0.0." + o.id[4:] + ":2377", Version: "0.1-test",
			OS: "linux", Architecture: "amd64", NanoCPUs: 2e9, Memory: 1 << 30, Down: m.f.down[o.id], Created: 1}
		if o.worker {
			n.Role = stack.RoleWorker
		}
		if spec, set := m.f.spec[o.id]; set {
			n.Role, n.Availability, n.Labels = spec.Role, spec.Availability, spec.Labels
		}
		out = append(out, n)
	}
	return out, nil
}

func (m *member) Node(ctx context.Context, ref string) (cluster.NodeStatus, error) {
	all, _ := m.Nodes(ctx)
	for _, n := range all {
		if n.ID == ref || n.Hostname == ref {
			return n, nil
		}
	}
	return cluster.NodeStatus{}, fmt.Errorf("node %s: %w", ref, runtime.ErrNotFound)
}

func (m *member) UpdateNode(ctx context.Context, ref string, _ uint64, spec cluster.NodeSpec) error {
	n, err := m.Node(ctx, ref)
	if err != nil {
		return err
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.spec[n.ID] = spec
	return nil
}

func (m *member) RemoveNode(ctx context.Context, ref string, force bool) error {
	n, err := m.Node(ctx, ref)
	if err != nil {
		return err
	}
	if !force && !n.Down {
		return fmt.Errorf("node %s is not down and can't be removed: %w", n.ID, runtime.ErrConflict)
	}
	m.f.mark(m.f.removed, n.ID)
	return nil
}

func (m *member) SaveSnapshot(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, strings.Repeat("snapshot", 100_000))
	return err
}

func (m *member) RestoreSnapshot(_ context.Context, r io.Reader) error {
	data, err := io.ReadAll(r)
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	m.f.rotated = append(m.f.rotated, fmt.Sprintf("restore %d", len(data)))
	return err
}

func (m *member) InspectSnapshot(context.Context, io.Reader) (cluster.SnapshotInfo, error) {
	return cluster.SnapshotInfo{Cluster: "cluster1", Index: 42, Nodes: 3}, nil
}

// sharedStacks refuses writes on nodes that do not lead, as consensus does.
type sharedStacks struct {
	*fakeStacks
	m *member
}

func (s *sharedStacks) Deploy(ctx context.Context, d cluster.Deployment) (*plan.Plan, uint64, error) {
	if leader, _ := s.m.Leader(); leader != s.m.id {
		return nil, 0, fmt.Errorf("apply: %w", cluster.ErrNotLeader)
	}
	if s.m.onPut != nil {
		if err := s.m.onPut(); err != nil {
			return nil, 0, err
		}
	}
	return s.fakeStacks.Deploy(ctx, d)
}

func (s *sharedStacks) RemoveStack(ctx context.Context, name string, opt cluster.RemoveOptions) error {
	if err := s.fakeStacks.RemoveStack(ctx, name, opt); err != nil || s.m.onPut == nil {
		return err
	}
	return s.m.onPut()
}

type sharedNetworks struct {
	*fakeNetworks
	m *member
}

func (s *sharedNetworks) CreateNetwork(ctx context.Context, n stack.Network) (stack.Network, error) {
	if s.m.onPut != nil {
		if err := s.m.onPut(); err != nil {
			return n, err
		}
	}
	return s.fakeNetworks.CreateNetwork(ctx, n)
}

func (f *fleet) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(slices.Clone(f.rotated), "; ")
}
