package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Admission is what a machine shows to become a node.
type Admission struct {
	Token        string             `json:"token"`
	CSR          []byte             `json:"csr"`  // PEM
	Node         stack.Node         `json:"node"` // what it tells of itself; Addr and Gossip are where it will listen
	Availability stack.Availability `json:"availability,omitempty"`
}

// Papers are what a node needs to be one.
type Papers struct {
	Cluster     string     `json:"cluster"`
	Node        string     `json:"node"`
	Role        stack.Role `json:"role"`
	Certificate []byte     `json:"certificate"` // PEM, with what leads to a root
	Roots       []byte     `json:"roots"`       // PEM
	Gossip      [][]byte   `json:"gossip"`      // keys, the one in use first
	Seal        []byte     `json:"seal,omitempty"`
	Managers    []Peer     `json:"managers"`
}

// Admit makes a machine that shows a join token a node of this cluster. One that
// asks again with the same key, because it has not heard the answer, is the same node.
func (m *Manager) Admit(ctx context.Context, a Admission) (Papers, error) {
	if err := m.preview(a); err != nil {
		return Papers{}, err
	}
	if err := m.turn(ctx); err != nil {
		return Papers{}, fmt.Errorf("join: %w", err)
	}
	defer m.write.Unlock()
	c, err := m.open()
	if err != nil {
		return Papers{}, err
	}
	role, err := m.roleOf(c, a.Token) // it may have been replaced since
	if err != nil {
		return Papers{}, err
	}
	if err := checkSpec(NodeSpec{Role: role, Availability: a.Availability}); err != nil {
		return Papers{}, fmt.Errorf("join: %w", err)
	}
	key, err := identity.RequestKey(a.CSR)
	if err != nil {
		return Papers{}, fmt.Errorf("join: %w: %w", runtime.ErrInvalid, err)
	}
	snap := m.store.Snapshot()
	n := withFacts(joiner(snap, key, role), a.Node)
	n.Availability, n.Issuer = a.Availability, c.CA.Digest
	if n.Number == 0 {
		if n.Number, err = pickNumber(snap.Cluster(), snap.Nodes(), meshOf(snap)); err != nil {
			return Papers{}, fmt.Errorf("join: %w", err)
		}
	}
	if err := mayHaveRole(snap, &n); err != nil {
		return Papers{}, fmt.Errorf("join: %w", err)
	}
	p, err := m.papers(c, &n, a.CSR)
	if err != nil {
		return Papers{}, fmt.Errorf("join: %w", err)
	}
	if _, err := m.propose(ctx, []state.Change{{Node: &n}}); err != nil {
		return Papers{}, fmt.Errorf("join: %w", err)
	}
	m.log.Info("node admitted", "node", n.ID, "host", n.Hostname, "role", role, "addr", n.Addr)
	return p, nil
}

// joiner is the record of a node that asks with this key and has not called yet,
// or a new one.
func joiner(snap *state.Snapshot, key string, role stack.Role) stack.Node {
	for _, n := range snap.Nodes() {
		if n.Joining == key && n.Role == role {
			return *n
		}
	}
	return stack.Node{ID: newID(), Role: role, Created: time.Now().UnixNano(), Edits: 1, Joining: key}
}

// preview refuses without waiting for other commands, nor making them wait:
// strangers can ask as often as they like.
func (m *Manager) preview(a Admission) error {
	c, err := m.open()
	if err != nil {
		return err
	}
	if _, err := m.roleOf(c, a.Token); err != nil {
		return err
	}
	if a.Node.Addr == "" {
		return fmt.Errorf("join: the machine does not say where it can be reached: %w", runtime.ErrInvalid)
	}
	if err := checkFacts(a.Node); err != nil {
		return fmt.Errorf("join: what the machine says of itself: %w", err)
	}
	return nil
}

// roleOf is the role that a token gives.
func (m *Manager) roleOf(c *state.Cluster, token string) (stack.Role, error) {
	for _, t := range []struct {
		role   stack.Role
		sealed []byte
		about  string
	}{{stack.RoleWorker, c.Tokens.Worker, aboutWorker}, {stack.RoleManager, c.Tokens.Manager, aboutManager}} {
		kept, err := m.cfg.Seal.Open(t.sealed, t.about)
		if err != nil {
			return "", fmt.Errorf("join token: %w", err)
		}
		if identity.TokenMatches(token, string(kept)) {
			return t.role, nil
		}
	}
	return "", fmt.Errorf("the join token is not one of this cluster, or was replaced; `dhow swarm join-token worker` on a manager shows the present one: %w", runtime.ErrForbidden)
}

// Renew gives a node new papers, for the role that it has now.
func (m *Manager) Renew(_ context.Context, node string, csr []byte) (Papers, error) {
	c, err := m.open()
	if err != nil {
		return Papers{}, err
	}
	n := m.store.Snapshot().Node(node)
	if n == nil {
		return Papers{}, fmt.Errorf("node %s is not of this cluster: %w", node, runtime.ErrForbidden)
	}
	if n.Role == stack.RoleWorker && m.reachable()[node] {
		return Papers{}, fmt.Errorf("node %s still has a vote: %w", name(n), runtime.ErrUnavailable)
	}
	p, err := m.papers(c, n, csr)
	if err != nil {
		return p, fmt.Errorf("renew the certificate of %s: %w", name(n), err)
	}
	return p, nil
}

func (m *Manager) papers(c *state.Cluster, n *stack.Node, csr []byte) (Papers, error) {
	ca, err := m.openCA(c)
	if err != nil {
		return Papers{}, err
	}
	p := Papers{Cluster: c.ID, Node: n.ID, Role: n.Role, Roots: ca.Roots, Managers: m.managers()}
	validity := c.Settings.CertExpiry
	if validity == 0 {
		validity = identity.DefaultValidity
	}
	if p.Certificate, err = ca.Sign(csr, identity.Peer{Node: n.ID, Cluster: c.ID, Role: n.Role}, validity, time.Now()); err != nil {
		return p, fmt.Errorf("%w: %w", runtime.ErrInvalid, err)
	}
	if p.Gossip, err = m.GossipKeys(); err != nil {
		return p, err
	}
	if n.Role == stack.RoleManager && m.cfg.SealKeys != nil {
		p.Seal, err = m.cfg.SealKeys()
	}
	return p, err
}

// GossipKeys are the keys of the gossip, the one in use first; none for a machine alone.
func (m *Manager) GossipKeys() ([][]byte, error) {
	c := m.store.Snapshot().Cluster()
	if c == nil {
		return nil, nil
	}
	var out [][]byte
	for _, sealed := range c.Gossip {
		key, err := m.cfg.Seal.Open(sealed, aboutGossip)
		if err != nil {
			return nil, fmt.Errorf("key of the gossip: %w", err)
		}
		out = append(out, key)
	}
	return out, nil
}

// Depart forgets a node that leaves by itself. Its tasks have gone with it.
func (m *Manager) Depart(ctx context.Context, node string) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	n := snap.Node(node)
	if n == nil {
		return nil
	}
	if n.Role == stack.RoleManager {
		w := *n
		w.Role = stack.RoleWorker
		if err := mayHaveRole(snap, &w); err != nil {
			return err
		}
	}
	if _, err := m.propose(ctx, []state.Change{{Delete: &state.Key{Table: state.TableNode, Name: node}}}); err != nil {
		return err
	}
	m.log.Info("node left", "node", node)
	return nil
}

// managers are the nodes that have a part in consensus.
func (m *Manager) managers() []Peer {
	snap := m.store.Snapshot()
	var out []Peer
	for _, v := range m.raft.Members() {
		if n := snap.Node(v.ID); n != nil {
			out = append(out, peer(n))
		}
	}
	return out
}

// Peers are all nodes but this one, by ID.
func (m *Manager) Peers() []Peer {
	var out []Peer
	for _, n := range m.store.Snapshot().Nodes() {
		if n.ID != m.node {
			out = append(out, peer(n))
		}
	}
	return out
}

func peer(n *stack.Node) Peer {
	return Peer{ID: n.ID, Hostname: n.Hostname, Addr: n.Addr, Gossip: n.Gossip, Role: n.Role, Down: n.Down}
}
