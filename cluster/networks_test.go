package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func (w *world) open() {
	w.t.Helper()
	must(w.t, w.m.OpenCluster(context.Background(), stack.Node{ID: w.m.NodeID(), Hostname: "one", Addr: "10.0.0.1:2377", OS: "linux", Memory: 1 << 30}, cluster.Settings{}))
}

func refused(t *testing.T, err, is error, parts ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("got %v, want %v", err, is)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

func network(t *testing.T, m *cluster.Manager, name string) stack.Network {
	t.Helper()
	n, ok := m.Network(name)
	if !ok {
		t.Fatalf("no network %s", name)
	}
	return n
}

func TestNetworksSpanAndTheDefaultOneDoesNot(t *testing.T) {
	w := newWorld(t)
	if n := network(t, w.m, "bridge"); n.VNI != 0 || n.Spans() || len(n.Virtual) > 1 {
		t.Errorf("the default network is %+v", n)
	}
	for i := range 3 {
		n, err := w.m.CreateNetwork(t.Context(), stack.Network{Name: fmt.Sprint("n", i), Driver: "bridge", VNI: 7, Virtual: []string{"1.2.3.0/24"}})
		must(t, err)
		if n.VNI != 0x10000+i || len(n.Virtual) != 1 || n.Virtual[0] == "1.2.3.0/24" || !n.Spans() {
			t.Errorf("network %d: %+v", i, n)
		}
	}
	must(t, w.m.RemoveNetwork(t.Context(), "n1"))
	n, err := w.m.CreateNetwork(t.Context(), stack.Network{Name: "again"})
	must(t, err)
	if n.VNI != 0x10003 {
		t.Errorf("VNI %#x, want one that no network had", n.VNI)
	}
	_, err = w.m.CreateNetwork(t.Context(), stack.Network{Name: "ingress"})
	refused(t, err, runtime.ErrForbidden, "the cluster has a network of this name")
}

func TestOpeningMakesTheIngressNetwork(t *testing.T) {
	w := newWorld(t)
	w.open()
	n := network(t, w.m, stack.IngressNetwork)
	if n.Attachable || n.Driver != "overlay" || !n.Spans() || len(n.Subnets) == 0 {
		t.Errorf("ingress is %+v", n)
	}
	refused(t, w.m.RemoveNetwork(t.Context(), "ingress"), runtime.ErrForbidden, "stays")
	self, err := w.m.Node(t.Context(), "self")
	must(t, err)
	if self.Number != 1 {
		t.Errorf("the first node has number %d", self.Number)
	}
	_, err = w.m.EnterNetwork(t.Context(), stack.Endpoint{ID: "c1", Network: "ingress", Node: w.m.NodeID()})
	refused(t, err, runtime.ErrForbidden, "takes no containers")
}

func endpoint(d *stack.Directory, id string) *stack.Endpoint {
	for i := range d.Endpoints {
		if d.Endpoints[i].ID == id {
			return &d.Endpoints[i]
		}
	}
	return nil
}

// The directory of a network says who is in it, what they are called and whether they serve.
func TestDirectoryOfANetwork(t *testing.T) {
	w := newWorld(t)
	web := svc("web", "web:1", 2)
	web.Container.Networks[0].Aliases = []string{"front"}
	db := svc("db", "db:1", 1)
	db.Deploy.EndpointMode = "dnsrr"
	w.up(shop(web, db))
	w.until("ready", ready)
	d := w.m.Directory("shop_default", nil)
	if len(d.Endpoints) != 3 || len(d.Services) != 2 || len(d.Published) != 0 {
		t.Fatalf("got %+v", d)
	}
	sv := d.Services[1]
	if sv.Service != "shop/web" || sv.IPv4 == "" || sv.Single || !slices.Equal(sv.Names, []string{"web", "front", "web.shop"}) {
		t.Errorf("web is %+v", sv)
	}
	if sv := d.Services[0]; sv.Service != "shop/db" || sv.IPv4 != "" || !sv.Single {
		t.Errorf("db is %+v", sv)
	}
	st, err := w.m.Stack("shop")
	must(t, err)
	seen := map[string]bool{}
	for _, task := range st.Tasks {
		e := endpoint(d, task.ID)
		if e == nil || !e.Up || !e.Ready || e.Node != w.m.NodeID() || e.Container != task.Status.ContainerID || seen[e.IPv4] {
			t.Errorf("%s.%d: %+v", task.Service, task.Slot, e)
			continue
		}
		seen[e.IPv4] = true
		if want := fmt.Sprintf("shop-%s-%d", task.Service, task.Slot); e.Name != want || e.Service != "shop/"+task.Service || e.Aliases[0] != task.Service {
			t.Errorf("%s is called %+v", want, e)
		}
	}
	if got := w.m.Topics(w.m.NodeID()); !slices.Equal(got, []string{"shop_default"}) {
		t.Errorf("topics %q", got)
	}
	one := w.m.Directory("shop_default", []string{dispatch.EndpointKey(st.Tasks[0].ID), dispatch.EndpointKey("gone"), dispatch.ServiceKey("shop/web")})
	if len(one.Endpoints) != 1 || len(one.Services) != 1 {
		t.Errorf("by keys: %+v", one)
	}
	refused(t, w.m.RemoveNetwork(t.Context(), "shop_default"), runtime.ErrConflict, "stack shop")
}

// A change concerns the topics of the networks in which it is to be seen.
func TestTouchedTopics(t *testing.T) {
	w := newWorld(t)
	w.up(shop(svc("web", "web:1", 2)))
	st := w.until("ready", ready)
	_, err := w.m.CreateNetwork(t.Context(), stack.Network{Name: "mine"})
	must(t, err)
	before := w.m.Index()
	_, err = w.m.EnterNetwork(t.Context(), stack.Endpoint{ID: "c1", Network: "mine", Node: w.m.NodeID(), Name: "box"})
	must(t, err)
	got := w.m.Core().Touched(before)
	if len(got.Topics) != 1 || !slices.Equal(got.Topics["mine"], []string{dispatch.EndpointKey("c1")}) || got.Nodes[w.m.NodeID()] == nil {
		t.Errorf("got %+v", got)
	}
	before = w.m.Index()
	w.control(cluster.Stop, "web")
	w.until("stopped", func(st cluster.StackStatus) bool { return service(st, "web").Running == 0 })
	got = w.m.Core().Touched(before)
	for _, task := range st.Tasks {
		if !slices.Contains(got.Topics["shop_default"], dispatch.EndpointKey(task.ID)) {
			t.Errorf("%s is not among %q", task.ID, got.Topics)
		}
	}
	if e := w.m.Directory("shop_default", nil).Endpoints[0]; e.Up || e.Ready || e.IPv4 == "" {
		t.Errorf("a stopped task is %+v", e)
	}
}

func TestPlainContainersEnterAndLeave(t *testing.T) {
	w := newWorld(t)
	for _, n := range []stack.Network{
		{Name: "mine", Subnets: []stack.Subnet{{CIDR: "10.77.0.0/24"}}},
		{Name: "closed", Driver: "overlay", Subnets: []stack.Subnet{{CIDR: "10.78.0.0/24"}}},
	} {
		_, err := w.m.CreateNetwork(t.Context(), n)
		must(t, err)
	}
	enter := func(id, network, ip string) (stack.Endpoint, error) {
		return w.m.EnterNetwork(t.Context(), stack.Endpoint{ID: id, Network: network, Node: w.m.NodeID(), Name: "box-" + id, IPv4: ip})
	}
	a, err := enter("a", "mine", "")
	must(t, err)
	again, err := enter("a", "mine", "")
	must(t, err)
	if a.IPv4 != "10.77.0.2" || again.IPv4 != a.IPv4 || !a.Up || !a.Ready {
		t.Errorf("got %+v, then %+v", a, again)
	}
	_, err = enter("b", "mine", "10.77.0.2")
	refused(t, err, runtime.ErrConflict, "network mine: address 10.77.0.2 is taken by container box-a")
	b, err := enter("b", "mine", "10.77.0.9")
	must(t, err)
	if b.IPv4 != "10.77.0.9" {
		t.Errorf("got %+v", b)
	}
	moved, err := enter("b", "mine", "10.77.0.10")
	must(t, err)
	c, err := enter("c", "mine", "10.77.0.9")
	if err != nil || c.IPv4 != "10.77.0.9" || moved.IPv4 != "10.77.0.10" {
		t.Errorf("got %+v and %+v, %v", moved, c, err)
	}
	_, err = enter("a", "closed", "")
	refused(t, err, runtime.ErrForbidden, "not manually attachable", "--attachable")
	_, err = enter("a", "bridge", "")
	refused(t, err, runtime.ErrInvalid)
	_, err = enter("a", "none such", "")
	refused(t, err, runtime.ErrNotFound)
	refused(t, w.m.RemoveNetwork(t.Context(), "mine"), runtime.ErrConflict, "network mine has active endpoints: container box-a, container box-b, container box-c")
	must(t, w.m.LeaveNetwork(t.Context(), w.m.NodeID(), "a", "mine"))
	must(t, w.m.LeaveNetwork(t.Context(), "another", "b", "mine")) // not its own
	must(t, w.m.KeepEndpoints(t.Context(), w.m.NodeID(), []string{"b"}))
	refused(t, w.m.RemoveNetwork(t.Context(), "mine"), runtime.ErrConflict, "endpoints: container box-b:")
	must(t, w.m.KeepEndpoints(t.Context(), w.m.NodeID(), nil))
	must(t, w.m.RemoveNetwork(t.Context(), "mine"))
}

func published(name string, ports ...stack.Port) stack.Service {
	s := svc(name, "web:1", 1)
	s.Container.Ports = ports
	return s
}

// In an open cluster a port is one service's, and who has it is named.
func TestPortsAreTheClusters(t *testing.T) {
	w := newWorld(t)
	w.up(shop(published("web", stack.Port{HostPort: 8080, ContainerPort: 80}, stack.Port{ContainerPort: 81}, stack.Port{HostPort: 9000, ContainerPort: 90, Mode: "host"})))
	w.until("ready", ready)
	other := func(ports ...stack.Port) error {
		s := shop(published("api", ports...))
		s.Name, s.Networks = "other", map[string]stack.Network{"default": {Name: "other_default", Key: "default"}}
		_, _, err := w.m.Deploy(t.Context(), cluster.Deployment{Stack: s, DryRun: true})
		return err
	}
	must(t, other(stack.Port{HostPort: 8080, ContainerPort: 80})) // alone, they may take turns
	if d := w.m.Directory("", nil); len(d.Published)+len(d.Endpoints) > 0 {
		t.Errorf("alone: %+v", d)
	}
	w.open()
	w.until("chosen", func(cluster.StackStatus) bool {
		d := w.m.Directory("", nil)
		return len(d.Published) == 1 && len(d.Published[0].Ports) == 2 && len(d.Endpoints) == 1
	})
	d := w.m.Directory("", nil)
	if p := d.Published[0]; p.Service != "shop/web" || p.Ports[0].HostPort != 8080 || p.Ports[1].HostPort != 30000 || d.Endpoints[0].Network != "shop_default" || d.Endpoints[0].IPv4 == "" {
		t.Errorf("got %+v", d)
	}
	for _, c := range []struct {
		port stack.Port
		want string // "": it is free
	}{
		{stack.Port{HostPort: 8080, ContainerPort: 80}, "port 8080/tcp is taken: service web of stack shop publishes it on all nodes"},
		{stack.Port{HostPort: 8080, ContainerPort: 80, HostIP: "127.0.0.1"}, "port 127.0.0.1:8080/tcp is taken"},
		{stack.Port{HostPort: 8080, ContainerPort: 80, Mode: "host"}, "service web of stack shop publishes it"},
		{stack.Port{HostPort: 8080, ContainerPort: 80, Protocol: "udp"}, ""},
		{stack.Port{HostPort: 9000, ContainerPort: 80}, "has it on its nodes (mode host)"},
		{stack.Port{HostPort: 9000, ContainerPort: 80, Mode: "host"}, "has it on the nodes that this service has to run on"},
		{stack.Port{HostPort: 30000, ContainerPort: 80}, "port 30000/tcp is taken: service web of stack shop"},
		{stack.Port{HostPort: 8081, ContainerPort: 80}, ""},
		{stack.Port{ContainerPort: 80}, ""},
	} {
		err := other(c.port)
		if c.want == "" {
			must(t, err)
			continue
		}
		refused(t, err, runtime.ErrConflict, c.want, "services.api.ports")
	}
	w.up(shop(published("web", stack.Port{HostPort: 8080, ContainerPort: 81}))) // its own
}

// Behind published ports a task has, for each family, the address in the
// network of that family's default route.
func TestPublishedAddressesOfBothFamilies(t *testing.T) {
	w := newWorld(t)
	w.open()
	s := shop(published("web", stack.Port{HostPort: 8080, ContainerPort: 80}))
	s.Networks = map[string]stack.Network{
		"default": {Name: "shop_default", Key: "default"},
		"both":    {Name: "shop_both", Key: "both", EnableIPv6: true, Subnets: []stack.Subnet{{CIDR: "10.9.0.0/24"}, {CIDR: "fd00:9::/64"}}},
	}
	web := s.Services["web"]
	web.Container.Networks = []stack.Attachment{{Network: "default", GwPriority: 1}, {Network: "both"}}
	s.Services["web"] = web
	w.up(s)
	w.until("ready", ready)
	list := w.m.Directory("", nil).Endpoints
	if len(list) != 1 {
		t.Fatalf("endpoints %+v", list)
	}
	four, six := w.m.Directory("shop_default", nil).Endpoints[0], w.m.Directory("shop_both", nil).Endpoints[0]
	if e := list[0]; e.Network != "shop_default" || e.IPv4 != four.IPv4 || e.IPv6 == "" || e.IPv6 != six.IPv6 {
		t.Errorf("got %+v; it has %s and %s", e, four.IPv4, six.IPv6)
	}
}
