package cluster

import (
	"bytes"
	"errors"
	"testing"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Whoever waits for the end of a task that is to go hears of the death of its
// node, although that changes nothing about the task: `up` waited for as long
// as the node was away, and `down` too.
func TestTheDeathOfANodeIsNews(t *testing.T) {
	m := openManager(t)
	far := machine()
	p, err := m.Admit(t.Context(), admission(t, m, far))
	if err != nil {
		t.Fatal(err)
	}
	change := func(changes ...state.Change) {
		t.Helper()
		if _, err := m.propose(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	web := stack.Service{Name: "web", Container: stack.ContainerSpec{Image: "web"}}
	going := stack.Task{ID: "going", Stack: "shop", Service: "web", Slot: 1, Node: p.Node, Desired: stack.DesiredRemove, Status: stack.TaskStatus{State: stack.TaskRunning}}
	change(state.Change{Stack: &state.Stack{Name: "shop"}},
		state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "shop", Name: "web", Spec: web, Desired: stack.DesiredRun}, NewVersion: true}},
		state.Change{Create: &going})
	seen, _, err := m.StackSince("shop", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, news, err := m.StackSince("shop", seen.Index); news || err != nil {
		t.Fatalf("nothing has changed: %v %v", news, err)
	}
	for _, down := range []bool{true, false} {
		n := *m.store.Snapshot().Node(p.Node)
		n.Down = down
		change(state.Change{Node: &n})
		now, news, err := m.StackSince("shop", seen.Index)
		if err != nil || !news || now.Index <= seen.Index || now.Stack.Name != "" {
			t.Fatalf("node down: %v; news: %v, index %d after %d, %v", down, news, now.Index, seen.Index, err)
		}
		seen = now
	}
	change(state.Change{Delete: &state.Key{Table: state.TableNode, Name: p.Node}})
	gone := func(what string) {
		t.Helper()
		if _, news, err := m.StackSince("shop", seen.Index); err != nil || !news {
			t.Errorf("a node that is gone: %s: news: %v, %v", what, news, err)
		}
	}
	gone("told by a command")
	var whole bytes.Buffer
	if err := errors.Join(m.store.Snapshot().Persist(&whole), m.store.Restore(&whole)); err != nil {
		t.Fatal(err)
	}
	gone("part of a whole state, as one gets that was far behind")
}
