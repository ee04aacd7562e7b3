package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/port"
	"github.com/dhow-project/dhow/cluster/seal"
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
	m, err := n.place(opt.Listen, opt.Advertise, "")
	if err != nil {
		return "", err
	}
	m.Cluster, m.Node, m.Role = e.cluster, e.node, stack.RoleManager
	self := n.cfg.Facts
	self.ID, self.Addr, self.Gossip, self.Availability = e.node, m.Advertise, gossipOf(m), opt.Availability
	if err := e.managing().OpenCluster(ctx, self, opt.Settings); err != nil {
		return "", err
	}
	if err := e.certify(ctx); err != nil {
		return "", err
	}
	if err := e.port.Listen(m.Listen); err != nil {
		return "", fmt.Errorf("listen for other nodes on %s: %w", m.Listen, err)
	}
	if err := writeMember(n.dir, m); err != nil {
		return "", errors.Join(err, e.port.CloseListener())
	}
	e.mu.Lock()
	e.member = m
	e.mu.Unlock()
	e.goMember()
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

// place says where this machine listens and where others reach it; remote is
// a node that it is to reach, "" if there is none yet.
func (n *Node) place(listen, advertise, remote string) (*member, error) {
	var err error
	m := &member{}
	if m.Listen, err = listenAddr(listen); err != nil {
		return nil, err
	}
	host, p, err := net.SplitHostPort(m.Listen)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(host)
	switch {
	case advertise != "":
		m.Advertise, err = complete(advertise, portOf(p))
	case ip != nil && !ip.IsUnspecified():
		m.Advertise = m.Listen
	case remote != "":
		host, err = towards(remote)
		m.Advertise = net.JoinHostPort(host, p)
	default:
		host, err = onlyAddr(n.cfg.Ours)
		m.Advertise = net.JoinHostPort(host, p)
	}
	if err != nil {
		return nil, err
	}
	host, _, err = net.SplitHostPort(m.Advertise)
	m.Own = isOwn(host)
	bind := "0.0.0.0"
	if ip != nil {
		bind = ip.String()
	}
	m.Gossip = net.JoinHostPort(bind, fmt.Sprint(n.cfg.GossipPort))
	return m, err
}

func portOf(s string) int {
	n, _ := strconv.Atoi(s) // complete has checked it
	return n
}

// gossipOf is where others reach a member's gossip.
func gossipOf(m *member) string {
	host, _, err := net.SplitHostPort(m.Advertise)
	_, p, err2 := net.SplitHostPort(m.Gossip)
	if err != nil || err2 != nil {
		return m.Gossip
	}
	return net.JoinHostPort(host, p)
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
	remote, err := complete(opt.Remotes[0], DefaultPort)
	if err != nil {
		return err
	}
	m, err := n.place(opt.Listen, opt.Advertise, remote)
	if err != nil {
		return err
	}
	p, err := n.present(ctx, token, remote, m, opt.Availability)
	if err != nil {
		return err
	}
	return n.transit(ctx, func(ctx context.Context) error { return n.enter(ctx, m, p) })
}

// joinHops bounds how often a manager may send the machine to another one.
const joinHops = 5

// present shows the token to the manager that leads, and gets papers.
func (n *Node) present(ctx context.Context, token identity.Token, remote string, m *member, a stack.Availability) (cluster.Papers, error) {
	if err := n.id.Clear(); err != nil { // of an attempt to open this machine's own cluster, or to enter another
		return cluster.Papers{}, err
	}
	csr, err := n.id.NewCSR()
	if err != nil {
		return cluster.Papers{}, err
	}
	q := cluster.Admission{Token: token.String(), CSR: csr, Node: n.cfg.Facts, Availability: a}
	q.Node.Addr, q.Node.Gossip = m.Advertise, gossipOf(m)
	asked := remote
	for hop := 0; ; hop++ {
		c, err := port.JoinClient(ctx, asked, token, askTimeout)
		if err != nil {
			return cluster.Papers{}, fmt.Errorf("%w: %w", runtime.ErrUnavailable, err)
		}
		var p cluster.Papers
		err = post(ctx, c, "http://"+asked+port.JoinPath, q, &p)
		c.CloseIdleConnections()
		var other *misdirected
		switch {
		case err == nil:
			return p, nil
		case !errors.As(err, &other) || hop >= joinHops:
			return cluster.Papers{}, fmt.Errorf("join through %s: %w", asked, err)
		case other.Addr != "":
			asked = other.Addr
		case !pause(ctx, 300*time.Millisecond): // between two leaders
			return cluster.Papers{}, ctx.Err()
		}
	}
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
	if m.Role == stack.RoleManager && !force {
		return fmt.Errorf("this node is a manager; `dhow node demote` it first, or use --force, which can leave the others without a majority: %w", runtime.ErrConflict)
	}
	patience := askTimeout
	if force {
		patience = 3 * time.Second
	}
	if err := e.depart(ctx, patience); err != nil {
		if !force && !errors.Is(err, runtime.ErrForbidden) {
			return fmt.Errorf("tell the cluster: %w; --force leaves without", err)
		}
		n.log.Warn("leave without a word to the others", "error", err)
	}
	left := *m
	left.Leaving = true
	if err := writeMember(n.dir, &left); err != nil {
		return err
	}
	return n.transit(ctx, n.finishLeaving)
}

// depart tells the cluster that this node goes. The last manager has nobody to tell.
func (e *epoch) depart(ctx context.Context, patience time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if m := e.managing(); m != nil {
		if len(m.Peers()) == 0 {
			return nil
		}
		if m.Leading() {
			if err := m.HandOver(limited); err != nil {
				return err
			}
		}
	}
	return e.ask(limited, departPath, struct{}{}, &struct{}{})
}

// finishLeaving is between two epochs: nothing of the cluster stays.
func (n *Node) finishLeaving(ctx context.Context) error {
	e := n.now()
	err := errors.Join(n.cfg.Drop(ctx, e.cluster), e.forget(), n.id.Clear())
	err = errors.Join(err, remove(filepath.Join(n.dir, "assignments.json")), remove(filepath.Join(n.dir, "seal.json")))
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
	alone := *m
	alone.Managers = nil
	return e.node, n.transit(ctx, func(ctx context.Context) error {
		if err := cluster.Recover(n.cfg.DataDir, e.node, n.log); err != nil {
			return err
		}
		if err := writeMember(n.dir, &alone); err != nil {
			return err
		}
		return n.begin(ctx, &alone)
	})
}

// remove removes a file that may be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
