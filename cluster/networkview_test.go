package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// A look at a network says who has how much of it, and what is missing.
func TestNetworkViewSaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.open()
	web := svc("web", "web:1", 9)
	web.Container.Networks[0].Network = "tiny"
	web.Container.Ports = []stack.Port{{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 81}}
	db := svc("db", "db:1", 0)
	db.Container.Networks[0].Network = "tiny"
	s := shop(web, db)
	s.Networks["tiny"] = stack.Network{Name: "shop_tiny", Key: "tiny", Subnets: []stack.Subnet{{CIDR: "10.200.0.0/29", Gateway: "10.200.0.1"}}}
	w.up(s)
	w.until("five run", func(st cluster.StackStatus) bool {
		return service(st, "web").Running == 5 && service(st, "web").Message != ""
	})
	v, err := w.m.NetworkView("shop_tiny")
	must(t, err)
	if len(v.Endpoints) != 5 || len(v.Nodes) != 1 || v.Nodes[0].Endpoints != 5 || v.Nodes[0].Hostname != "one" {
		t.Errorf("got %+v", v)
	}
	if len(v.Usage) != 1 || v.Usage[0] != (stack.RangeUsage{Taken: 5, Total: 5}) { // the test's ranges have no virtual one
		t.Errorf("usage %+v", v.Usage)
	}
	if len(v.Published) != 1 || v.Published[0].Service != "shop/web" || len(v.Published[0].Ports) != 2 || v.Published[0].Ports[1].HostPort < 30000 {
		t.Errorf("published %+v", v.Published)
	}
	if len(v.Waiting) != 1 || !strings.HasPrefix(v.Waiting[0], "shop-web-6 and 3 more: no address: network shop_tiny: addresses 10.200.0.1 to 10.200.0.6") {
		t.Errorf("waiting for %q", v.Waiting)
	}
	w.control(cluster.Stop)
	w.until("stopped", func(st cluster.StackStatus) bool { return service(st, "web").Running == 0 })
	if v, err = w.m.NetworkView("shop_tiny"); err != nil || slices.ContainsFunc(v.Waiting, func(s string) bool { return strings.Contains(s, "web") }) {
		t.Errorf("nobody waits for what was stopped: %q, %v", v.Waiting, err)
	}
	_, err = w.m.NetworkView("none such")
	refused(t, err, runtime.ErrNotFound)
}

// A service without a task that serves is named, a job is not.
func TestNetworkViewNamesWhoAnswersNobody(t *testing.T) {
	w := newWorld(t)
	sick := withHealth(svc("web", "web:1", 2))
	w.up(shop(sick))
	w.until("running", func(st cluster.StackStatus) bool { return service(st, "web").Running == 2 })
	v, err := w.m.NetworkView("shop_default")
	must(t, err)
	if got := fmt.Sprint(v.Waiting); !strings.Contains(got, "service shop/web: no task is ready") {
		t.Errorf("waiting for %s", got)
	}
}

// A node that uses addresses of a network itself is named, unless a person has
// put the network into a part of them.
func TestNetworkViewNamesWhoUsesItsAddresses(t *testing.T) {
	w := newWorld(t)
	w.open()
	w.up(shop(svc("web", "web:1", 1)))
	w.until("ready", ready)
	asked, err := w.m.CreateNetwork(t.Context(), stack.Network{Name: "asked", Subnets: []stack.Subnet{{CIDR: "10.200.5.0/24"}}})
	must(t, err)
	free := network(t, w.m, "shop_default")
	self, err := w.m.Node(t.Context(), "self")
	must(t, err)
	n := self.Node
	n.Ranges = []string{free.Subnets[0].CIDR, "10.200.0.0/16"}
	must(t, w.m.Hello(t.Context(), n))
	for name, want := range map[string]string{
		free.Name:  "node one uses " + free.Subnets[0].CIDR + " itself, which meets " + free.Subnets[0].CIDR + " of this network",
		asked.Name: "",
	} {
		v, err := w.m.NetworkView(name)
		must(t, err)
		if got := strings.Join(v.Waiting, "; "); want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: waiting for %q, want %q", name, got, want)
		}
	}
}
