package cluster

import (
	"net/netip"
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// moveIngress gives the ingress network other ranges when those that it has are
// ones that a node itself uses: it was there before the node joined, and no
// container has an address in it. Nothing to do, or no other range: no change.
func (m *Manager) moveIngress(snap *state.Snapshot, node *stack.Node) []state.Change {
	old := snap.Network(stack.IngressNetwork)
	if old == nil || old.Name != stack.IngressNetwork || !own(old) || m.cfg.Subnets == nil || len(old.Asked.Subnets) > 0 || !meets(old.Network, node.Ranges) {
		return nil
	}
	rec := *old
	rec.Network = old.Asked
	rec.Network.ID, rec.Network.Created, rec.Network.VNI = old.Network.ID, old.Network.Created, old.Network.VNI
	used := allotted(snap)
	beside := besides(snap, snap.Cluster(), used)
	if beside.Nodes == nil {
		beside.Nodes = map[string][]string{}
	}
	beside.Nodes[name(node)] = node.Ranges
	if err := m.allot(&rec.Network, snap.Cluster(), used, beside); err != nil {
		m.log.Error("a node uses addresses of the ingress network itself, and there are no others: published ports do not reach tasks over it", "node", node.ID, "error", err)
		return nil
	}
	m.log.Info("the ingress network gets other addresses: a node uses those that it had", "node", node.ID, "old", old.Subnets, "new", rec.Subnets)
	return []state.Change{{Network: &rec}}
}

// meets tells whether a network's ranges overlap others.
func meets(n stack.Network, ranges []string) bool {
	_, _, ok := meeting(n, ranges, true)
	return ok
}

// meeting finds a range of a network and one of others that overlap. One that is
// wider (a VPN's 10.0.0.0/8) counts on request: it may serve the rest of itself.
func meeting(n stack.Network, ranges []string, wider bool) (mine, theirs string, ok bool) {
	all := slices.Clone(n.Virtual)
	for _, s := range n.Subnets {
		all = append(all, s.CIDR)
	}
	for _, m := range all {
		p, err := netip.ParsePrefix(m)
		if err != nil {
			continue
		}
		for _, r := range ranges {
			if q, err := netip.ParsePrefix(r); err == nil && q.Overlaps(p) && (wider || q.Bits() >= p.Bits()) {
				return m, r, true
			}
		}
	}
	return "", "", false
}
