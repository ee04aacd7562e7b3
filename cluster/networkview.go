package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// NetworkView looks at a network, by its name or ID.
func (m *Manager) NetworkView(ref string) (stack.NetworkView, error) {
	snap := m.store.Snapshot()
	rec := snap.Network(ref)
	if rec == nil {
		return stack.NetworkView{}, fmt.Errorf("network %s: %w", ref, runtime.ErrNotFound)
	}
	d := directoryOf(snap, rec.Name, nil)
	v := stack.NetworkView{Network: rec.Network, Services: d.Services, Endpoints: d.Endpoints, Nodes: []stack.NetworkNode{}}
	count := map[string]int{}
	for _, e := range d.Endpoints {
		count[e.Node]++
	}
	hosts := map[string]string{}
	for _, id := range sortedKeys(count) {
		n := networkNode(snap, id)
		n.Endpoints, hosts[id] = count[id], n.Hostname
		v.Nodes = append(v.Nodes, n)
	}
	slices.SortFunc(v.Nodes, func(a, b stack.NetworkNode) int { return strings.Compare(a.Hostname, b.Hostname) })
	slices.SortFunc(v.Endpoints, func(a, b stack.Endpoint) int {
		return cmp.Or(strings.Compare(hosts[a.Node], hosts[b.Node]), strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	v.Waiting = waiting(snap, rec, &v)
	return v, nil
}

func networkNode(snap *state.Snapshot, id string) stack.NetworkNode {
	n := snap.Node(id)
	if n == nil {
		return stack.NetworkNode{ID: id, Hostname: id, Down: true}
	}
	return stack.NetworkNode{ID: id, Hostname: n.Hostname, Addr: n.DataAddr, Number: n.Number, Down: n.Down, Problems: n.Problems}
}

// waiting says what of the network is not as it should be, and why.
func waiting(snap *state.Snapshot, rec *state.Network, v *stack.NetworkView) (out []string) {
	if rec.Next != nil {
		out = append(out, "a new definition waits until no container uses this one")
	}
	for _, n := range v.Nodes {
		if n.Down {
			out = append(out, fmt.Sprintf("node %s does not answer: its %d containers are left out, their addresses are kept", n.Hostname, n.Endpoints))
		}
		for _, p := range n.Problems {
			out = append(out, fmt.Sprintf("node %s: %s", n.Hostname, p))
		}
	}
	ready := map[string]int{}
	for _, e := range v.Endpoints {
		if e.Ready {
			ready[e.Service]++
		}
	}
	for _, s := range v.Services {
		if ready[s.Service] == 0 {
			out = append(out, fmt.Sprintf("service %s has no task that is ready", s.Service))
		}
		stackName, name, _ := strings.Cut(s.Service, "/")
		for _, t := range snap.ServiceTasks(stackName, name) {
			if t.Desired == stack.DesiredRun && t.Status.State != stack.TaskRunning && t.Status.Message != "" {
				out = append(out, fmt.Sprintf("%s/%s.%d: %s", t.Stack, t.Service, t.Slot, t.Status.Message))
			}
		}
	}
	return out
}
