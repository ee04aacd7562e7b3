package dispatch

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dhow-project/dhow/stack"
)

func TestANodeGetsItsTasksAndReports(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st := &stack.Stack{Name: "shop", Secrets: map[string]stack.Secret{"key": {Name: "shop_key"}}}
	svc := &stack.Service{Name: "web", Replicas: 2, Container: stack.ContainerSpec{Image: "web:1", Command: []string{}}}
	a := task("t1", svc, st)
	a.Secrets = map[string][]byte{"key": []byte("hush")}
	a.Configs = map[string][]byte{"conf": {}}
	core.place("n1", a, task("t2", svc, st))
	core.setView(View{Cluster: "c1", Keys: [][]byte{[]byte("0123456789abcdef")}, Nodes: []Node{{ID: "m1", Role: stack.RoleManager}, {ID: "n1"}}, Networks: []stack.Network{{Name: "shop_front"}}})
	w.lead("m1", core)
	c := w.client("n1", nil)
	select {
	case <-c.Ready():
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	if diff := cmp.Diff(core.Assignments("n1"), c.Assignments("n1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(core.View(), c.View()); diff != "" {
		t.Error(diff)
	}
	if err := c.Report(t.Context(), []stack.TaskReport{{Task: "t1", Status: stack.TaskStatus{State: stack.TaskRunning, ContainerID: "abc"}}}); err != nil {
		t.Fatal(err)
	}
	if got := core.statuses["t1"].ContainerID; got != "abc" {
		t.Errorf("the leader has container %q", got)
	}
	core.place("n1", task("t2", svc, st), task("t3", svc, st))
	eventually(t, "t2 t3", func() bool { return ids(c) == "t2 t3" })
	eventually(t, "a lease", func() bool { ok, _ := c.Lease(); return ok })
	s := w.hosts["m1"].server.Sessions()["n1"]
	if !s.Connected || s.Description.Node.Hostname != "n1" {
		t.Errorf("session %+v", s)
	}
}

func TestARecalledNodeCallsAgain(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	calls := make(chan string, 10)
	core.hello = func(_ context.Context, node string, _ Description) error { calls <- node; return nil }
	w.lead("m1", core)
	c := w.client("n1", nil)
	heard := func() {
		t.Helper()
		select {
		case <-calls:
		case <-time.After(patience):
			t.Fatal("no call")
		}
	}
	heard()
	eventually(t, "a lease", func() bool { ok, _ := c.Lease(); return ok })
	srv := w.hosts["m1"].server
	before := srv.Sessions()["n1"]
	srv.Recall("nobody")
	srv.Recall("n1")
	heard()
	if after := srv.Sessions()["n1"]; after.LeaseEnds.Before(before.LeaseEnds) {
		t.Errorf("the lease of before is forgotten: it ended %v, now %v", before.LeaseEnds, after.LeaseEnds)
	}
}
