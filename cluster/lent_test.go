package cluster_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// A network that another stack uses stays as long as that stack is there.
func TestALentNetworkStays(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	owner := shop(svc("web", "web:1", 1))
	owner.Networks["front"] = stack.Network{Name: "shop_front", Key: "front"}
	w.up(owner)
	w.up(stack.Stack{
		Name: "blog", Services: map[string]stack.Service{"db": svc("db", "db:1", 1)},
		Networks: map[string]stack.Network{"default": {Name: "shop_front", External: true}},
	})
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), "shop_front is used by stack blog") {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("down", w.m.RemoveStack(ctx, "shop", cluster.RemoveOptions{}))
	_, _, err := w.m.ApplyStack(ctx, shop(svc("web", "web:1", 1)), plan.Options{}, false)
	refused("up without the network", err)
	if _, ok := w.m.Network("shop_front"); !ok {
		t.Fatal("the network went all the same")
	}
	if err := w.m.RemoveStack(ctx, "blog", cluster.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := w.m.RemoveStack(ctx, "shop", cluster.RemoveOptions{}); err != nil {
		t.Errorf("down after the other stack: %v", err)
	}
	w.until("the stack is gone", func(st cluster.StackStatus) bool { return len(st.Services) == 0 })
}
