package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// openManager is a manager alone that lets others join.
func openManager(t *testing.T) *Manager {
	t.Helper()
	dir := t.TempDir()
	ring, err := seal.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(Config{DataDir: dir, Seal: ring, SealKeys: ring.Export})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.OpenCluster(t.Context(), stack.Node{ID: m.NodeID(), Addr: "10.0.0.1:2377"}, Settings{}); err != nil {
		t.Fatal(err)
	}
	return m
}

func machine() stack.Node {
	return stack.Node{
		Hostname: "db-1.example.org", Addr: "10.0.0.2:2377", Gossip: "[fd00::2]:7946", Version: "1.2.3+dirty", OS: "linux", Architecture: "amd64",
		NanoCPUs: 8e9, Memory: 16 << 30, Generic: map[string]int64{"NVIDIA-GPU": 2},
		EngineLabels: map[string]string{"rack": "left, 2nd from the door"},
	}
}

// nonsense are machines that do not exist, by what is wrong with them.
func nonsense() map[string]stack.Node {
	with := func(change func(*stack.Node)) stack.Node {
		n := machine()
		change(&n)
		return n
	}
	many, kinds := map[string]string{}, map[string]int64{}
	for i := range 1000 {
		many[fmt.Sprint("l", i)], kinds[fmt.Sprint("k", i)] = "v", 1
	}
	return map[string]stack.Node{
		"long host name":        with(func(n *stack.Node) { n.Hostname = strings.Repeat("h", 254) }),
		"terminal sequence":     with(func(n *stack.Node) { n.Hostname = "db\x1b[2J" }),
		"two words":             with(func(n *stack.Node) { n.Hostname = "db 1" }),
		"broken text":           with(func(n *stack.Node) { n.Hostname = "db\xff" }),
		"long version":          with(func(n *stack.Node) { n.Version = strings.Repeat("1", 129) }),
		"long architecture":     with(func(n *stack.Node) { n.Architecture = strings.Repeat("a", 4000) }),
		"address by name":       with(func(n *stack.Node) { n.Addr = "evil.example.org:2377" }),
		"no port":               with(func(n *stack.Node) { n.Addr = "10.0.0.2" }),
		"port 0":                with(func(n *stack.Node) { n.Addr = "10.0.0.2:0" }),
		"gossip nowhere":        with(func(n *stack.Node) { n.Gossip = "x" }),
		"negative CPUs":         with(func(n *stack.Node) { n.NanoCPUs = -1 }),
		"endless CPUs":          with(func(n *stack.Node) { n.NanoCPUs = math.MaxInt64 }),
		"negative memory":       with(func(n *stack.Node) { n.Memory = math.MinInt64 }),
		"endless memory":        with(func(n *stack.Node) { n.Memory = math.MaxInt64 }),
		"negative generic":      with(func(n *stack.Node) { n.Generic = map[string]int64{"gpu": -5} }),
		"generic without kind":  with(func(n *stack.Node) { n.Generic = map[string]int64{"": 5} }),
		"many generics":         with(func(n *stack.Node) { n.Generic = kinds }),
		"many labels":           with(func(n *stack.Node) { n.EngineLabels = many }),
		"large label":           with(func(n *stack.Node) { n.EngineLabels = map[string]string{"a": strings.Repeat("x", 1025)} }),
		"address with a zone":   with(func(n *stack.Node) { n.Addrs = []string{"fe80::1%" + strings.Repeat("z", 4000)} }),
		"data path with a zone": with(func(n *stack.Node) { n.DataAddr = "fe80::1%" + strings.Repeat("z", 4000) }),
		"label with a sequence": with(func(n *stack.Node) { n.EngineLabels = map[string]string{"a": "\x1b]0;x\x07"} }),
	}
}

func admission(t *testing.T, m *Manager, n stack.Node) Admission {
	t.Helper()
	s, err := m.Swarm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	csr, err := id.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	return Admission{Token: s.WorkerToken, CSR: csr, Node: n}
}

func TestMachinesThatDoNotExistAreRefused(t *testing.T) {
	m := openManager(t)
	p, err := m.Admit(t.Context(), admission(t, m, machine()))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Seal) > 0 {
		t.Error("a worker got the keys of the managers")
	}
	before := m.Index()
	for what, n := range nonsense() {
		if _, err := m.Admit(t.Context(), admission(t, m, n)); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: join: %v", what, err)
		}
		n.ID = p.Node
		if err := m.Hello(t.Context(), n); !errors.Is(err, runtime.ErrInvalid) {
			t.Errorf("%s: hello: %v", what, err)
		}
	}
	if m.Index() != before {
		t.Error("the state has changed")
	}
}

// A node that says no address would never be found to be down.
func TestANodeKeepsItsAddress(t *testing.T) {
	m := openManager(t)
	p, err := m.Admit(t.Context(), admission(t, m, machine()))
	if err != nil {
		t.Fatal(err)
	}
	silent := machine()
	silent.ID, silent.Addr, silent.Gossip, silent.Hostname = p.Node, "", "", "renamed"
	if err := m.Hello(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	n := m.store.Snapshot().Node(p.Node)
	if n.Addr != "10.0.0.2:2377" || n.Gossip != "[fd00::2]:7946" || n.Hostname != "renamed" {
		t.Errorf("%+v", n)
	}
}

// What only managers decide is not a node's to say.
func TestFactsAreNoDecisions(t *testing.T) {
	m := openManager(t)
	said := machine()
	said.ID, said.Role, said.Availability, said.Labels, said.Created, said.Edits = m.NodeID(), stack.RoleManager, stack.Drain, map[string]string{"zone": "mine"}, 1, 99
	p, err := m.Admit(t.Context(), admission(t, m, said))
	if err != nil {
		t.Fatal(err)
	}
	said.ID = p.Node
	if err := m.Hello(t.Context(), said); err != nil {
		t.Fatal(err)
	}
	n := m.store.Snapshot().Node(p.Node)
	if p.Node == m.NodeID() || n.Role != stack.RoleWorker || n.Availability != stack.Active || len(n.Labels) > 0 || n.Edits != 1 || n.Created == 1 {
		t.Errorf("%+v", n)
	}
	if !maps.Equal(n.Generic, said.Generic) {
		t.Errorf("%v", n.Generic)
	}
}

// A stranger without a token neither waits for commands nor makes them wait.
func TestStrangersDoNotStandInTheWay(t *testing.T) {
	m := openManager(t)
	a := admission(t, m, machine())
	a.Token = identity.NewToken(strings.Repeat("0", 64))
	m.write.Lock() // a command is under way
	defer m.write.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	refused := make(chan error, 1)
	go func() {
		_, err := m.Admit(ctx, a)
		refused <- err
	}()
	select {
	case err := <-refused:
		if !errors.Is(err, runtime.ErrForbidden) {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Error("a stranger waits for the state's lock")
	}
}

// Whoever gives up does not wait for a command that the leader's disk holds up.
func TestACommandThatIsGivenUpWaitsForNoOther(t *testing.T) {
	m := openManager(t)
	m.write.Lock() // the other one
	defer m.write.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- m.RemoveNetwork(ctx, "none") }()
	cancel()
	select {
	case err := <-given:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it still waits")
	}
}

func TestWhatWorkersMayAsk(t *testing.T) {
	m := openManager(t)
	worker := machine()
	worker.ID, worker.Role = "worker", stack.RoleWorker
	if _, err := m.propose(t.Context(), []state.Change{{Node: &worker}}); err != nil {
		t.Fatal(err)
	}
	for label, may := range map[string]bool{"": true, "all": true, "none": false} {
		if err := m.UpdateSwarm(t.Context(), 0, Settings{Labels: map[string]string{WorkerRequests: label}}, RotateTokens{}); err != nil {
			t.Fatal(err)
		}
		if got := m.MayAsk("worker"); got != may || m.Core().View().Workers != label {
			t.Errorf("%q: a worker may ask: %v; others are told %q", label, got, m.Core().View().Workers)
		}
		if !m.MayAsk(m.NodeID()) || m.MayAsk("stranger") {
			t.Errorf("%q: managers may always ask, strangers never", label)
		}
	}
	if err := m.UpdateSwarm(t.Context(), 0, Settings{Labels: map[string]string{WorkerRequests: "some"}}, RotateTokens{}); !errors.Is(err, runtime.ErrInvalid) {
		t.Errorf("some: %v", err)
	}
}
