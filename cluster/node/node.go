package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime/agent"
	"github.com/dhow-project/dhow/stack"
)

// Config of a Node.
type Config struct {
	DataDir    string
	Facts      stack.Node     // of this machine; ID, Role and the like are filled in
	Manager    cluster.Config // of this machine while it is a manager: Subnets, Images, Volumes, Host
	GossipPort int            // 0: DefaultGossipPort
	Log        *slog.Logger

	// Agent runs this machine's tasks until ctx ends.
	Agent func(ctx context.Context, node, cluster string, source agent.Source) error
	// Lease is the file that tells for how long containers of exclusive services
	// may run (package lease); those who start them look at it.
	Lease string
	// Drop removes the containers of a cluster's tasks from this machine.
	Drop func(ctx context.Context, cluster string) error
	// Inventory tells which images (IDs, digests and names) and volumes this
	// machine has, sorted. It is asked again after Refresh.
	Inventory func() (images, volumes []string, err error)
	// Plain are the containers without a task that this machine has in networks
	// which span nodes, by ID; nil: there are none, and never will be.
	Plain func() []string
	// PortsTaken says which host ports processes of this machine have that are no
	// containers, a sentence for each; nil: none.
	PortsTaken func([]stack.Port) []string
	// MTU of the link that has an address, in bytes; 0: none has it. Nil: not known.
	MTU func(netip.Addr) int
	// Ranges are the addresses that this machine itself uses or has routes to,
	// without those of its containers; nil: none.
	Ranges func() ([]netip.Prefix, error)
	// Addrs are this machine's own addresses by which others may see it, without
	// those of its containers' bridges; nil: not known.
	Addrs func() ([]netip.Addr, error)
	// Problems stand in the way of containers' traffic; nil: there are none.
	Problems func() []string
	// Ours tells the network interfaces that containers use; nil: none.
	Ours func(name string) bool
}

// Node is this machine's part in a cluster.
type Node struct {
	cfg  Config
	log  *slog.Logger
	dir  string // DataDir/node: identity, keys, member.json
	id   *identity.Store
	ring *seal.Ring

	turn  sync.Mutex      // held while the machine changes its place
	turns chan transition // to Run
	moved chan struct{}   // capacity 1: links, addresses or routes have changed

	mu      sync.Mutex // guards what follows
	epoch   *epoch
	handler http.Handler  // for the other nodes' requests; nil: none but the cluster's own
	changed chan struct{} // closed and replaced when the epoch's state or view changes
}

// transition is what happens between two epochs. It opens the next one.
type transition struct {
	do   func(ctx context.Context) error
	done chan error
}

// Open reads what this machine is and opens its part. Nothing runs before Run.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.GossipPort == 0 {
		cfg.GossipPort = DefaultGossipPort
	}
	n := &Node{cfg: cfg, log: cfg.Log, dir: filepath.Join(cfg.DataDir, "node"), turns: make(chan transition), moved: make(chan struct{}, 1), changed: make(chan struct{})}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if n.id, err = identity.OpenStore(n.dir); err != nil {
		return nil, fmt.Errorf("identity of this node: %w", err)
	}
	if n.ring, err = seal.Open(n.dir); err != nil {
		return nil, fmt.Errorf("keys of this node: %w", err)
	}
	m, err := readMember(n.dir)
	if err != nil {
		return nil, err
	}
	return n, n.begin(ctx, m)
}

// begin opens an epoch.
func (n *Node) begin(ctx context.Context, m *member) error {
	if err := n.tidy(m); err != nil {
		return err
	}
	e, err := n.openEpoch(ctx, m)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.epoch = e
	n.mu.Unlock()
	n.notify()
	return nil
}

// tidy removes what m is not to have. Changes of a machine's place take several
// files, and may be cut off between any two.
func (n *Node) tidy(m *member) error {
	switch {
	case m == nil:
		if _, certified := n.id.Self(); certified { // of a cluster that this machine had not entered yet
			return n.id.Clear()
		}
	case m.Entering:
		if err := errors.Join(os.RemoveAll(n.stateDir()), durable.Remove(filepath.Join(n.dir, "assignments.json"))); err != nil {
			return fmt.Errorf("enter the cluster: %w", err)
		}
		m.Entering = false
		return writeMember(n.dir, m)
	case m.Role == stack.RoleWorker: // it may have been a manager
		return errors.Join(os.RemoveAll(n.stateDir()), n.ring.Forget())
	}
	return nil
}

// stateDir is where a manager keeps the replicated state.
func (n *Node) stateDir() string { return filepath.Join(n.cfg.DataDir, "cluster") }

// Close closes what Open opened, after Run has returned.
func (n *Node) Close() error { return n.now().close() }

// now is the present epoch.
func (n *Node) now() *epoch {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.epoch
}

// Manager is this machine's copy of the replicated state; nil on a worker.
func (n *Node) Manager() *cluster.Manager { return n.now().managing() }

// Serve sets what answers the other nodes' requests.
func (n *Node) Serve(h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handler = h
}

// Changed is closed at the next change of what this machine knows of the cluster.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

func (n *Node) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Run does this machine's part until ctx ends. A leader hands over before.
func (n *Node) Run(ctx context.Context) error {
	if e := n.now(); e.memberNow() != nil && e.memberNow().Leaving {
		if err := e.depart(ctx, true); err != nil {
			n.log.Warn("leave without a word to the others", "error", err)
		}
		if err := n.swap(ctx, n.finishLeaving); err != nil {
			return err
		}
	}
	for {
		t, err := n.runEpoch(ctx, n.now())
		if t == nil {
			return err
		}
		old := n.now()
		t.done <- n.swap(ctx, t.do)
		if n.now() == old {
			return errNoEpoch
		}
	}
}

var errNoEpoch = errors.New("this node can be neither what it was nor what it was to be; the log says why")

// swap does a transition. When it fails and no epoch was opened, the one before is opened again.
func (n *Node) swap(ctx context.Context, do func(context.Context) error) error {
	old := n.now()
	if err := old.close(); err != nil {
		n.log.Error("close", "error", err)
	}
	err := do(ctx)
	if n.now() != old {
		return err
	}
	m, readErr := readMember(n.dir)
	if readErr == nil {
		readErr = n.begin(ctx, m)
	}
	if readErr != nil {
		n.log.Error("this node cannot go on as it was", "error", readErr)
	}
	return errors.Join(err, readErr)
}

// runEpoch runs an epoch until ctx ends, it fails, or a transition is asked for.
func (n *Node) runEpoch(ctx context.Context, e *epoch) (*transition, error) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- e.run(inner) }()
	select {
	case err := <-ended:
		return nil, err
	case t := <-n.turns:
		cancel()
		n.over(<-ended) // the transition begins when nothing of the epoch runs any more
		return &t, nil
	case <-ctx.Done():
		e.handOver()
		cancel()
		n.over(<-ended)
		return nil, ctx.Err()
	}
}

// over tells what an epoch ended with that was told to end: nobody else learns of it.
func (n *Node) over(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		n.log.Warn("this node's work did not end as it should", "error", err)
	}
}

// handOver lets another manager lead before this one ends, so that nobody has to
// find out that it has.
func (e *epoch) handOver() {
	m := e.managing()
	if m == nil || !m.Leading() || len(e.managers()) == 1 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewellTime)
	defer cancel()
	if err := m.HandOver(ctx); err != nil {
		e.log.Warn("hand over before the end", "error", err)
	}
}

// farewellTime bounds what a daemon that ends does for the others.
const farewellTime = 3 * time.Second

// transit asks Run for a transition and waits until it is over.
func (n *Node) transit(ctx context.Context, do func(context.Context) error) error {
	t := transition{do: do, done: make(chan error, 1)}
	select {
	case n.turns <- t:
		return <-t.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// askTimeout bounds a question to another node.
const askTimeout = 10 * time.Second
