package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
)

// A change of a machine's place takes several files. These tests leave them as
// a kill -9 between any two of them does, and start again.

func config(dir string) Config {
	return Config{
		DataDir: dir, Facts: stack.Node{Hostname: "h", OS: "linux"},
		Agent: func(ctx context.Context, _, _ string, _ agent.Source) error { <-ctx.Done(); return ctx.Err() },
		Drop:  func(context.Context, string) error { return nil },
	}
}

// opened starts and stops a node, so that dir holds what a machine alone has.
func opened(t *testing.T, dir string) {
	t.Helper()
	n, err := Open(t.Context(), config(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// start opens a node and runs it until the test is over.
func start(t *testing.T, dir string) *Node {
	t.Helper()
	n, err := Open(t.Context(), config(dir))
	if err != nil {
		t.Fatalf("the daemon does not start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; ctx.Err() == nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// certify gives the machine of dir a certificate of another's cluster.
func certify(t *testing.T, dir, clusterID, node string, role stack.Role) {
	t.Helper()
	ca, err := identity.NewCA(clusterID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.OpenStore(filepath.Join(dir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := id.NewCSR()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(csr, identity.Peer{Node: node, Cluster: clusterID, Role: role}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Install(cert, ca.Roots); err != nil {
		t.Fatal(err)
	}
}

func TestKilledBetweenCertificateAndMembership(t *testing.T) {
	dir := t.TempDir()
	opened(t, dir)
	certify(t, dir, "other", "stranger", stack.RoleManager)
	n := start(t, dir)
	if _, has := n.id.Self(); has {
		t.Error("a machine alone keeps the certificate of a cluster that it never entered: it could never join again")
	}
	if st := n.Local(); st.State != cluster.Alone || !st.Manager {
		t.Errorf("%+v", st)
	}
}

func TestKilledWhileEnteringAsManager(t *testing.T) {
	dir := t.TempDir()
	opened(t, dir)
	certify(t, dir, "other", "stranger", stack.RoleManager)
	m := &member{Cluster: "other", Node: "stranger", Role: stack.RoleManager, Listen: "127.0.0.1:0", Advertise: "127.0.0.1:1", Gossip: "127.0.0.1:0", Entering: true}
	if err := writeMember(filepath.Join(dir, "node"), m); err != nil {
		t.Fatal(err)
	}
	n := start(t, dir)
	if n.Self() != "stranger" || n.Manager() == nil || n.Manager().Known() {
		t.Errorf("node %s, manager %v", n.Self(), n.Manager())
	}
	left, err := readMember(filepath.Join(dir, "node"))
	if err != nil || left.Entering {
		t.Errorf("%+v, %v: the next start would forget the state again", left, err)
	}
}

func TestKilledWhileLeaving(t *testing.T) {
	for what, forget := range map[string][]string{
		"nothing gone":           nil,
		"state gone":             {"cluster"},
		"state and papers gone":  {"cluster", "node/node.pem"},
		"all but the last gone":  {"cluster", "node/node.pem", "node/seal.json", "node/assignments.json"},
		"papers gone, state not": {"node/node.pem"},
	} {
		for _, role := range []stack.Role{stack.RoleManager, stack.RoleWorker} {
			t.Run(what+" "+string(role), func(t *testing.T) {
				dir := t.TempDir()
				opened(t, dir)
				if err := os.RemoveAll(filepath.Join(dir, "cluster")); err != nil {
					t.Fatal(err)
				}
				certify(t, dir, "other", "stranger", role)
				m := &member{Cluster: "other", Node: "stranger", Role: role, Listen: "127.0.0.1:0", Advertise: "127.0.0.1:1", Gossip: "127.0.0.1:0"}
				if err := writeMember(filepath.Join(dir, "node"), m); err != nil {
					t.Fatal(err)
				}
				opened(t, dir)
				m.Leaving = true
				if err := writeMember(filepath.Join(dir, "node"), m); err != nil {
					t.Fatal(err)
				}
				for _, path := range forget {
					if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
						t.Fatal(err)
					}
				}
				n := start(t, dir)
				for deadline := time.Now().Add(time.Minute); ; {
					changed := n.Changed()
					if n.Local().State == cluster.Alone {
						break
					}
					select {
					case <-changed:
					case <-time.After(time.Until(deadline)):
						t.Fatalf("it never becomes a machine alone: %+v", n.Local())
					}
				}
				if _, has := n.id.Self(); has || n.Self() == "stranger" {
					t.Error("something of the cluster has stayed")
				}
			})
		}
	}
}

// A worker has nothing of what only managers may have, also when it was one and
// the daemon was killed while it became a worker.
func TestAWorkerHasNothingOfAManager(t *testing.T) {
	dir := t.TempDir()
	opened(t, dir)
	ring, err := seal.Open(filepath.Join(dir, "node"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Seal([]byte("x"), "x"); err != nil { // makes the key
		t.Fatal(err)
	}
	certify(t, dir, "other", "stranger", stack.RoleWorker)
	m := &member{Cluster: "other", Node: "stranger", Role: stack.RoleWorker, Listen: "127.0.0.1:0", Advertise: "127.0.0.1:1", Gossip: "127.0.0.1:0"}
	if err := writeMember(filepath.Join(dir, "node"), m); err != nil {
		t.Fatal(err)
	}
	n := start(t, dir)
	if n.Manager() != nil {
		t.Error("it manages")
	}
	if keys := n.ring.Keys(); len(keys) > 0 {
		t.Errorf("it has the keys %v", keys)
	}
	for _, path := range []string{"cluster", "node/seal.json"} {
		if _, err := os.Stat(filepath.Join(dir, path)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
