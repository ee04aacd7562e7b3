package cluster_test

import (
	"errors"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// subnetted is the stack shop with its network in a subnet of the file's.
func subnetted(cidr string, services ...stack.Service) stack.Stack {
	s := shop(services...)
	n := s.Networks["default"]
	n.Subnets = []stack.Subnet{{CIDR: cidr}}
	s.Networks["default"] = n
	return s
}

// A network in which somebody else is than the tasks of its stack is not made
// again under his feet: his addresses would be given to others.
func TestANetworkWithGuestsIsNotMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.up(subnetted("10.80.0.0/24", svc("web", "web:1", 1)))
	w.until("ready", ready)
	box := stack.Endpoint{ID: "c1", Network: "shop_default", Node: w.m.NodeID(), Name: "box"}
	_, err := w.m.EnterNetwork(t.Context(), box)
	must(t, err)
	before := network(t, w.m, "shop_default")
	_, _, err = w.m.ApplyStack(t.Context(), subnetted("10.81.0.0/24", svc("web", "web:1", 1)), plan.Options{}, false)
	refused(t, err, runtime.ErrConflict, "network shop_default is to be made again", "container box", "docker network disconnect")
	if got := network(t, w.m, "shop_default"); got.ID != before.ID {
		t.Errorf("it is another one: %+v", got)
	}
	must(t, w.m.LeaveNetwork(t.Context(), w.m.NodeID(), "c1", "shop_default"))
	_, _, err = w.m.ApplyStack(t.Context(), subnetted("10.81.0.0/24", svc("web", "web:1", 1)), plan.Options{}, false)
	must(t, err)
	w.until("the other network", func(st cluster.StackStatus) bool {
		return ready(st) && network(t, w.m, "shop_default").Subnets[0].CIDR == "10.81.0.0/24"
	})
}

// A network with a container of nobody's outlives its stack, and the next up
// takes it over, or makes it anew once it is empty.
func TestANetworkWithGuestsOutlivesItsStack(t *testing.T) {
	w := newWorld(t)
	w.up(subnetted("10.80.0.0/24", svc("web", "web:1", 1)))
	w.until("ready", ready)
	for id, of := range map[string]string{"c1": "", "c2": "shop"} {
		_, err := w.m.EnterNetwork(t.Context(), stack.Endpoint{ID: id, Network: "shop_default", Node: w.m.NodeID(), Name: "box-" + id, Stack: of})
		must(t, err)
	}
	before := network(t, w.m, "shop_default")
	down := func() {
		t.Helper()
		must(t, w.m.RemoveStack(t.Context(), "shop", cluster.RemoveOptions{}))
		w.until("the stack is gone", func(cluster.StackStatus) bool {
			_, err := w.m.Stack("shop")
			return errors.Is(err, runtime.ErrNotFound)
		})
	}
	down()
	if got := network(t, w.m, "shop_default"); got.ID != before.ID {
		t.Fatalf("it is another one: %+v", got)
	}
	w.up(subnetted("10.80.0.0/24", svc("web", "web:1", 1)))
	w.until("ready", ready)
	if got := network(t, w.m, "shop_default"); got.ID != before.ID {
		t.Errorf("the same definition made another network: %+v", got)
	}
	down()
	_, _, err := w.m.ApplyStack(t.Context(), subnetted("10.82.0.0/24", svc("web", "web:1", 1)), plan.Options{}, false)
	refused(t, err, runtime.ErrConflict, "container box-c1")
	must(t, w.m.KeepEndpoints(t.Context(), w.m.NodeID(), nil))
	w.up(subnetted("10.82.0.0/24", svc("web", "web:1", 1)))
	w.until("ready", ready)
	if got := network(t, w.m, "shop_default"); got.Subnets[0].CIDR != "10.82.0.0/24" {
		t.Errorf("got %+v", got)
	}
	down()
	if _, ok := w.m.Network("shop_default"); ok {
		t.Error("an empty network outlives its stack")
	}
}
