package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// ranges gives each network one of its own.
type ranges struct{}

func (ranges) Pick(want stack.Network, beside cluster.Beside) (cluster.Picked, error) {
	n := len(beside.Networks) + 1
	return cluster.Picked{
		Subnets: []stack.Subnet{{CIDR: fmt.Sprintf("10.77.%d.0/24", n), Gateway: fmt.Sprintf("10.77.%d.1", n)}},
		Virtual: []string{fmt.Sprintf("10.78.%d.0/24", n)},
	}, nil
}

// host is a machine of a test, on an address of the loopback interface.
type host struct {
	t    *testing.T
	addr string
	cfg  Config
	node *Node
	stop func()

	mu     sync.Mutex
	plain  []string // guarded by mu
	listed func()   // guarded by mu: before plain is told; nil: nothing
	mtu    int      // guarded by mu
}

func newHost(t *testing.T, addr string) *host {
	h := &host{t: t, addr: addr, mtu: 1400, cfg: config(t.TempDir())}
	h.cfg.Manager = cluster.Config{Subnets: ranges{}}
	h.cfg.Plain = func() []string {
		h.mu.Lock()
		listed := h.listed
		h.mu.Unlock()
		if listed != nil {
			listed()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.Clone(h.plain)
	}
	h.cfg.MTU = func(a netip.Addr) int {
		h.mu.Lock()
		defer h.mu.Unlock()
		if a.String() != addr {
			return 0
		}
		return h.mtu
	}
	h.cfg.Addrs = func() ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("fd00::9"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("fd00::9")}, nil
	}
	h.cfg.Ranges = func() ([]netip.Prefix, error) {
		return []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("192.0.2.0/24")}, nil
	}
	h.cfg.Problems = func() []string {
		return []string{"a firewall\non " + addr, strings.Repeat("ä", 2000), "a firewall\non " + addr}
	}
	h.cfg.PortsTaken = func(list []stack.Port) []string { return []string{fmt.Sprint(len(list), " ports of ", addr)} }
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *host) start() {
	h.t.Helper()
	n, err := Open(h.t.Context(), h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	h.node = n
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := n.Close(); err != nil {
			h.t.Error(err)
		}
	})
}

// listen is where the machine listens, with a gossip port that is free.
func (h *host) listen() string {
	return net.JoinHostPort(h.addr, "2377")
}

// until waits for something that changes of the cluster bring.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	limit := time.After(time.Minute)
	for {
		changed := h.node.Changed()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-limit:
			h.t.Fatalf("%s: %s does not come", h.addr, what)
		}
	}
}

// two is a cluster of a manager and a worker.
func two(t *testing.T) (manager, worker *host) {
	manager, worker = joined(t, func(s cluster.Swarm) string { return s.WorkerToken })
	for _, h := range []*host{manager, worker} {
		h.until("both nodes", func() bool { v, member := h.node.View(); return member && len(v.Nodes) == 2 })
	}
	return manager, worker
}

// joined is a cluster of a manager and another node, whose role the token decides.
func joined(t *testing.T, token func(cluster.Swarm) string) (first, second *host) {
	t.Helper()
	first, second = newHost(t, "127.77.0.1"), newHost(t, "127.77.0.2")
	if _, err := first.node.Init(t.Context(), cluster.InitOptions{Listen: first.listen()}); err != nil {
		t.Skipf("SKIPPED: this machine cannot listen on %s: %v", first.listen(), err)
	}
	swarm, err := first.node.Swarm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.node.Join(t.Context(), cluster.JoinOptions{Listen: second.listen(), Remotes: []string{first.listen()}, Token: token(swarm)}); err != nil {
		t.Fatal(err)
	}
	return first, second
}

func ids(d *stack.Directory) string {
	if d == nil {
		return "nothing"
	}
	var out []string
	for _, e := range d.Endpoints {
		out = append(out, e.ID)
	}
	return strings.Join(out, " ")
}

// TestContainersEnterNetworksFromAnyNode: both nodes know all of a network that
// they are in, a node speaks for itself only, and what has gone while it was
// away is forgotten when it is back.
func TestContainersEnterNetworksFromAnyNode(t *testing.T) {
	one, two := two(t)
	if _, err := one.node.CreateNetwork(t.Context(), stack.Network{Name: "front", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	enter := func(h *host, id, name string) (stack.Endpoint, error) {
		return h.node.EnterNetwork(t.Context(), stack.Endpoint{ID: id, Network: "front", Name: name, Node: "somebody"})
	}
	a, err := enter(two, "c1", "first")
	if err != nil {
		t.Fatal(err)
	}
	b, err := enter(one, "c2", "second")
	if err != nil {
		t.Fatal(err)
	}
	if a.IPv4 == "" || b.IPv4 == "" || a.IPv4 == b.IPv4 || a.Node != two.node.Self() || b.Node != one.node.Self() {
		t.Errorf("got %+v and %+v", a, b)
	}
	if again, err := enter(two, "c1", "first"); err != nil || again.IPv4 != a.IPv4 {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	for _, h := range []*host{one, two} {
		h.until("both containers", func() bool { return ids(h.node.Directory("front")) == "c1 c2" })
	}
	if _, err := enter(one, "c1", "thief"); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("a container of another node: %v", err)
	}
	if _, err := enter(two, "c3", strings.Repeat("n", 300)); !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("a name that is too long: %v", err)
	}
	if _, err := two.node.EnterNetwork(t.Context(), stack.Endpoint{ID: "c3", Network: "nowhere"}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a network that is not there: %v", err)
	}
	if err := two.node.LeaveNetwork(t.Context(), "c2", "front"); err != nil {
		t.Errorf("a container of another node: %v", err)
	}
	if _, err := enter(two, "c4", "fourth"); err != nil {
		t.Fatal(err)
	}
	one.until("the fourth", func() bool { return ids(one.node.Directory("front")) == "c1 c2 c4" })
	if err := two.node.LeaveNetwork(t.Context(), "c4", "front"); err != nil {
		t.Fatal(err)
	}
	one.until("the fourth to be gone", func() bool { return ids(one.node.Directory("front")) == "c1 c2" })

	two.stop()
	two.start() // without c1
	one.until("c1 to be forgotten", func() bool { return ids(one.node.Directory("front")) == "c2" })
	two.until("it to be told nothing any more", func() bool { return two.node.Directory("front") == nil })
}

// TestDirectoriesAreThereWithoutManagers: a machine that starts while no manager
// answers knows what it knew, and says so when a container asks for more.
func TestDirectoriesAreThereWithoutManagers(t *testing.T) {
	one, two := two(t)
	if _, err := one.node.CreateNetwork(t.Context(), stack.Network{Name: "front", Attachable: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := two.node.EnterNetwork(t.Context(), stack.Endpoint{ID: "c1", Network: "front", Name: "first"}); err != nil {
		t.Fatal(err)
	}
	two.until("its own container", func() bool { return ids(two.node.Directory("front")) == "c1" })
	two.mu.Lock()
	two.plain = []string{"c1"}
	two.mu.Unlock()
	one.stop()
	two.stop() // writes what it knows
	two.start()
	if got := ids(two.node.Directory("front")); got != "c1" {
		t.Errorf("after a restart without managers the network has %s", got)
	}
	if v, member := two.node.View(); !member || len(v.Nodes) != 2 || v.Nodes[0].DataAddr == "" || v.Nodes[0].Number == 0 {
		t.Errorf("after a restart without managers: %+v", v.Nodes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := two.node.EnterNetwork(ctx, stack.Endpoint{ID: "c2", Network: "front"}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no manager") {
		t.Errorf("without a manager: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := two.node.EnterNetwork(t.Context(), stack.Endpoint{ID: "c3", Network: "front", Name: "third"})
		done <- err
	}()
	one.start()
	if err := <-done; err != nil {
		t.Errorf("a manager came back: %v", err)
	}
	two.until("both containers", func() bool { return ids(two.node.Directory("front")) == "c1 c3" })
}

// A manager that is back knows the networks that it was told of with its tasks,
// although its replica of the state has no leader yet to say what counts.
func TestAManagerThatIsBehindKnowsItsNetworks(t *testing.T) {
	one, two := joined(t, func(s cluster.Swarm) string { return s.ManagerToken })
	front, err := one.node.CreateNetwork(t.Context(), stack.Network{Name: "front", Attachable: true})
	if err != nil {
		t.Fatal(err)
	}
	told := func() bool {
		v, member := two.node.View()
		return member && slices.ContainsFunc(v.Networks, func(n stack.Network) bool { return n.ID == front.ID })
	}
	two.until("the network", told)
	one.stop()
	two.stop()
	two.start()
	if n, ok := two.node.Network("front"); !ok || n.ID != front.ID || n.VNI == 0 {
		t.Errorf("after a restart without a leader: %+v, %v", n, ok)
	}
	if list := two.node.Networks(); !slices.ContainsFunc(list, func(n stack.Network) bool { return n.ID == front.ID }) {
		t.Errorf("after a restart without a leader: %+v", list)
	}
}

// TestNodesTellOfTheirLinks at the start and when they are others, and of the
// ports of their processes when a manager asks.
func TestNodesTellOfTheirLinks(t *testing.T) {
	one, two := two(t)
	of := func(h *host) (n cluster.NodeStatus) {
		n, err := one.node.Node(t.Context(), h.node.Self())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, h := range []*host{one, two} {
		one.until("its links", func() bool {
			n := of(h)
			return n.DataAddr == h.addr && n.MTU == 1400 && slices.Equal(n.Ranges, []string{"192.0.2.0/24"}) && slices.Equal(n.Addrs, []string{"192.0.2.9", "fd00::9"}) && len(n.Problems) == 2 && n.Problems[0] == "a firewall on "+h.addr
		})
	}
	two.mu.Lock()
	two.mtu = 9000
	two.mu.Unlock()
	two.node.Moved()
	one.until("another MTU", func() bool {
		v, _ := one.node.View()
		n, _ := v.Node(two.node.Self())
		return n.MTU == 9000
	})
	ask := nodePorts{one.node.now()}
	for _, h := range []*host{one, two} {
		got, err := ask.PortsTaken(t.Context(), h.node.Self(), []stack.Port{{HostPort: 80}, {HostPort: 81}})
		if err != nil || !slices.Equal(got, []string{"2 ports of " + h.addr}) {
			t.Errorf("%s: %q, %v", h.addr, got, err)
		}
	}
	if got, err := (nodePorts{two.node.now()}).PortsTaken(t.Context(), one.node.Self(), nil); !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("a worker asks: %q, %v", got, err)
	}
}

// TestDataPathAddress is checked before anything changes.
func TestDataPathAddress(t *testing.T) {
	for in, want := range map[string]string{"": "", "127.0.0.1": "error", "0.0.0.0": "error", "203.0.113.9": "error", "no-such-link0": "error", "fe80::1%lo": "error"} {
		got, err := dataPath(in)
		if err != nil {
			got = "error"
			if !errors.Is(err, runtime.ErrInvalid) {
				t.Errorf("%q: %v is no word on what was given", in, err)
			}
		}
		if got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestRangesAreFew: those within others are left out, and the narrowest of too many.
func TestRangesAreFew(t *testing.T) {
	list := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.1.0.0/16")}
	if got := distinct(list); !slices.Equal(got, []string{"10.1.0.0/16", "fd00::/64"}) {
		t.Errorf("got %v", got)
	}
	for i := range 5000 {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 1}), 32))
	}
	if got := distinct(list); len(got) != maxRanges || !slices.Contains(got, "10.1.0.0/16") {
		t.Errorf("%d ranges", len(got))
	}
}
