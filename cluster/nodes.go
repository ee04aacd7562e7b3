package cluster

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/cluster/identity"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// MaxManagers is how many nodes of a cluster may be managers: every command
// waits for the disks of most of them.
const MaxManagers = 7

// Nodes returns all nodes, by host name and ID.
func (m *Manager) Nodes(context.Context) ([]NodeStatus, error) {
	var out []NodeStatus
	snap := m.store.Snapshot()
	members, issuers := m.reachable(), issuersOf(snap.Cluster())
	for _, n := range snap.Nodes() {
		out = append(out, m.nodeStatus(n, members, issuers))
	}
	slices.SortFunc(out, func(a, b NodeStatus) int {
		return cmp.Or(strings.Compare(a.Hostname, b.Hostname), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Node finds a node by ID, "self", host name or the unique beginning of an ID.
func (m *Manager) Node(_ context.Context, ref string) (NodeStatus, error) {
	snap := m.store.Snapshot()
	n, err := findNode(snap, ref, m.node)
	if err != nil {
		return NodeStatus{}, err
	}
	return m.nodeStatus(n, m.reachable(), issuersOf(snap.Cluster())), nil
}

func (m *Manager) nodeStatus(n *stack.Node, voters map[string]bool, issuers map[string]Certificate) NodeStatus {
	return NodeStatus{Node: *n, Version: n.Edits, Updated: max(n.Created, n.Since), Leader: m.raft.Leader() == n.ID,
		Reachable: voters[n.ID] && !n.Down, Certificate: issuers[n.Issuer]}
}

// issuersOf are what a cluster's roots say of themselves, by their digest.
func issuersOf(c *state.Cluster) map[string]Certificate {
	out := map[string]Certificate{}
	if c == nil || c.CA == nil {
		return out
	}
	for rest := c.CA.Roots; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			out[identity.Digest(cert)] = Certificate{Roots: c.CA.Roots, IssuerSubject: cert.RawSubject, IssuerKey: cert.RawSubjectPublicKeyInfo}
		}
	}
}

// reachable are the nodes that have a part in consensus.
func (m *Manager) reachable() map[string]bool {
	out := map[string]bool{}
	for _, v := range m.raft.Members() {
		out[v.ID] = true
	}
	return out
}

// Votes reports whether a node has a part in consensus. One that was demoted
// or removed keeps it until the leader has taken it.
func (m *Manager) Votes(node string) bool { return m.reachable()[node] }

// findNode resolves what a person calls a node; "self" is the one asked.
func findNode(snap *state.Snapshot, ref, self string) (*stack.Node, error) {
	if ref == "self" {
		ref = self
	}
	found := snap.FindNodes(ref)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("node %s: %w", ref, runtime.ErrNotFound)
	}
	return nil, fmt.Errorf("node %s: %d nodes are called so, use the ID: %w", ref, len(found), runtime.ErrInvalid)
}

// UpdateNode makes spec what a person has decided about a node. Version is that
// of the record which the decision builds on; 0: any.
func (m *Manager) UpdateNode(ctx context.Context, ref string, version uint64, spec NodeSpec) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("node %s: %w", ref, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	old, err := findNode(snap, ref, m.node)
	if err != nil {
		return err
	}
	n := *old
	if version != 0 && version != n.Edits {
		return fmt.Errorf("node %s: it was changed meanwhile, look again: %w", name(&n), runtime.ErrConflict)
	}
	if err := checkSpec(spec); err != nil {
		return fmt.Errorf("node %s: %w", name(&n), err)
	}
	n.Labels, n.Availability, n.Role = maps.Clone(spec.Labels), spec.Availability, spec.Role
	if n.Role != old.Role {
		if err := mayHaveRole(snap, &n); err != nil {
			return fmt.Errorf("node %s: %w", name(&n), err)
		}
	}
	n.Edits++
	if _, err := m.propose(ctx, []state.Change{{Node: &n}}); err != nil {
		return fmt.Errorf("node %s: %w", name(&n), err)
	}
	m.log.Info("node changed", "node", n.ID, "role", n.Role, "availability", n.Availability)
	return nil
}

func checkSpec(spec NodeSpec) error {
	if spec.Role != stack.RoleManager && spec.Role != stack.RoleWorker {
		return fmt.Errorf("role %q: use manager or worker: %w", spec.Role, runtime.ErrInvalid)
	}
	if a := spec.Availability; a != stack.Active && a != stack.Paused && a != stack.Drain {
		return fmt.Errorf("availability %q: use active, pause or drain: %w", a, runtime.ErrInvalid)
	}
	return nil
}

// mayHaveRole refuses a promotion beyond MaxManagers and a demotion that would
// leave nobody, or too few who answer, to decide.
func mayHaveRole(snap *state.Snapshot, n *stack.Node) error {
	managers, up := 0, 0
	for _, other := range snap.Nodes() {
		if other.ID != n.ID && other.Role == stack.RoleManager {
			managers++
			up += count(!other.Down)
		}
	}
	switch {
	case n.Role == stack.RoleManager && managers+1 > MaxManagers:
		return fmt.Errorf("there are %d managers already, and more than %d only slow each other down; let it be a worker (`dhow swarm join-token worker`), or demote another manager first: %w",
			managers, MaxManagers, runtime.ErrInvalid)
	case n.Role == stack.RoleManager:
		return nil
	case managers == 0:
		return fmt.Errorf("it is the last manager; promote another node first: %w", runtime.ErrConflict)
	case up < managers/2+1:
		return fmt.Errorf("of the %d managers that would be left only %d answer, which is no majority: %w", managers, up, runtime.ErrConflict)
	}
	return nil
}

// RemoveNode forgets a node; its certificate is refused from now on. One that
// is up, or is a manager, goes only with force.
func (m *Manager) RemoveNode(ctx context.Context, ref string, force bool) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("remove node %s: %w", ref, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	n, err := findNode(snap, ref, m.node)
	switch {
	case err != nil:
		return err
	case n.ID == m.node:
		return fmt.Errorf("node %s is the one that decides now; leave the cluster on it, or ask another manager: %w", name(n), runtime.ErrConflict)
	case n.Role == stack.RoleManager && !force:
		return fmt.Errorf("node %s is a manager; demote it first, or use force: %w", name(n), runtime.ErrConflict)
	case !n.Down && !force:
		return fmt.Errorf("node %s is up; `dhow swarm leave` on it, or use force: %w", name(n), runtime.ErrConflict)
	}
	if n.Role == stack.RoleManager {
		w := *n
		w.Role = stack.RoleWorker
		if err := mayHaveRole(snap, &w); err != nil {
			return fmt.Errorf("node %s: %w", name(n), err)
		}
	}
	if _, err := m.propose(ctx, []state.Change{{Delete: &state.Key{Table: state.TableNode, Name: n.ID}}}); err != nil {
		return fmt.Errorf("remove node %s: %w", name(n), err)
	}
	m.log.Info("node removed", "node", n.ID, "force", force)
	return nil
}

// Hello stores what a node tells of itself when it calls. Nodes that are not
// in the cluster are refused, and so is what no machine says of itself. A node
// that does not know its address at the moment keeps the one it had: without
// one it would not be looked after.
func (m *Manager) Hello(ctx context.Context, facts stack.Node) error {
	if err := checkFacts(facts); err != nil {
		return fmt.Errorf("node %s: what it says of itself: %w", facts.ID, err)
	}
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("node %s: %w", facts.ID, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	old := snap.Node(facts.ID)
	if old == nil {
		return fmt.Errorf("node %s is not of this cluster: %w", facts.ID, runtime.ErrForbidden)
	}
	n := withFacts(*old, facts)
	n.Joining = ""
	n.Addr, n.Gossip = cmp.Or(n.Addr, old.Addr), cmp.Or(n.Gossip, old.Gossip)
	if n.Down {
		n.Down, n.Fenced, n.Message, n.Since = false, false, "", time.Now().UnixNano()
	}
	changes := m.moveIngress(snap, &n)
	if !sameNode(old, &n) {
		changes = append(changes, state.Change{Node: &n})
	}
	_, err := m.propose(ctx, changes)
	return err
}

// withFacts is a node's record with what the node knows better.
func withFacts(n, facts stack.Node) stack.Node {
	n.Hostname, n.OS, n.Architecture, n.Version = facts.Hostname, facts.OS, facts.Architecture, facts.Version
	n.NanoCPUs, n.Memory, n.Generic, n.EngineLabels = facts.NanoCPUs, facts.Memory, facts.Generic, facts.EngineLabels
	n.Addr, n.Gossip, n.Issuer = facts.Addr, facts.Gossip, facts.Issuer
	n.DataAddr, n.MTU, n.Ranges, n.Addrs, n.Problems = facts.DataAddr, facts.MTU, facts.Ranges, facts.Addrs, facts.Problems
	return n
}

// name is what a person calls a node.
func name(n *stack.Node) string {
	if n.Hostname != "" {
		return n.Hostname
	}
	return n.ID
}
