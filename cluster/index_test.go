package cluster_test

import (
	"context"
	"testing"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Whoever waits for the index of an apply that changed nothing must find that it has come,
// whatever happened to other stacks meanwhile.
func TestIndexOfAnApplyIsOneOfItsStack(t *testing.T) {
	w := newWorld(t)
	s, other := shop(svc("web", "web:1", 1)), shop(svc("web", "web:1", 1))
	other.Name, other.Networks["default"] = "other", stack.Network{Name: "other_default", Key: "default"}
	w.up(s)
	w.until("it runs", ready)
	w.up(other)
	_, index, err := w.m.ApplyStack(context.Background(), s, plan.Options{}, false)
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.m.Stack(s.Name)
	if err != nil || st.Index < index {
		t.Errorf("applied at %d, the stack is at %d (%v)", index, st.Index, err)
	}
}
