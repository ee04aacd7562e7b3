package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dhow-project/dhow/stack"
)

// ear is a session's stream without a network: it encodes what it is sent, as
// grpc would, and keeps what the node would say in its next greeting.
type ear struct {
	ctx     context.Context
	hello   hello
	whole   chan struct{} // a whole update has come
	bytes   *atomic.Int64
	updates *atomic.Int64
}

func (e *ear) Context() context.Context     { return e.ctx }
func (e *ear) SetHeader(metadata.MD) error  { return nil }
func (e *ear) SendHeader(metadata.MD) error { return nil }
func (e *ear) SetTrailer(metadata.MD)       {}
func (e *ear) RecvMsg(any) error            { <-e.ctx.Done(); return e.ctx.Err() }

func (e *ear) SendMsg(m any) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	e.bytes.Add(int64(len(data)))
	u := m.(*fromServer).Update
	if u == nil {
		return nil
	}
	for _, t := range u.Tasks {
		e.hello.Tasks[t.Task.ID] = t.Sum
	}
	for _, s := range u.Specs {
		e.hello.Specs = append(e.hello.Specs, s.Ref)
	}
	if !u.More {
		e.updates.Add(1)
		e.whole <- struct{}{}
	}
	return nil
}

// TestTenThousandSessions measures what a leader pays for them. The network and
// its buffers are left out.
func TestTenThousandSessions(t *testing.T) {
	nodes, each := 10_000, 100
	if os.Getenv("DHOW_TEST_SCALE") == "" || raceEnabled {
		nodes = 500 // the whole takes half a minute of all processors: DHOW_TEST_SCALE=1
	}
	core := newCore()
	core.view.Cluster = "c"
	var services []*stack.Service
	st := &stack.Stack{Name: "shop"}
	for i := range 50 {
		services = append(services, &stack.Service{Name: fmt.Sprint("web", i), Container: stack.ContainerSpec{Image: "web:1", Env: []string{"A=1", "B=2"}}})
	}
	id := func(n int) string { return fmt.Sprintf("node-%05d", n) }
	for n := range nodes {
		for i := range each {
			core.tasks[id(n)] = append(core.tasks[id(n)], task(fmt.Sprintf("task-%05d-%03d", n, i), services[i%len(services)], st))
		}
		core.view.Nodes = append(core.view.Nodes, Node{ID: id(n), Hostname: id(n), Addr: "10.0.0.1:2377", Role: stack.RoleWorker})
	}
	var bytes, updates atomic.Int64
	var base runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&base)

	// round has all nodes call, with what they kept.
	round := func(what string, ears []*ear) (r *reign, stop func()) {
		r = newReign(NewServer(ServerConfig{Node: "m"}), core)
		ctx, cancel := context.WithCancel(context.Background())
		start := time.Now()
		bytes.Store(0)
		if err := r.spread(); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for n, e := range ears {
			e.ctx, e.whole = ctx, make(chan struct{}, 16)
			h := e.hello
			all.Go(func() { r.serve(e, id(n), &h) })
		}
		for _, e := range ears {
			<-e.whole
		}
		t.Logf("%s: %v, %d bytes for each of %d nodes with %d tasks", what, time.Since(start).Round(time.Millisecond), bytes.Load()/int64(nodes), nodes, each)
		return r, func() { cancel(); all.Wait() }
	}
	ears := make([]*ear, nodes)
	for n := range ears {
		ears[n] = &ear{hello: hello{Protocol: protocol, Tasks: map[string]uint64{}}, bytes: &bytes, updates: &updates}
	}
	b := newBoard()
	if _, err := b.post(core.view); err != nil {
		t.Fatal(err)
	}
	mine := newCopyBoard()
	first := b.all(nil, buckets)
	got, err := first.decode()
	if err != nil {
		t.Fatal(err)
	}
	mine.take(first, got)
	sums := mine.sums()
	for n := range ears {
		ears[n].hello.Buckets = sums // the view is shared by all: its first sending is a matter of the network
	}
	r, stop := round("first calls", ears)
	var full runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&full)
	t.Logf("memory of a session: %d bytes in the heap, %d in stacks", (full.HeapAlloc-base.HeapAlloc)/uint64(nodes), (full.StackInuse-base.StackInuse)/uint64(nodes))

	// One task of one node.
	updates.Store(0)
	start := time.Now()
	changed := core.tasks[id(7)]
	changed[3].Task.Desired = stack.DesiredStop
	core.do(Touched{Nodes: map[string][]string{id(7): {changed[3].Task.ID}}}, func() {})
	if err := r.spread(); err != nil {
		t.Fatal(err)
	}
	<-ears[7].whole
	t.Logf("one task changed: %v", time.Since(start).Round(10*time.Microsecond))
	if n := updates.Load(); n != 1 {
		t.Errorf("%d updates for one node's change", n)
	}

	// One node's address, which all are told.
	start = time.Now()
	core.do(Touched{View: true}, func() { core.view.Nodes[5].Addr = "10.0.0.9:2377" })
	if err := r.spread(); err != nil {
		t.Fatal(err)
	}
	for _, e := range ears {
		<-e.whole
	}
	t.Logf("one node's address, told to all: %v", time.Since(start).Round(time.Millisecond))
	core.view.Nodes[5].Addr = "10.0.0.1:2377"

	stop()
	bytes.Store(0)
	_, stop = round("calls after a leader change", ears)
	if n := bytes.Load() / int64(nodes); n > 400 {
		t.Errorf("%d bytes for a node that has all already", n)
	}
	stop()
}
