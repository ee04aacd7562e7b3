package cluster_test

import (
	"context"
	"testing"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Who waits for the state that an up led to must not wait for one that this
// stack never reaches, because another stack changed last.
func TestIndexOfAnUpWithNothingToDo(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	w.up(shop(svc("web", "web:1", 1)))
	st := w.until("runs", ready)
	if _, err := w.m.CreateNetwork(ctx, stack.Network{Name: "other"}); err != nil {
		t.Fatal(err)
	}
	p, index, err := w.m.ApplyStack(ctx, shop(svc("web", "web:1", 1)), plan.Options{}, false)
	if err != nil || len(p.Steps) > 0 {
		t.Fatalf("steps %v, error %v", p.Steps, err)
	}
	now, err := w.m.Stack("shop")
	if err != nil || index > now.Index || index < st.Index {
		t.Errorf("index %d, that of the stack %d, before %d; %v", index, now.Index, st.Index, err)
	}
}
