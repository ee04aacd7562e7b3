package cluster

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// MaxManagers is how many nodes of a cluster may be managers: every command
// waits for the disks of most of them.
const MaxManagers = 7

// NodeChange is what a person may change of a node; nil leaves a field as it is.
type NodeChange struct {
	Role         *stack.Role
	Availability *stack.Availability
	Labels       map[string]string // all of them
	Edits        *uint64           // the change is refused when the node's differs: somebody else was faster
}

// Node finds a node by ID, by the unique beginning of an ID, or by host name.
func (m *Manager) Node(ref string) (stack.Node, error) {
	n, err := findNode(m.store.Snapshot(), ref, m.node)
	if err != nil {
		return stack.Node{}, err
	}
	return *n, nil
}

// findNode resolves what a person calls a node; "self" is the one asked.
func findNode(snap *state.Snapshot, ref, self string) (*stack.Node, error) {
	if ref == "self" {
		ref = self
	}
	if n := snap.Node(ref); n != nil {
		return n, nil
	}
	var found []*stack.Node
	for _, n := range snap.Nodes() {
		if ref != "" && (n.Hostname == ref || strings.HasPrefix(n.ID, ref)) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("node %s: %w", ref, runtime.ErrNotFound)
	}
	return nil, fmt.Errorf("node %s: %d nodes are called so, use the ID: %w", ref, len(found), runtime.ErrInvalid)
}

// UpdateNode changes a node and returns it as it is then.
func (m *Manager) UpdateNode(ctx context.Context, ref string, c NodeChange) (stack.Node, error) {
	m.write.Lock()
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	old, err := findNode(snap, ref, m.node)
	if err != nil {
		return stack.Node{}, err
	}
	n := *old
	if c.Edits != nil && *c.Edits != n.Edits {
		return n, fmt.Errorf("node %s: it was changed meanwhile, look again: %w", name(&n), runtime.ErrConflict)
	}
	if c.Labels != nil {
		n.Labels = maps.Clone(c.Labels)
	}
	if c.Availability != nil {
		n.Availability = *c.Availability
	}
	if c.Role != nil && *c.Role != n.Role {
		n.Role = *c.Role
		if err := mayHaveRole(snap, &n); err != nil {
			return *old, fmt.Errorf("node %s: %w", name(&n), err)
		}
	}
	n.Edits++
	if _, err := m.propose(ctx, []state.Change{{Node: &n}}); err != nil {
		return *old, fmt.Errorf("node %s: %w", name(&n), err)
	}
	m.log.Info("node changed", "node", n.ID, "role", n.Role, "availability", n.Availability)
	return n, nil
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
		return fmt.Errorf("there are %d managers already, more than %d only slow each other down: %w", managers, MaxManagers, runtime.ErrInvalid)
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
	m.write.Lock()
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
// in the cluster are refused.
func (m *Manager) Hello(ctx context.Context, facts stack.Node) error {
	m.write.Lock()
	defer m.write.Unlock()
	old := m.store.Snapshot().Node(facts.ID)
	if old == nil {
		return fmt.Errorf("node %s is not of this cluster: %w", facts.ID, runtime.ErrForbidden)
	}
	n := withFacts(*old, facts)
	if n.Down {
		n.Down, n.Message, n.Since = false, "", time.Now().UnixNano()
	}
	if sameNode(old, &n) {
		return nil
	}
	_, err := m.propose(ctx, []state.Change{{Node: &n}})
	return err
}

// withFacts is a node's record with what the node knows better.
func withFacts(n, facts stack.Node) stack.Node {
	n.Hostname, n.OS, n.Architecture, n.Version = facts.Hostname, facts.OS, facts.Architecture, facts.Version
	n.NanoCPUs, n.Memory, n.Generic, n.EngineLabels = facts.NanoCPUs, facts.Memory, facts.Generic, facts.EngineLabels
	n.Addr, n.Gossip, n.Issuer = facts.Addr, facts.Gossip, facts.Issuer
	return n
}

// name is what a person calls a node.
func name(n *stack.Node) string {
	if n.Hostname != "" {
		return n.Hostname
	}
	return n.ID
}
