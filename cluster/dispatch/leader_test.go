package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// quick are terms for tests that wait for ends of leases.
func quick(int) Terms { return Terms{Beat: 50 * time.Millisecond, Lease: 400 * time.Millisecond} }

// TestALeaderChangeTakesNobodyLong: the nodes that looked for a leader while
// there was none find it when it is there, and are sent nothing twice.
func TestALeaderChangeTakesNobodyLong(t *testing.T) {
	w := newWorld(t, "m1", "m2", "m3")
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
	core.place("n1", task("t1", svc, st))
	core.setView(View{Cluster: "c1", Nodes: []Node{{ID: "m1", Role: stack.RoleManager}}})
	stop := w.lead("m1", core)
	c := w.client("n1", nil)
	eventually(t, "a session with m1", func() bool { return c.Leader() == "m1" && ids(c) == "t1" })

	w.sever("m1")
	w.elect("")
	stop()
	eventually(t, "no session", func() bool { return c.Leader() == "" })
	if ids(c) != "t1" {
		t.Error("without a leader the node forgot its task")
	}
	before := c.Assignments("n1")[0].Service
	w.lead("m2", core)
	since := time.Now()
	eventually(t, "a session with m2", func() bool { return c.Leader() == "m2" })
	t.Logf("back after %v", time.Since(since).Round(time.Millisecond))
	core.place("n1", task("t1", svc, st), task("t2", svc, st))
	eventually(t, "news from m2", func() bool { return ids(c) == "t1 t2" })
	if c.Assignments("n1")[0].Service != before {
		t.Error("what the node had was sent again")
	}

	// One that steps down says so.
	w.elect("m3")
	w.lead("m3", core)
	w.hosts["m2"].server.mu.Lock()
	old := w.hosts["m2"].server.reign
	w.hosts["m2"].server.mu.Unlock()
	go old.end("m3")
	since = time.Now()
	eventually(t, "a session with m3", func() bool { return c.Leader() == "m3" })
	t.Logf("over to m3 after %v", time.Since(since).Round(time.Millisecond))
}

// TestTheOthersHearOfADeadLeaderLater: until their election timeout they name
// the dead leader to the nodes that have noticed. Those wait with them.
func TestTheOthersHearOfADeadLeaderLater(t *testing.T) {
	w := newWorld(t, "m1", "m2", "m3")
	core := newCore()
	stop := w.lead("m1", core)
	c := w.client("n1", nil)
	eventually(t, "a session with m1", func() bool { return c.Leader() == "m1" })
	w.sever("m1")
	stop()
	eventually(t, "no session", func() bool { return c.Leader() == "" })
	<-time.After(1200 * time.Millisecond) // in which m2 and m3 still say m1
	w.lead("m2", core)
	since := time.Now()
	eventually(t, "a session with m2", func() bool { return c.Leader() == "m2" })
	t.Logf("found %v after the election", time.Since(since).Round(time.Millisecond))
}

func TestADeadManagerInTheListDelaysLittle(t *testing.T) {
	w := newWorld(t, "m3")
	w.lead("m3", newCore())
	c := w.client("n1", func(cfg *ClientConfig) {
		cfg.Managers = func() []string { return []string{"m1", "m2", "m3"} }
		dial := cfg.Dial
		cfg.Dial = w.hang(dial, "m1", "m2")
	})
	since := time.Now()
	eventually(t, "a session", func() bool { return c.Leader() == "m3" })
	t.Logf("after %v", time.Since(since).Round(time.Millisecond))
}

// TestASuspectIsLeft: what gossip knows need not be found out by waiting.
func TestASuspectIsLeft(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	core := newCore()
	w.lead("m1", core)
	c := w.client("n1", nil)
	eventually(t, "a session with m1", func() bool { return c.Leader() == "m1" })
	w.elect("m2")
	w.lead("m2", core)
	w.mu.Lock()
	w.cut["m1"] = true // silently: the connection stays
	w.mu.Unlock()
	c.Suspect("m1")
	eventually(t, "a session with m2", func() bool { return c.Leader() == "m2" })
}

// TestTheNodesEndComesFirst: while the leader cannot make sure that it leads,
// leases end, and the node's before the leader's view of it.
func TestTheNodesEndComesFirst(t *testing.T) {
	w := newWorld(t)
	h := w.add("m1", quick)
	core := newCore()
	w.lead("m1", core)
	c := w.client("n1", nil)
	eventually(t, "a lease", func() bool { ok, _ := c.Lease(); return ok })
	core.mu.Lock()
	core.verify = func(ctx context.Context) error { <-ctx.Done(); return errors.New("cut off") }
	core.mu.Unlock()
	var until time.Time
	eventually(t, "its end", func() bool {
		ok, end := c.Lease()
		if s := h.server.Sessions()["n1"]; ok && s.LeaseEnds.Before(end) {
			t.Fatalf("the leader's view ends at %v, the node's at %v", s.LeaseEnds, end)
		}
		until = end
		return !ok
	})
	if time.Now().Before(until) {
		t.Error("it ended before its time")
	}
	core.mu.Lock()
	core.verify = nil
	core.mu.Unlock()
	eventually(t, "a new lease", func() bool { ok, _ := c.Lease(); return ok })
}

// TestASilentNodeIsTold: its session ends and its lease is over.
func TestASilentNodeIsTold(t *testing.T) {
	w := newWorld(t)
	h := w.add("m1", quick)
	w.lead("m1", newCore())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := w.raw(ctx, "n1", "m1", &hello{Protocol: protocol})
	eventually(t, "a session", func() bool { return h.server.Sessions()["n1"].Connected })
	for m := r.next(); ; m = r.next() { // never a heartbeat
		if m.Bye != nil {
			break
		}
	}
	eventually(t, "no session", func() bool { return !h.server.Sessions()["n1"].Connected })
	eventually(t, "the end of its lease", func() bool { return !time.Now().Before(h.server.Sessions()["n1"].LeaseEnds) })
}

// TestALeaderThatStoodStillJudgesNobody: it cannot know who has called meanwhile.
func TestALeaderThatStoodStillJudgesNobody(t *testing.T) {
	s := NewServer(ServerConfig{Node: "m1"})
	r := newReign(s, newCore())
	before := time.Now()
	r.nodes["n1"] = &visitor{heard: before, ends: before.Add(5 * time.Second)}
	later := before.Add(30 * time.Second)
	r.look(later)
	heard, ends := r.lastLocked(r.nodes["n1"])
	if heard.Before(later) || ends.Before(later.Add(5*time.Second)) || r.nodes["n1"].expired {
		t.Errorf("after 30 s: heard %v, ends %v, expired %v", heard.Sub(before), ends.Sub(before), r.nodes["n1"].expired)
	}
	for d := 250 * time.Millisecond; d <= 6*time.Second; d += 250 * time.Millisecond {
		r.look(later.Add(d))
	}
	if !r.nodes["n1"].expired {
		t.Error("it goes on for ever")
	}
}

// TestANodeThatStoodStillTrustsNothingOld: what waited in the connection is out of date.
func TestANodeThatStoodStillTrustsNothingOld(t *testing.T) {
	c := NewClient(ClientConfig{Node: "n1"})
	terms := Terms{Beat: time.Second, Lease: 5 * time.Second}
	woke := time.Now()
	r := &remote{client: c, terms: terms}
	c.lease.beat(1, woke.Add(-31*time.Second))
	if err := r.take(&fromServer{Ack: &ack{1, terms}}, woke.Add(-60*time.Second)); err != nil {
		t.Fatal(err)
	}
	if ok, _ := c.Lease(); ok {
		t.Error("an old acknowledgement gave a lease")
	}
	err := r.take(&fromServer{Update: &update{}}, woke.Add(-60*time.Second))
	if err == nil || !strings.Contains(err.Error(), "lease has ended") {
		t.Errorf("an old update: %v", err)
	}
	select {
	case <-c.Ready():
		t.Error("it was taken in")
	default:
	}
}

// TestANodeThatLeadsItself needs no connection, and gives its lease up when it
// cannot make sure that it leads.
func TestANodeThatLeadsItself(t *testing.T) {
	w := newWorld(t)
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
	core.place("m1", task("t1", svc, st))
	core.setView(View{Cluster: "c1", Networks: []stack.Network{{Name: "bridge"}}})
	c := w.client("m1", func(cfg *ClientConfig) {
		cfg.Local = func() Core { return core }
		cfg.Terms = quick
	})
	eventually(t, "its task", func() bool { return ids(c) == "t1" && len(c.Networks()) == 1 })
	if err := c.Report(t.Context(), []stack.TaskReport{{Task: "t1", Status: stack.TaskStatus{State: stack.TaskRunning}}}); err != nil {
		t.Fatal(err)
	}
	core.place("m1")
	eventually(t, "no task", func() bool { return ids(c) == "" })
	eventually(t, "a lease", func() bool { ok, _ := c.Lease(); return ok })
	eventually(t, "what it says of itself", func() bool {
		core.mu.Lock()
		defer core.mu.Unlock()
		return core.hellos["m1"].Node.Hostname == "m1"
	})
	core.mu.Lock()
	core.verify = func(context.Context) error { return errors.New("cut off") }
	core.mu.Unlock()
	eventually(t, "the lease's end", func() bool { ok, _ := c.Lease(); return !ok })
}
