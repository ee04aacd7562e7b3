package dispatch

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

// raw is a session message by message.
type raw struct {
	t *testing.T
	w *wire
}

func (w *world) raw(ctx context.Context, node, manager string, h *hello) *raw {
	w.t.Helper()
	x, err := open(ctx, manager, w.dial(node))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(x.close)
	r := &raw{w.t, x}
	r.say(&fromClient{Hello: h})
	if m := r.next(); m.Welcome == nil {
		w.t.Fatalf("instead of a welcome: %+v", m)
	}
	return r
}

func (r *raw) say(m *fromClient) {
	r.t.Helper()
	if err := r.w.send(m); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) next() *fromServer {
	r.t.Helper()
	m, err := r.w.receive()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// update reads the next whole one.
func (r *raw) update() (parts []*update) {
	r.t.Helper()
	for {
		if m := r.next(); m.Update != nil {
			if parts = append(parts, m.Update); !m.Update.More {
				return parts
			}
		}
	}
}

// merged is the next update with all its parts in one.
func (r *raw) merged() *update {
	r.t.Helper()
	out := &update{}
	for _, p := range r.update() {
		out.Index = p.Index
		out.Specs, out.Tasks = append(out.Specs, p.Specs...), append(out.Tasks, p.Tasks...)
		out.Gone, out.Drop = append(out.Gone, p.Gone...), append(out.Drop, p.Drop...)
	}
	return out
}

// hang makes connections to some hosts take for ever.
func (w *world) hang(dial func(context.Context, string) (net.Conn, error), hosts ...string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, to string) (net.Conn, error) {
		if slices.Contains(hosts, to) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return dial(ctx, to)
	}
}

func kinds(u *update) (out []string) {
	for _, s := range u.Specs {
		out = append(out, s.Kind)
	}
	slices.Sort(out)
	return out
}

// TestWhatIsSharedIsSentOnce: and a secret only while a task uses it.
func TestWhatIsSharedIsSentOnce(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
	hush := []byte("hush")
	with := func(id string) stack.Assignment {
		a := task(id, svc, st)
		a.Secrets = map[string][]byte{"key": hush}
		return a
	}
	core.place("n1", task("t1", svc, st), task("t2", svc, st))
	w.lead("m1", core)
	r := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	u := r.merged()
	if got := kinds(u); !slices.Equal(got, []string{"service", "stack"}) || len(u.Tasks) != 2 {
		t.Errorf("at first %v and %d tasks", got, len(u.Tasks))
	}
	core.place("n1", task("t1", svc, st), task("t2", svc, st), with("t3"), with("t4"))
	u = r.merged()
	if got := kinds(u); !slices.Equal(got, []string{"secret"}) || len(u.Tasks) != 2 {
		t.Errorf("then %v and %d tasks", got, len(u.Tasks))
	}
	secret := u.Specs[0].Ref
	core.place("n1", task("t1", svc, st), with("t4"))
	if u = r.merged(); len(u.Drop) != 0 || len(u.Gone) != 2 || len(u.Tasks) != 0 {
		t.Errorf("while a task uses it: %+v", u)
	}
	core.place("n1", task("t1", svc, st))
	if u = r.merged(); !slices.Equal(u.Drop, []string{secret}) {
		t.Errorf("when none does: %+v", u)
	}
	core.place("n1")
	if u = r.merged(); len(u.Drop) != 2 {
		t.Errorf("without tasks: %+v", u)
	}
}

// TestAStatusIsNotEchoed: the node wrote it.
func TestAStatusIsNotEchoed(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
	a := task("t1", svc, st)
	core.place("n1", a)
	w.lead("m1", core)
	r := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	r.update()
	a.Task.Status.State = stack.TaskRunning
	core.place("n1", a)
	a.Task.Desired = stack.DesiredStop
	core.place("n1", a)
	u := r.merged()
	if len(u.Tasks) == 1 && u.Tasks[0].Task.Desired == stack.DesiredRun {
		t.Error("a status alone was sent")
	}
}

// TestALargeSetComesInParts that heartbeats' answers pass.
func TestALargeSetComesInParts(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st := &stack.Stack{Name: "shop"}
	var list []stack.Assignment
	for i := range 200 {
		svc := &stack.Service{Name: "web", Container: stack.ContainerSpec{Env: []string{strings.Repeat("x", 20<<10)}, WorkingDir: string(rune('a' + i))}}
		list = append(list, task(string(rune('a'+i)), svc, st))
	}
	core.place("n1", list...)
	w.lead("m1", core)
	r := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	parts := r.update()
	total, tasks := 0, 0
	for _, p := range parts {
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		total += len(data)
		tasks += len(p.Tasks)
		if len(data) > 2*partSize {
			t.Errorf("a part has %d bytes", len(data))
		}
	}
	if len(parts) < 4 || tasks != 200 {
		t.Errorf("%d parts of %d bytes with %d tasks", len(parts), total, tasks)
	}
	c := w.client("n1", nil)
	<-c.Ready()
	if n := len(c.Assignments("n1")); n != 200 {
		t.Errorf("a node shows %d of 200", n)
	}
}

// TestASlowNodeHoldsNobodyUp: it does not read, others get their work.
func TestASlowNodeHoldsNobodyUp(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st := &stack.Stack{Name: "shop"}
	big := &stack.Service{Name: "web", Container: stack.ContainerSpec{Env: []string{strings.Repeat("x", 1<<20)}}}
	small := &stack.Service{Name: "web"}
	core.place("slow", task("s1", big, st))
	w.lead("m1", core)
	r := w.raw(t.Context(), "slow", "m1", &hello{Protocol: protocol})
	c := w.client("n1", nil)
	eventually(t, "a session", func() bool { return c.Leader() == "m1" })
	for i := range 10 { // far more than the connection holds
		other := *big
		core.place("slow", task(string(rune('a'+i)), &other, st))
	}
	core.place("n1", task("t1", small, st))
	eventually(t, "its task", func() bool { return ids(c) == "t1" })
	for { // and the slow one gets what counts in the end
		u := r.update()
		if last := u[len(u)-1]; last.Index >= 11 && len(last.Tasks) > 0 && last.Tasks[0].Task.ID == "j" {
			break
		}
	}
}

// TestOnlyWhoIsConcernedIsLookedAt: a change costs what it touches.
func TestOnlyWhoIsConcernedIsLookedAt(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
	w.lead("m1", core)
	var all []*Client
	for i := range 20 {
		all = append(all, w.client(string(rune('a'+i)), nil))
	}
	for _, c := range all {
		<-c.Ready()
	}
	eventually(t, "quiet", func() bool { return all[3].Leader() == "m1" })
	core.mu.Lock()
	core.calls = 0
	core.mu.Unlock()
	core.place("d", task("t1", svc, st))
	eventually(t, "the task", func() bool { return ids(all[3]) == "t1" })
	core.mu.Lock()
	defer core.mu.Unlock()
	if core.calls != 1 {
		t.Errorf("a change for one node made the leader look at the tasks of nodes %d times", core.calls)
	}
}

// TestTheLastCallCounts: a node has one session.
func TestTheLastCallCounts(t *testing.T) {
	w := newWorld(t, "m1")
	w.lead("m1", newCore())
	first := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	second := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	for m := first.next(); m.Bye == nil; m = first.next() {
	}
	second.say(&fromClient{Beat: &beat{1}})
	for m := second.next(); m.Ack == nil; m = second.next() {
	}
	w.hosts["m1"].server.Forget("n1")
	for m := second.next(); m.Bye == nil; m = second.next() {
	}
	if s := w.hosts["m1"].server.Sessions(); len(s) != 0 {
		t.Errorf("after Forget: %+v", s)
	}
}

func TestRulesAreKept(t *testing.T) {
	w := newWorld(t, "m1")
	w.lead("m1", newCore())
	for name, m := range map[string]*fromClient{
		"no greeting":   {Beat: &beat{1}},
		"nothing":       {},
		"two things":    {Hello: &hello{Protocol: protocol}, Beat: &beat{1}},
		"other version": {Hello: &hello{Protocol: 99}},
		"buckets":       {Hello: &hello{Protocol: protocol, Buckets: []uint64{1}}},
	} {
		x, err := open(t.Context(), "m1", w.dial("n1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := x.send(m); err != nil {
			t.Fatal(err)
		}
		if got, err := x.receive(); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		x.close()
	}
}
