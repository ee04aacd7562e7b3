package dispatch

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dhow-project/dhow/stack"
)

// directory of so many containers of one service.
func directory(n int) *stack.Directory {
	d := &stack.Directory{Services: []stack.ServiceAddress{{Service: "shop/web", IPv4: "10.9.0.1", Names: []string{"web"}}}}
	for i := range n {
		d.Endpoints = append(d.Endpoints, stack.Endpoint{
			ID: fmt.Sprintf("t%04d", i), Network: "shop_front", Node: fmt.Sprint("n", i%3), Service: "shop/web", Up: true, Ready: true,
			IPv4: fmt.Sprintf("10.1.%d.%d", i/250, i%250+2), Name: fmt.Sprint("shop-web-", i), Names: []string{fmt.Sprint("c", i)}, Aliases: []string{"www"},
		})
	}
	return d
}

// with is the directory with one container changed.
func with(d *stack.Directory, i int, change func(*stack.Endpoint)) *stack.Directory {
	out := *d
	out.Endpoints = append([]stack.Endpoint(nil), d.Endpoints...)
	change(&out.Endpoints[i])
	return &out
}

// TestDirectoriesFollowTheState of the networks that a node has something in, on
// a node that leads and on one that does not.
func TestDirectoriesFollowTheState(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(map[bool]string{true: "leader", false: "worker"}[leads], func(t *testing.T) {
			w, core := newWorld(t, "m1"), newCore()
			d := directory(40)
			core.file("shop_front", d)
			core.file("other", directory(3))
			core.subscribe("n1", "shop_front")
			w.lead("m1", core)
			c := w.client("n1", func(cfg *ClientConfig) {
				if leads {
					cfg.Local = func() Core { return core }
				}
			})
			same := func(topic string, want *stack.Directory) func() bool {
				return func() bool { return cmp.Equal(want, c.Directory(topic)) }
			}
			eventually(t, "the directory is there", same("shop_front", d))
			if c.Directory("other") != nil {
				t.Error("a network that the node has nothing in is told of")
			}
			shown := c.Directory("shop_front")

			d = with(d, 7, func(e *stack.Endpoint) { e.Ready = false })
			at := core.file("shop_front", d, EndpointKey("t0007"))
			eventually(t, "one container's change is told", same("shop_front", d))
			if shown.Endpoints[7].Ready != true {
				t.Error("a directory was changed in place")
			}
			eventually(t, "the index is that of the change", func() bool { return c.Index() >= at })

			shown = c.Directory("shop_front")
			core.subscribe("n1", "", "other", "shop_front")
			eventually(t, "another network's directory is there", same("other", directory(3)))
			core.setView(View{Cluster: "c1"})
			core.file("shop_front", d) // all of it may have changed, and has not
			core.place("n1", task("x", &stack.Service{Name: "s"}, &stack.Stack{Name: "st"}))
			eventually(t, "the task is there", func() bool { return ids(c) == "x" })
			if c.Directory("shop_front") != shown {
				t.Error("what has not changed is another pointer")
			}

			d = directory(39)
			d.Services, d.Published = nil, []stack.Published{{Service: "shop/web", Ports: []stack.Port{{HostPort: 80, ContainerPort: 80}}}}
			core.file("shop_front", d, EndpointKey("t0007"), EndpointKey("t0039"), ServiceKey("shop/web"), PublishedKey("shop/web"))
			eventually(t, "what goes is gone", same("shop_front", d))
			core.subscribe("n1", "other")
			eventually(t, "the network that the node has left is forgotten", func() bool { return c.Directory("shop_front") == nil })
			if !same("other", directory(3))() {
				t.Error("the other one went too")
			}
		})
	}
}

// TestDirectoriesOutliveTheLeader: a session with the next leader brings what has
// changed in between, a restart without any shows what was known.
func TestDirectoriesOutliveTheLeader(t *testing.T) {
	w, core := newWorld(t, "m1", "m2"), newCore()
	d := directory(200)
	core.file("shop_front", d)
	core.file("idle", directory(2))
	core.subscribe("n1", "shop_front", "idle")
	stop := w.lead("m1", core)
	file := filepath.Join(t.TempDir(), "cache")
	c := w.client("n1", func(cfg *ClientConfig) { cfg.Cache = file })
	eventually(t, "both directories are there", func() bool {
		return cmp.Equal(d, c.Directory("shop_front")) && cmp.Equal(directory(2), c.Directory("idle"))
	})
	idle := c.Directory("idle")
	w.elect("")
	if err := stop(); err == nil {
		t.Error("a reign ended by itself")
	}
	d = with(d, 9, func(e *stack.Endpoint) { e.IPv4 = "10.1.9.9" })
	core.file("shop_front", d, EndpointKey("t0009"))
	w.lead("m2", core)
	eventually(t, "the next leader tells what has changed", func() bool { return cmp.Equal(d, c.Directory("shop_front")) })
	if c.Directory("idle") != idle {
		t.Error("what has not changed is another pointer")
	}
	fresh := func() *Client {
		return NewClient(ClientConfig{Node: "n1", Cluster: "c1", Cache: file, Managers: func() []string { return nil }, Describe: func() Description { return Description{} }})
	}
	eventually(t, "the file has it", func() bool { return cmp.Equal(d, fresh().Directory("shop_front")) })
	if !cmp.Equal(directory(2), fresh().Directory("idle")) {
		t.Error("the file lacks a directory")
	}
}

// TestHalfAnUpdateIsNone: the leader goes while it tells of a large directory.
func TestHalfAnUpdateIsNone(t *testing.T) {
	m, core := newMirror(), newCore()
	core.file("shop_front", directory(20))
	core.subscribe("n1", "shop_front")
	call := func() []update {
		r := newReign(NewServer(ServerConfig{Node: "m"}), core)
		h := &hello{}
		m.greet(h)
		s := &session{reign: r, node: "n1", wake: make(chan struct{}, 1), topics: map[string]bool{}}
		subs := &subscriptions{session: s, topics: map[string]*reader{}, kept: h.Topics}
		list, err := subs.next(true, map[string]bool{})
		if err != nil {
			t.Fatal(err)
		}
		return pin([]update{{}}, nil, list)
	}
	take := func(parts []update) {
		for i := range parts {
			if err := m.take(&parts[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	take(call())
	shown := m.directory("shop_front")
	d := directory(9000)
	core.file("shop_front", d)
	parts := call()
	if len(parts) < 3 {
		t.Fatalf("%d parts", len(parts))
	}
	take(parts[:2])
	if m.directory("shop_front") != shown {
		t.Error("half an update is shown")
	}
	take(call())
	if diff := cmp.Diff(d, m.directory("shop_front")); diff != "" {
		t.Error(diff)
	}
}

// TestAChangeIsToldToItsReadersOnly, within a fifth of a second.
func TestAChangeIsToldToItsReadersOnly(t *testing.T) {
	w, core := newWorld(t, "m1"), newCore()
	d := directory(500)
	core.file("shop_front", d)
	core.file("other", directory(3))
	core.subscribe("n1", "shop_front")
	core.subscribe("n2", "other")
	w.lead("m1", core)
	c1, c2 := w.client("n1", nil), w.client("n2", nil)
	eventually(t, "both are told", func() bool { return c1.Directory("shop_front") != nil && c2.Directory("other") != nil })
	quiet := c2.Changed()
	var longest time.Duration
	for i := range 20 {
		d = with(d, i, func(e *stack.Endpoint) { e.Ready = !e.Ready })
		changed, began := c1.Changed(), time.Now()
		core.file("shop_front", d, EndpointKey(d.Endpoints[i].ID))
		<-changed
		longest = max(longest, time.Since(began))
		if c1.Directory("shop_front").Endpoints[i].Ready {
			t.Fatal("the change is not in what was told")
		}
	}
	t.Logf("longest: %v", longest)
	select {
	case <-quiet:
		t.Error("a node that has nothing in the network was told")
	default:
	}
}
