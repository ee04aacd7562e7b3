package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/cluster/address"
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
	v := stack.NetworkView{Network: rec.Network, Services: d.Services, Endpoints: d.Endpoints, Nodes: []stack.NetworkNode{}, Published: []stack.Published{}}
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
	var virtual []stack.TaskAddress
	for _, sv := range membersOf(snap, rec.Name) {
		if ports := chosenPorts(sv); len(ports) > 0 {
			v.Published = append(v.Published, stack.Published{Service: sv.Stack + "/" + sv.Name, Ports: ports})
		}
		virtual = append(virtual, sv.Addresses...)
	}
	if rec.Spans() && !own(rec) {
		v.Usage = address.Usage(rec.Network, heldIn(snap, rec.Name), virtual)
	}
	v.Waiting = waiting(snap, rec, &v)
	return v, nil
}

// own reports whether a network is the cluster's own, of published ports.
func own(n *state.Network) bool { return n.Name == stack.IngressNetwork && n.Network.Stack == "" }

// membersOf are the services that are to be in a network, by stack and name.
func membersOf(snap *state.Snapshot, network string) (out []*state.Service) {
	for _, s := range snap.Stacks() {
		keys := map[string]bool{}
		for key, n := range s.Spec.Networks {
			if n.Name == network {
				keys[key] = true
			}
		}
		if len(keys) == 0 {
			continue
		}
		for _, sv := range snap.Services(s.Name) {
			if slices.ContainsFunc(sv.Spec.Container.Networks, func(a stack.Attachment) bool { return keys[a.Network] }) {
				out = append(out, sv)
			}
		}
	}
	return out
}

// heldIn are the addresses that tasks and containers have in a network.
func heldIn(snap *state.Snapshot, network string) (out []stack.TaskAddress) {
	for _, t := range snap.NetworkTasks(network) {
		out = append(out, t.Addresses...)
	}
	for _, e := range snap.Endpoints(network) {
		out = append(out, stack.TaskAddress{Network: network, IPv4: e.IPv4, IPv6: e.IPv6})
	}
	return out
}

func networkNode(snap *state.Snapshot, id string) stack.NetworkNode {
	n := snap.Node(id)
	if n == nil {
		return stack.NetworkNode{ID: id, Hostname: id, Down: true}
	}
	return stack.NetworkNode{ID: id, Hostname: name(n), Addr: n.DataAddr, Number: n.Number, Down: n.Down, Problems: n.Problems}
}

// waiting says what of the network is not as it should be, and why.
func waiting(snap *state.Snapshot, rec *state.Network, v *stack.NetworkView) (out []string) {
	if rec.Next != nil {
		out = append(out, "a new definition waits until no container uses this one: what is still in it is listed above")
	}
	for _, n := range v.Nodes {
		if n.Down {
			out = append(out, fmt.Sprintf("node %s does not answer: %s left out, and keep their addresses (dhow node inspect --pretty %s)", n.Hostname, containers(n.Endpoints), n.Hostname))
		}
		for _, p := range n.Problems {
			out = append(out, fmt.Sprintf("node %s: %s", n.Hostname, p))
		}
	}
	out = append(out, overlaps(snap, rec)...)
	out = append(out, local(snap, rec)...)
	ready := map[string]int{}
	for _, e := range v.Endpoints {
		if e.Ready {
			ready[e.Service]++
		}
	}
	for _, sv := range membersOf(snap, rec.Name) {
		out = append(out, serviceWaits(snap, sv, ready[sv.Stack+"/"+sv.Name])...)
	}
	return out
}

// overlaps names the nodes that use addresses of a network themselves: they have
// joined, or got them, after it was made.
func overlaps(snap *state.Snapshot, rec *state.Network) (out []string) {
	if !rec.Spans() {
		return nil
	}
	how := "make it anew with another subnet (dhow down, then up)"
	if own(rec) {
		how = "no other range is free: give the managers one more pool (dhow daemon --address-pool BASE,SIZE), then restart the daemon of that node"
	}
	for _, n := range snap.Nodes() {
		if mine, theirs, ok := meeting(rec.Network, n.Ranges, len(rec.Asked.Subnets) == 0); ok {
			out = append(out, fmt.Sprintf("node %s uses %s itself, which meets %s of this network: its containers do not reach the one or the other; %s", name(n), theirs, mine, how))
		}
	}
	return out
}

// local counts tasks from before their network spanned nodes: the nodes chose
// their addresses, and no other node knows of them.
func local(snap *state.Snapshot, rec *state.Network) (out []string) {
	if !rec.Spans() || len(snap.Nodes()) < 2 {
		return nil
	}
	for _, sv := range membersOf(snap, rec.Name) {
		old := 0
		for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
			old += count(t.Node != "" && t.Status.State == stack.TaskRunning && t.Desired == stack.DesiredRun && !slices.ContainsFunc(t.Addresses, func(a stack.TaskAddress) bool { return a.Network == rec.Name }))
		}
		if old > 0 {
			out = append(out, fmt.Sprintf("service %s/%s: %d of its tasks are from before the network spanned nodes, and reached on their own node only, until they are replaced (dhow up --force-recreate %s)", sv.Stack, sv.Name, old, sv.Name))
		}
	}
	return out
}

func containers(n int) string {
	if n == 1 {
		return "its container is"
	}
	return fmt.Sprintf("its %d containers are", n)
}

// serviceWaits says what a service waits for; ready is how many of its tasks get requests.
func serviceWaits(snap *state.Snapshot, sv *state.Service, ready int) (out []string) {
	if sv.Removing || sv.Desired != stack.DesiredRun || wantedTasks(snap, sv) == 0 {
		return nil
	}
	var order []string
	byReason := map[string][]string{}
	for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
		if t.Desired != stack.DesiredRun || t.Status.State == stack.TaskRunning || t.Status.State == stack.TaskCompleted || t.Status.Message == "" {
			continue
		}
		why := strings.TrimPrefix(t.Status.Message, fmt.Sprintf("%s.%d: ", t.Service, t.Slot))
		if byReason[why] == nil {
			order = append(order, why)
		}
		byReason[why] = append(byReason[why], containerName(snap, t))
	}
	for _, why := range order {
		out = append(out, several(byReason[why])+": "+why)
	}
	if job := sv.Spec.Mode == stack.ReplicatedJob || sv.Spec.Mode == stack.GlobalJob; ready == 0 && !job {
		out = append(out, fmt.Sprintf("service %s/%s: no task is ready, it answers nobody (dhow ps --all)", sv.Stack, sv.Name))
	}
	return out
}

// several names the first of some and counts the others.
func several(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}
