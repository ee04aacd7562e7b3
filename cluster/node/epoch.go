package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/cluster/gossip"
	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/stack"
)

// epoch is the time in which this machine belongs to one cluster under one ID.
type epoch struct {
	n       *Node
	log     *slog.Logger
	node    string // ID
	cluster string // ID
	port    *port.Port
	stock   inventory // of the nodes, while this one leads

	mu      sync.Mutex                // guards what follows
	client  *dispatch.Client          // set once, by openEpoch
	member  *member                   // nil: solo
	manager *cluster.Manager          // nil on a worker
	server  *dispatch.Server          // of manager
	gossip  *gossip.Gossip            // nil: solo
	group   *errgroup.Group           // of run; nil while it does not run
	ctx     context.Context           // of run
	began   chan struct{}             // closed and replaced when manager or gossip change
	trouble string                    // why others cannot reach this machine; "": they can
	entered map[place]*stack.Endpoint // by containers without a task; nil: on its way
	leaving map[place]bool            // that no leader could be told of
	facts   stack.Node                // of its links and troubles, as it last said them
	telling chan struct{}             // closed when the leader has been told of all of them; nil: it is not being told

	stopManaging context.CancelFunc // ends what goManage started; nil: nothing
	managed      chan struct{}      // closed when that has ended
}

// openEpoch opens what a machine needs as a member, or as a machine alone.
func (n *Node) openEpoch(ctx context.Context, m *member) (_ *epoch, err error) {
	e := &epoch{n: n, log: n.log, member: m, began: make(chan struct{}), entered: map[place]*stack.Endpoint{}, leaving: map[place]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if m == nil {
		if e.node, err = cluster.SoloID(n.cfg.DataDir); err != nil {
			return nil, err
		}
	} else {
		e.node, e.cluster = m.Node, m.Cluster
	}
	e.port = port.New(port.Config{Node: e.node, Identity: n.id, Book: e, Authorize: e.authorize, Log: n.log.With("part", "port")})
	e.port.HandleHTTP(e.handler())
	leaving := m != nil && m.Leaving // all that is left to do is to forget
	if (m == nil || m.Role == stack.RoleManager) && !leaving {
		if err := e.openManager(ctx); err != nil {
			return nil, err
		}
		if m == nil {
			e.cluster = e.manager.ID()
		}
	}
	client := dispatch.NewClient(dispatch.ClientConfig{
		Node: e.node, Cluster: e.cluster, Dial: e.dialSession, Managers: e.managers, Local: e.local, Wake: e.wake, Describe: e.describe,
		Cache: filepath.Join(n.dir, "assignments.json"), Log: n.log.With("part", "session"),
	})
	e.mu.Lock()
	e.client = client
	e.mu.Unlock()
	if m != nil && !leaving {
		if err := e.listen(); err != nil { // it goes on: the address may come back
			e.log.Error("not reachable for other nodes", "error", err)
		}
	}
	return e, nil
}

// openManager opens the replicated state.
func (e *epoch) openManager(ctx context.Context) error {
	if m := e.memberNow(); m != nil && m.Force {
		if err := e.force(); err != nil {
			return err
		}
	}
	cfg := e.n.cfg.Manager
	cfg.DataDir, cfg.NodeID, cfg.Node = e.n.cfg.DataDir, e.node, e.n.cfg.Facts
	cfg.Stream, cfg.Join, cfg.Seal, cfg.SealKeys = e.port.Raft(), e.memberNow() != nil, e.n.ring, e.n.ring.Export
	cfg.Life, cfg.Ports = life{e}, nodePorts{e}
	e.stock.self = e.node
	var m *cluster.Manager
	var s *dispatch.Server
	cfg.Inventory, cfg.Duties = &e.stock, []cluster.Duty{
		func(ctx context.Context) error { return s.Lead(ctx, m.Core()) },
		func(ctx context.Context) error { return e.stock.follow(ctx, s) },
	}
	m, err := cluster.Open(cfg)
	if err != nil {
		return err
	}
	s = dispatch.NewServer(dispatch.ServerConfig{
		Node: e.node, Leader: m.Leader, LeaderChanged: m.LeaderChanged, Peer: peerOf, Log: e.n.log.With("part", "sessions"),
	})
	e.mu.Lock()
	e.manager, e.server = m, s
	e.mu.Unlock()
	e.turned()
	return nil
}

// closeManager ends this node's part as a manager within the epoch.
func (e *epoch) closeManager() error {
	e.mu.Lock()
	m, stop, stopped := e.manager, e.stopManaging, e.managed
	e.manager, e.stopManaging = nil, nil
	e.mu.Unlock()
	e.turned()
	if stop != nil {
		stop()
		<-stopped
	}
	return m.Close()
}

// peerOf is the node at the other end of a connection of the port.
func peerOf(c net.Conn) (string, bool) {
	p, ok := c.(*port.Conn)
	if !ok {
		return "", false
	}
	return p.Node(), true
}

func (e *epoch) memberNow() *member {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.member
}

// managing is the manager; nil on a worker.
func (e *epoch) managing() *cluster.Manager {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.manager
}

// session is the client of sessions; nil while the epoch opens.
func (e *epoch) session() *dispatch.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.client
}

func (e *epoch) gossiping() *gossip.Gossip {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gossip
}

// turned tells those who wait that there is a manager or gossip, or none any more.
func (e *epoch) turned() {
	e.mu.Lock()
	close(e.began)
	e.began = make(chan struct{})
	e.mu.Unlock()
}

// run does this epoch's work until ctx ends.
func (e *epoch) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	e.mu.Lock()
	e.group, e.ctx = g, ctx
	m, member := e.manager, e.member
	e.mu.Unlock()
	if m != nil {
		e.goManage(m)
	}
	if member != nil {
		e.goMember()
	}
	g.Go(func() error { return e.relay(ctx) })
	g.Go(func() error { return e.client.Run(ctx) })
	g.Go(func() error { return e.keepPlain(ctx) })
	g.Go(func() error { return e.keepFacts(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.client.Ready():
		}
		fence := newFence(fenceConfig{client: e.client, file: e.n.cfg.Lease, alone: func() bool { return e.memberNow() == nil }, log: e.log})
		g.Go(func() error { return fence.run(ctx) })
		return e.n.cfg.Agent(ctx, e.node, e.cluster, &outcast{Source: fence, epoch: e})
	})
	return g.Wait()
}

// goManage starts a manager's work.
func (e *epoch) goManage(m *cluster.Manager) {
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan struct{})
	e.mu.Lock()
	e.stopManaging, e.managed = cancel, ended
	e.mu.Unlock()
	e.group.Go(func() error {
		defer close(ended)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return m.Run(ctx) })
		g.Go(func() error { return e.serveSessions(ctx) })
		err := g.Wait()
		if ctx.Err() != nil && e.ctx.Err() == nil && errors.Is(err, context.Canceled) {
			return nil // demoted: the rest of the epoch goes on
		}
		return err
	})
}

// goMember starts what only a member of a larger cluster has to do.
func (e *epoch) goMember() {
	e.group.Go(func() error { return e.keepListening(e.ctx) })
	e.group.Go(func() error { return e.keepStanding(e.ctx) })
	e.group.Go(func() error { return e.runGossip(e.ctx) })
	e.group.Go(func() error { return e.keepPapers(e.ctx) })
	e.group.Go(func() error { return e.followView(e.ctx) })
}

// dispatching is the server of sessions; nil on a worker.
func (e *epoch) dispatching() *dispatch.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server
}

// serveSessions takes the calls of agents; a manager that does not lead tells them who does.
func (e *epoch) serveSessions(ctx context.Context) error {
	s := e.dispatching()
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(e.port.GRPC()); err != nil && ctx.Err() == nil {
		return fmt.Errorf("sessions: %w", err)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (e *epoch) dialSession(ctx context.Context, node string) (net.Conn, error) {
	return e.port.Dial(ctx, node, "h2")
}

// local is this node's own manager while it leads.
func (e *epoch) local() dispatch.Core {
	if m := e.managing(); m != nil && m.Leading() {
		return m.Core()
	}
	return nil
}

// wake is closed when this node may lead, or may not any more.
func (e *epoch) wake() <-chan struct{} {
	if m := e.managing(); m != nil {
		return m.LeaderChanged()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.began
}

// describe is what this node tells the leader.
func (e *epoch) describe() dispatch.Description {
	d := dispatch.Description{Node: e.n.cfg.Facts}
	d.Node.ID, d.Node.Issuer = e.node, e.n.id.Issuer()
	if m := e.memberNow(); m != nil {
		d.Node.Addr = e.advertised(m)
		d.Node.Gossip = m.gossipOf(d.Node.Addr)
		if g := e.gossiping(); g != nil {
			d.Node.Gossip = g.Addr()
		}
	}
	e.groundwork(&d.Node)
	e.mu.Lock()
	e.facts = d.Node
	e.mu.Unlock()
	if e.n.cfg.Inventory != nil {
		var err error
		if d.Images, d.Volumes, err = e.n.cfg.Inventory(); err != nil {
			e.log.Warn("inventory", "error", err)
		} else {
			e.stock.setOwn(stockOf(&d))
		}
	}
	return d
}

// relay tells the node's listeners of changes of the state and of the view.
func (e *epoch) relay(ctx context.Context) error {
	for {
		e.mu.Lock()
		began, m := e.began, e.manager
		e.mu.Unlock()
		var changed <-chan struct{}
		if m != nil {
			changed = m.Changed()
		}
		seen := e.client.Changed()
		e.n.notify()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-began:
		case <-changed:
		case <-seen:
		}
	}
}

// close closes what openEpoch and what came later opened; after run.
func (e *epoch) close() error {
	var errs []error
	if g := e.gossiping(); g != nil {
		errs = append(errs, g.Close())
	}
	if m := e.managing(); m != nil {
		errs = append(errs, m.Close())
	}
	if e.port != nil {
		errs = append(errs, e.port.Close())
	}
	return errors.Join(errs...)
}

// forget removes the replicated state from this machine.
func (e *epoch) forget() error { return os.RemoveAll(e.n.stateDir()) }

// authorize lets nodes of this cluster in that are on its list; consensus is
// among managers. A node that has no list yet, because it has just joined, lets
// in whom the cluster has certified: it holds nothing that is worth having.
func (e *epoch) authorize(p identity.Peer, proto string) error {
	if p.Cluster != e.cluster {
		return fmt.Errorf("node %s is of cluster %s, this one is %s", p.Node, p.Cluster, e.cluster)
	}
	role, known := e.roleOf(p)
	switch {
	case proto == port.ProtoRaft && e.votes(p.Node):
		return nil // until its vote is taken, which may need its own: the list is ahead of consensus
	case !known:
		return fmt.Errorf("node %s is not of this cluster", p.Node)
	case proto == port.ProtoRaft && role != stack.RoleManager:
		return fmt.Errorf("node %s is no manager", p.Node)
	}
	return nil
}

// roleOf is what the list says of a node.
func (e *epoch) roleOf(p identity.Peer) (stack.Role, bool) {
	if m := e.managing(); m != nil && m.Known() {
		return m.RoleOf(p.Node)
	}
	c := e.session()
	if c == nil {
		return e.presumed(p), true // opening
	}
	v := c.View()
	if len(v.Nodes) == 0 {
		return e.presumed(p), true
	}
	n, ok := v.Node(p.Node)
	return n.Role, ok
}

// votes reports whether a node has a part in consensus, whatever its role is by now.
func (e *epoch) votes(node string) bool {
	m := e.managing()
	return m != nil && m.Votes(node)
}

// presumed is a node's role while there is no list. Managers are those that
// this node was told of when it got its papers: one that was demoted has its
// certificate for a while, and must not be the first to fill an empty state.
func (e *epoch) presumed(p identity.Peer) stack.Role {
	m := e.memberNow()
	if m != nil && len(m.Managers) > 0 && !slices.ContainsFunc(m.Managers, func(c contact) bool { return c.ID == p.Node }) {
		return stack.RoleWorker
	}
	return p.Role
}
