package dispatch

import (
	"testing"

	"github.com/dhow-project/dhow/stack"
)

// movingCore changes while it is read: between what was touched and the tasks.
type movingCore struct {
	*fakeCore
	move func()
}

func (c *movingCore) Assignments(node string) []stack.Assignment {
	if f := c.move; f != nil {
		c.move = nil
		f()
	}
	return c.fakeCore.Assignments(node)
}

// A node that is told of a task knows the networks and ports of the same state,
// however fast that comes: it would join a network that was before.
func TestTasksComeWithWhatTheyNeed(t *testing.T) {
	newMoving := func() *movingCore {
		c := &movingCore{fakeCore: newCore()}
		old := stack.Network{Name: "front", ID: "old"}
		c.do(Touched{View: true}, func() { c.view.Networks = []stack.Network{old} })
		c.subscribe("n", "")
		c.file("", &stack.Directory{})
		c.move = func() {
			st, svc := &stack.Stack{Name: "shop"}, &stack.Service{Name: "web"}
			c.do(Touched{View: true}, func() { c.view.Networks = []stack.Network{{Name: "front", ID: "new"}} })
			c.file("", &stack.Directory{Published: []stack.Published{{Service: "shop/web"}}}, PublishedKey("shop/web"))
			c.place("n", task("t1", svc, st))
		}
		return c
	}
	check := func(t *testing.T, m *mirror) {
		t.Helper()
		v, _ := m.shown()
		if len(m.assignments()) != 1 || len(v.Networks) != 1 || v.Networks[0].ID != "new" {
			t.Errorf("%d tasks, networks %+v", len(m.assignments()), v.Networks)
		}
		if d := m.directory(""); d == nil || len(d.Published) != 1 {
			t.Errorf("published: %+v", d)
		}
	}
	t.Run("from another manager", func(t *testing.T) {
		core := newMoving()
		r := newReign(NewServer(ServerConfig{Node: "m"}), core)
		other := &session{reign: r, node: "o", wake: make(chan struct{}, 1), topics: map[string]bool{}, touched: map[string]bool{}}
		if err := r.topics.enter("", other); err != nil { // the topic is not read for this node first
			t.Fatal(err)
		}
		if err := r.spread(); err != nil {
			t.Fatal(err)
		}
		s := &session{reign: r, node: "n", wake: make(chan struct{}, 1), dirty: true, all: true, again: true, topics: map[string]bool{}, touched: map[string]bool{}}
		r.nodes["n"] = &visitor{session: s}
		list, err := s.news(newDiffer(r.server.book, nil, nil), &reader{}, &subscriptions{session: s, topics: map[string]*reader{}})
		if err != nil {
			t.Fatal(err)
		}
		m := newMirror()
		for _, p := range list {
			u := sent(t, p)
			if err := m.take(&u); err != nil {
				t.Fatal(err)
			}
		}
		check(t, m)
	})
	t.Run("from the own one", func(t *testing.T) {
		core := newMoving()
		c := &Client{cfg: ClientConfig{Node: "n"}, mirror: newMirror()}
		topics := map[string]bool{}
		move := core.move
		core.move = nil
		c.look(core, Touched{All: true, Index: core.Index()}, topics)
		at := core.Index()
		core.place("n")
		core.move = move
		c.look(core, core.Touched(at), topics)
		check(t, c.mirror)
	})
}
