package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// world is what the managers hold of nodes, networks and stacks.
type world struct {
	nodes    map[string]worldNode
	networks map[string]stack.NetworkView // by name; those that span nodes, without that of the mesh
	mesh     stack.Network
	stacks   []api.StackStatus
}

type worldNode struct {
	host   *netlab.Host
	number int // 0: not known
	down   bool
}

// facts are sentences about a machine: the same that the state asks for are to
// be true in its kernel.
type facts map[string]bool

func (f facts) add(format string, args ...any) { f[fmt.Sprintf(format, args...)] = true }

// differences between what is wanted and what there is.
func (f facts) differences(have facts) (out []string) {
	for _, s := range slices.Sorted(maps.Keys(f)) {
		if !have[s] {
			out = append(out, "missing: "+s)
		}
	}
	for _, s := range slices.Sorted(maps.Keys(have)) {
		if !f[s] {
			out = append(out, "too much: "+s)
		}
	}
	return out
}

// Consistent waits until the kernels of the hosts, and the names that their
// containers resolve, are what the managers' state says: nothing is missing and
// nothing is too much. No hosts: all of them.
func (c *C) Consistent(limit time.Duration, hosts ...*netlab.Host) {
	c.Helper()
	if len(hosts) == 0 {
		hosts = c.Hosts
	}
	netlab.Eventually(c, limit, "kernels and names are as the state says", func() error { return c.consistent(hosts) })
}

// consistent says what differs now.
func (c *C) consistent(hosts []*netlab.Host) error {
	w, err := c.world(hosts[0])
	if err != nil {
		return err
	}
	wrong := w.twice()
	found := make([][]string, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { found[i] = c.differs(w, h) })
	}
	wg.Wait()
	for _, f := range found {
		wrong = append(wrong, f...)
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong[:min(len(wrong), 40)], "\n"))
}

func (c *C) differs(w *world, h *netlab.Host) (out []string) {
	have, err := w.kernel(h)
	if err != nil {
		return []string{h.Name + ": " + err.Error()}
	}
	for name, v := range w.networks { // a bridge that nobody uses may stay for the next container, with nothing around it
		if mine, _ := w.sides(v, h); len(mine) == 0 {
			maps.DeleteFunc(have, func(fact string, _ bool) bool { return strings.HasPrefix(fact, "net "+name+": bridge ") })
		}
	}
	for _, d := range append(w.wanted(h).differences(have), w.misnamed(h)...) {
		out = append(out, h.Name+": "+d)
	}
	return out
}

// world asks a host for the state.
func (c *C) world(h *netlab.Host) (*world, error) {
	w := &world{nodes: map[string]worldNode{}, networks: map[string]stack.NetworkView{}}
	var nodes []struct {
		ID          string
		Description struct{ Hostname string }
		Status      struct{ State string }
	}
	if err := ask(h, "/nodes", &nodes); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		number, err := meshNumber(c.Host(n.Description.Hostname))
		if err != nil {
			return nil, err
		}
		w.nodes[n.ID] = worldNode{c.Host(n.Description.Hostname), number, n.Status.State != "ready"}
	}
	var networks []struct{ Name, ID, Driver string }
	if err := ask(h, "/networks", &networks); err != nil {
		return nil, err
	}
	for _, n := range networks {
		if n.Name == stack.LocalNetwork || n.Driver == "host" || n.Driver == "null" {
			continue
		}
		var v stack.NetworkView
		if err := ask(h, "/dhow/v1/networks/"+n.ID, &v); err != nil {
			return nil, err
		}
		if n.Name == stack.IngressNetwork {
			w.mesh = v.Network
			continue
		}
		for _, at := range v.Nodes {
			if known := w.nodes[at.ID]; at.Number != known.number {
				return nil, fmt.Errorf("%s has the mesh's number %d, the state says %d", at.Hostname, known.number, at.Number)
			}
		}
		w.networks[n.Name] = v
	}
	if err := ask(h, "/dhow/v1/stacks", &w.stacks); err != nil {
		return nil, err
	}
	return w, nil
}

// twice finds addresses that two containers have, or a container and a service,
// and networks that overlap.
func (w *world) twice() (out []string) {
	for name, v := range w.networks {
		holder := map[string]string{}
		take := func(addr, who string) {
			if addr == "" {
				return
			}
			if other := holder[addr]; other != "" {
				out = append(out, fmt.Sprintf("network %s: %s is that of %s and of %s", name, addr, other, who))
			}
			holder[addr] = who
		}
		for _, e := range v.Endpoints {
			take(e.IPv4, e.Name)
			take(e.IPv6, e.Name)
		}
		for _, s := range v.Services {
			take(s.IPv4, s.Service)
			take(s.IPv6, s.Service)
		}
		for other, o := range w.networks {
			if other < name {
				continue
			}
			if other != name && o.Network.VNI == v.Network.VNI {
				out = append(out, fmt.Sprintf("networks %s and %s have the number %d", name, other, v.Network.VNI))
			}
		}
	}
	return out
}

// behind is who is behind the ports of a service: its tasks, with their
// addresses in the networks of their default routes.
func (w *world) behind(st api.StackStatus, sv *stack.Service) (out []stack.Endpoint) {
	four, six := w.exit(st, sv, false), w.exit(st, sv, true)
	for _, name := range slices.Compact([]string{four, six}) {
		for _, e := range w.networks[name].Endpoints {
			if e.Service != st.Stack.Name+"/"+sv.Name {
				continue
			}
			if name != four {
				e.IPv4 = ""
			}
			if name != six {
				e.IPv6 = ""
			}
			out = append(out, e)
		}
	}
	return out
}

// exit is the name of the network that has the default route of a service's
// tasks for a family; "": none.
func (w *world) exit(st api.StackStatus, sv *stack.Service, six bool) string {
	name, best := "", stack.Attachment{}
	for _, at := range sv.Container.Networks {
		real := st.Stack.Networks[at.Network].Name
		n := w.networks[real].Network
		if n.Internal || !slices.ContainsFunc(n.Subnets, func(sn stack.Subnet) bool { return strings.Contains(sn.CIDR, ":") == six }) {
			continue
		}
		if name == "" || at.GwPriority > best.GwPriority || at.GwPriority == best.GwPriority && at.Priority > best.Priority {
			name, best = real, at
		}
	}
	return name
}

// sides are the endpoints of a host in a network, as far as they are up, and
// those of the other nodes: the way there is known for as long as they have addresses.
func (w *world) sides(v stack.NetworkView, h *netlab.Host) (mine, others []stack.Endpoint) {
	for _, e := range v.Endpoints {
		if w.nodes[e.Node].host != h {
			others = append(others, e)
		} else if e.Up {
			mine = append(mine, e)
		}
	}
	return mine, others
}

// serviceOf finds the definition behind "shop/web".
func (w *world) serviceOf(key string) (st api.StackStatus, sv *stack.Service) {
	for _, st := range w.stacks {
		for _, s := range st.Stack.Services {
			if st.Stack.Name+"/"+s.Name == key {
				return st, &s
			}
		}
	}
	return st, nil
}

// pool is who gets requests: those that are ready, or all that are up.
func pool(list []stack.Endpoint) (out []stack.Endpoint) {
	for _, e := range list {
		if e.Ready {
			out = append(out, e)
		}
	}
	if out != nil {
		return out
	}
	for _, e := range list {
		if e.Up {
			out = append(out, e)
		}
	}
	return out
}

// of is an endpoint's address of a family; "": none.
func of(e stack.Endpoint, six bool) string {
	if six {
		return e.IPv6
	}
	return e.IPv4
}

// macOf is the hardware address of an endpoint: its own, or that of its first address.
func macOf(e stack.Endpoint) string {
	if e.MAC != "" {
		return e.MAC
	}
	for _, s := range []string{e.IPv4, e.IPv6} {
		if a, err := netip.ParseAddr(s); err == nil {
			return overlaynet.MAC(a)
		}
	}
	return ""
}
