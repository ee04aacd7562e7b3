package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/cluster/seal"
	"github.com/dhow-project/dhow/internal/durable"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Init opens this machine's cluster to others and returns the node's ID. Its
// stacks run on.
func (n *Node) Init(ctx context.Context, opt cluster.InitOptions) (string, error) {
	n.turn.Lock()
	defer n.turn.Unlock()
	if opt.ForceNew {
		return n.forceNew(ctx)
	}
	e := n.now()
	if e.memberNow() != nil {
		return "", fmt.Errorf("this node is already part of a swarm; `dhow swarm leave` ends that: %w", cluster.ErrInSwarm)
	}
	m, err := n.place(ctx, opt.Listen, opt.Advertise, "")
	if err != nil {
		return "", err
	}
	if m.DataPath, err = dataPath(opt.DataPath); err != nil {
		return "", err
	}
	m.Cluster, m.Node, m.Role = e.cluster, e.node, stack.RoleManager
	self := n.cfg.Facts
	told := e.advertised(m)
	e.underlay(&self, m)
	self.ID, self.Addr, self.Gossip, self.Availability = e.node, told, m.gossipOf(told), opt.Availability
	if err := e.managing().OpenCluster(ctx, self, opt.Settings); err != nil {
		return "", err
	}
	if err := e.certify(ctx); err != nil {
		return "", err
	}
	if err := writeMember(n.dir, m); err != nil {
		return "", err
	}
	e.mu.Lock()
	e.member = m
	runs := e.group != nil
	e.mu.Unlock()
	if err := e.listen(); err != nil { // it was free a moment ago
		n.log.Error("not reachable for other nodes", "error", err)
	}
	if runs { // else run starts it
		e.goMember()
	}
	e.client.Refresh()
	n.notify()
	n.log.Info("this cluster is open to others", "cluster", e.cluster, "listen", m.Listen, "advertise", m.Advertise)
	return e.node, nil
}

// certify gives the first node of a cluster its certificate.
func (e *epoch) certify(ctx context.Context) error {
	csr, err := e.n.id.NewCSR()
	if err != nil {
		return err
	}
	p, err := e.managing().Renew(ctx, e.node, csr)
	if err != nil {
		return err
	}
	return e.n.id.Install(p.Certificate, p.Roots)
}

// Join makes this machine a node of another's cluster. What it was before ends
// when that cluster has taken it in.
func (n *Node) Join(ctx context.Context, opt cluster.JoinOptions) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	e := n.now()
	if e.memberNow() != nil {
		return fmt.Errorf("this node is already part of a swarm. Use `dhow swarm leave` to leave this swarm and join another one: %w", cluster.ErrInSwarm)
	}
	if stacks := e.managing().Stacks(); len(stacks) > 0 {
		return fmt.Errorf("this machine runs stack %s on its own; take it down first, or join with a machine that has none: %w", stacks[0].Stack.Name, runtime.ErrConflict)
	}
	token, err := identity.ParseToken(opt.Token)
	if err != nil {
		return fmt.Errorf("join token: %w: %w", runtime.ErrInvalid, err)
	}
	if len(opt.Remotes) == 0 {
		return fmt.Errorf("join: the address of a manager is missing: %w", runtime.ErrInvalid)
	}
	var remotes []string
	for _, r := range opt.Remotes {
		remote, err := complete(r, DefaultPort)
		if err != nil {
			return err
		}
		remotes = append(remotes, remote)
	}
	m, err := n.place(ctx, opt.Listen, opt.Advertise, remotes[0])
	if err != nil {
		return err
	}
	if m.DataPath, err = dataPath(opt.DataPath); err != nil {
		return err
	}
	p, err := n.present(ctx, token, remotes, m, opt.Availability)
	if err != nil {
		return err
	}
	return n.transit(ctx, func(ctx context.Context) error { return n.enter(ctx, m, p) })
}

// joinPatience is how long a machine that joins waits for somebody who leads:
// longer than an election.
const joinPatience = 15 * time.Second

// present shows the token to the manager that leads, and gets papers. Asked
// again after an answer that was lost, the manager gives the same node's.
func (n *Node) present(ctx context.Context, token identity.Token, remotes []string, m *member, a stack.Availability) (cluster.Papers, error) {
	var p cluster.Papers
	if _, certified := n.id.Self(); certified { // of an attempt to open this machine's own cluster, or to enter another
		if err := n.id.Clear(); err != nil {
			return p, err
		}
	}
	csr, err := n.id.NewCSR()
	if err != nil {
		return p, err
	}
	told := n.now().advertised(m)
	q := cluster.Admission{Token: token.String(), CSR: csr, Node: n.cfg.Facts, Availability: a}
	q.Node.Addr, q.Node.Gossip = told, m.gossipOf(told)
	n.now().underlay(&q.Node, m)
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for next := 0; ; next++ {
		asked := remotes[next%len(remotes)]
		p, err = show(ctx, token, asked, q)
		switch {
		case err == nil:
			return p, nil
		case final(err):
			return p, fmt.Errorf("join through %s: %w", asked, err)
		}
		if !pause(ctx, 300*time.Millisecond) { // between two leaders
			return p, fmt.Errorf("join through %s: %w", asked, err)
		}
	}
}

// joinHops bounds how often a manager may send the machine to another one.
const joinHops = 5

// show shows the token to one manager, or to the one that it names instead.
func show(ctx context.Context, token identity.Token, asked string, q cluster.Admission) (p cluster.Papers, err error) {
	for range joinHops {
		var c *http.Client
		if c, err = port.JoinClient(ctx, asked, token, askTimeout); err != nil {
			return p, err
		}
		err = post(ctx, c, "http://"+asked+port.JoinPath, q, &p)
		c.CloseIdleConnections()
		var other *misdirected
		if !errors.As(err, &other) || other.Addr == "" {
			return p, err
		}
		asked = other.Addr
	}
	return p, err
}

// enter is between two epochs: it puts the papers to use.
func (n *Node) enter(ctx context.Context, m *member, p cluster.Papers) error {
	m.Cluster, m.Node, m.Role = p.Cluster, p.Node, p.Role
	for _, other := range p.Managers {
		m.Managers = append(m.Managers, contact{ID: other.ID, Addr: other.Addr, Gossip: other.Gossip})
	}
	if err := n.id.Install(p.Certificate, p.Roots); err != nil {
		return err
	}
	if len(p.Seal) > 0 {
		if err := n.ring.Import(p.Seal); err != nil {
			return err
		}
	}
	m.Entering = true
	if err := writeMember(n.dir, m); err != nil {
		return err
	}
	n.log.Info("joined", "cluster", p.Cluster, "node", p.Node, "role", p.Role)
	return n.begin(ctx, m)
}

// Leave makes this machine a cluster of its own again. Its tasks' containers
// go; their volumes stay.
func (n *Node) Leave(ctx context.Context, force bool) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	e := n.now()
	m := e.memberNow()
	if m == nil {
		return fmt.Errorf("this node is not part of a swarm: %w", cluster.ErrInSwarm)
	}
	if err := e.mayLeave(m, force); err != nil {
		return err
	}
	if err := e.changeMember(func(m *member) { m.Leaving = true }); err != nil {
		return err
	}
	if err := e.depart(ctx, force); err != nil && !force {
		err = fmt.Errorf("tell the cluster: %w; --force leaves without", err)
		return errors.Join(err, e.changeMember(func(m *member) { m.Leaving = false }))
	} else if err != nil {
		n.log.Warn("leave without a word to the others", "error", err)
	}
	return n.transit(ctx, n.finishLeaving)
}

// mayLeave refuses what would cost the others more than a node.
func (e *epoch) mayLeave(m *member, force bool) error {
	if m.Role != stack.RoleManager || m.Removed || force {
		return nil
	}
	if len(e.managers()) == 1 {
		return fmt.Errorf("this node is the last manager: without it, all that the cluster knows is gone; use --force if that is what you want: %w", runtime.ErrConflict)
	}
	return fmt.Errorf("this node is a manager; `dhow node demote` it first, or use --force, which can leave the others without a majority: %w", runtime.ErrConflict)
}

// depart tells the cluster that this node goes. The last manager has nobody to
// tell, and whom the cluster has removed need not.
func (e *epoch) depart(ctx context.Context, force bool) error {
	patience := askTimeout
	if force {
		patience = 3 * time.Second
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, certified := e.n.id.Self(); !certified || e.memberNow().Removed || len(e.managers()) == 0 {
		return nil
	}
	if m := e.managing(); m != nil {
		if len(e.managers()) == 1 {
			return nil
		}
		if m.Leading() {
			if err := m.HandOver(limited); err != nil {
				return err
			}
		}
	}
	err := e.ask(limited, departPath, struct{}{}, &struct{}{})
	if errors.Is(err, runtime.ErrForbidden) {
		return nil // it is not one of them any more
	}
	return err
}

// finishLeaving is between two epochs: nothing of the cluster stays.
func (n *Node) finishLeaving(ctx context.Context) error {
	e := n.now()
	err := errors.Join(n.cfg.Drop(ctx, e.cluster), e.forget(), n.id.Clear())
	err = errors.Join(err, durable.Remove(filepath.Join(n.dir, "assignments.json")), durable.Remove(filepath.Join(n.dir, "seal.json")))
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if n.ring, err = seal.Open(n.dir); err != nil {
		return err
	}
	if err := dropMember(n.dir); err != nil {
		return err
	}
	n.log.Info("left", "cluster", e.cluster)
	return n.begin(ctx, nil)
}

// forceNew makes this manager the only one, when most of the others are lost.
func (n *Node) forceNew(ctx context.Context) (string, error) {
	e := n.now()
	m := e.memberNow()
	if m == nil || m.Role != stack.RoleManager {
		return "", fmt.Errorf("only a manager of a cluster can go on without the others: %w", cluster.ErrInSwarm)
	}
	return e.node, n.transit(ctx, func(ctx context.Context) error {
		now := *e.memberNow()
		forced := now
		forced.Force = true
		if err := writeMember(n.dir, &forced); err != nil {
			return err
		}
		err := n.begin(ctx, &forced)
		if err != nil {
			err = errors.Join(err, writeMember(n.dir, &now))
		}
		return err
	})
}

// force makes the state on disk that of the only manager. It is done again when
// a crash came in between.
func (e *epoch) force() error {
	if err := cluster.Recover(e.n.cfg.DataDir, e.node, e.log); err != nil {
		return err
	}
	return e.changeMember(func(m *member) { m.Force, m.Managers = false, nil })
}
