package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// allotted are all networks that hold ranges or identifiers, also those that
// wait to take the place of others.
func allotted(snap *state.Snapshot) (out []stack.Network) {
	for _, n := range snap.Networks() {
		out = append(out, n.Network)
		if n.Next != nil {
			out = append(out, *n.Next)
		}
	}
	return out
}

// besides is what the ranges of a new network must not meet.
func besides(snap *state.Snapshot, c *state.Cluster, used []stack.Network) Beside {
	b := Beside{Networks: used}
	if c != nil {
		b.Seed, b.Pools, b.Size = c.ID, c.Settings.AddressPools, c.Settings.SubnetSize
	}
	for _, n := range snap.Nodes() {
		if len(n.Ranges) > 0 {
			if b.Nodes == nil {
				b.Nodes = map[string][]string{}
			}
			b.Nodes[name(n)] = append(b.Nodes[name(n)], n.Ranges...)
		}
	}
	return b
}

// MinVNI is the first identifier of networks, unless the cluster has a range of
// its own; MaxVNI is the highest that VXLAN has.
const (
	MinVNI = state.DefaultVNIFirst
	MaxVNI = 1<<24 - 1
)

// vniRange is what identifiers of networks are taken from.
func vniRange(c *state.Cluster) (first, last int) {
	first, last = state.DefaultVNIFirst, MaxVNI
	if c != nil && c.Settings.VNIFirst > 0 {
		first = c.Settings.VNIFirst
	}
	if c != nil && c.Settings.VNILast > 0 {
		last = c.Settings.VNILast
	}
	return first, last
}

// pickVNI returns the identifier after the one that was given last, and the
// lowest that is free when there are no more: on a node that is cut off a
// network may live on that has been removed, and must not meet another one.
func pickVNI(c *state.Cluster, used []stack.Network) (int, error) {
	taken := make(map[int]bool, len(used))
	for _, n := range used {
		taken[n.VNI] = true
	}
	first, last := vniRange(c)
	if c != nil && c.LastVNI >= first {
		for vni := c.LastVNI + 1; vni <= last; vni++ {
			if !taken[vni] {
				return vni, nil
			}
		}
	}
	for vni := first; vni <= last; vni++ {
		if !taken[vni] {
			return vni, nil
		}
	}
	return 0, fmt.Errorf("the identifiers %d to %d are all taken by networks: remove some, or widen the range (dhow swarm update --vni-range): %w", first, last, runtime.ErrConflict)
}

// spanning reports whether a network is to have what it needs to span nodes.
func spanning(n stack.Network) bool {
	n.VNI = 1
	return n.Spans()
}

// allot gives a network its identifier and ranges. all are those whose
// identifiers are taken; beside those whose ranges are.
func (m *Manager) allot(n *stack.Network, c *state.Cluster, all []stack.Network, beside Beside) error {
	if n.Driver == "host" || n.Driver == "none" || n.Driver == "null" {
		return nil
	}
	var err error
	if spanning(*n) && n.VNI == 0 {
		if n.VNI, err = pickVNI(c, all); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	if m.cfg.Subnets == nil {
		if len(n.Subnets) == 0 {
			return fmt.Errorf("network %s: no subnet given and none can be chosen: %w", n.Name, runtime.ErrInvalid)
		}
		return nil
	}
	picked, err := m.cfg.Subnets.Pick(*n, beside)
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	n.Subnets, n.Virtual = picked.Subnets, picked.Virtual
	return nil
}

// complete gives what came from an older state what it lacks: networks their
// identifiers and virtual ranges, nodes of an open cluster their numbers, and
// the cluster its ingress network. What cannot be given is said and left.
func (m *Manager) complete(ctx context.Context) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	c := snap.Cluster()
	changes := m.completeNetworks(snap, c)
	if c != nil && c.Open {
		more, err := m.ingress(snap, c)
		if err != nil {
			m.log.Error("the ingress network cannot be made: published ports reach tasks of their own node only", "error", err)
		}
		changes = append(changes, more...)
		changes = append(changes, m.completeNodes(snap)...)
	}
	_, err := m.propose(ctx, changes)
	return err
}

func (m *Manager) completeNetworks(snap *state.Snapshot, c *state.Cluster) (changes []state.Change) {
	all := allotted(snap)
	for _, old := range snap.Networks() {
		rec := *old
		for i, n := range []*stack.Network{&rec.Network, rec.Next} {
			if n == nil || n.VNI != 0 || !spanning(*n) {
				continue
			}
			whole := *n
			others := make([]stack.Network, 0, len(all))
			for _, o := range all {
				if o.ID != n.ID {
					others = append(others, o)
				}
			}
			beside := besides(snap, c, others)
			beside.Nodes = nil // it has its subnets, whatever nodes say of them now
			if err := m.allot(&whole, c, all, beside); err != nil {
				m.log.Error("a network stays on single nodes", "error", err)
				continue
			}
			if all = append(all, whole); i == 0 {
				rec.Network = whole
			} else {
				rec.Next = &whole
			}
			changes = append(changes, state.Change{Network: &rec})
		}
	}
	return changes
}

func (m *Manager) completeNodes(snap *state.Snapshot) (changes []state.Change) {
	nodes := snap.Nodes()
	for i, old := range nodes {
		if old.Number != 0 {
			continue
		}
		n := *old
		var err error
		if n.Number, err = pickNumber(snap.Cluster(), nodes, meshOf(snap)); err != nil {
			m.log.Error("node without a number: ports of the cluster do not reach tasks over it", "node", n.ID, "error", err)
			continue
		}
		nodes[i] = &n
		changes = append(changes, state.Change{Node: &n})
	}
	return changes
}

// meshOf is the subnet of the nodes' own addresses; invalid: there is none yet.
func meshOf(snap *state.Snapshot) netip.Prefix {
	if n := snap.Network(stack.IngressNetwork); n != nil && n.Name == stack.IngressNetwork {
		for _, s := range n.Subnets {
			if p, err := netip.ParsePrefix(s.CIDR); err == nil && p.Addr().Is4() {
				return p
			}
		}
	}
	return netip.Prefix{}
}

// MaxNumber is the highest number of a node: twelve bits of the marks on packets
// hold it (overlaynet.MeshPeers), and a higher one would mean another node there.
const MaxNumber = 1<<12 - 1

// pickNumber returns a number that no node has, a new one while there are some:
// what is left of a node that went is told apart from its successor.
func pickNumber(c *state.Cluster, nodes []*stack.Node, mesh netip.Prefix) (int, error) {
	last := MaxNumber
	if mesh.IsValid() && mesh.Bits() >= 16 {
		last = min(last, 1<<(32-mesh.Bits())-2)
	}
	taken, highest := map[int]bool{}, 0
	if c != nil {
		highest = c.LastNumber
	}
	for _, n := range nodes {
		taken[n.Number] = true
		highest = max(highest, n.Number)
	}
	if highest < last {
		return highest + 1, nil
	}
	for i := 1; i <= last; i++ {
		if !taken[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("the numbers 1 to %d are all taken by nodes: the ingress network %s has no address for another one: remove nodes that are gone (dhow node rm), or begin with a larger range (dhow swarm init --default-addr-pool 10.0.0.0/8): %w",
		last, mesh, runtime.ErrConflict)
}

// ingress makes the network over which published ports reach tasks of other
// nodes, unless it exists.
func (m *Manager) ingress(snap *state.Snapshot, c *state.Cluster) ([]state.Change, error) {
	if n := snap.Network(stack.IngressNetwork); n != nil && n.Name == stack.IngressNetwork {
		if n.Driver == "overlay" && n.Network.Stack == "" {
			return nil, nil
		}
		return nil, fmt.Errorf("a network of the name %s exists, which the cluster needs for itself: remove it (dhow network rm %s): %w", n.Name, n.Name, runtime.ErrConflict)
	}
	if m.cfg.Subnets == nil {
		return nil, nil
	}
	used := allotted(snap)
	rec, err := m.resolveBeside(snap, c, used, used, stack.Network{Name: stack.IngressNetwork, Driver: "overlay", EnableIPv6: true}, time.Now().UnixNano())
	if err != nil {
		return nil, err
	}
	return []state.Change{{Network: rec}}, nil
}
