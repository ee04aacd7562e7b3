package dispatch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// TestTheMirrorShowsTheState: whatever changes, and however often the leader
// changes, a node's mirror shows what the state has. All messages pass through JSON.
func TestTheMirrorShowsTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMirror()
		state := map[string]stack.Assignment{}
		view := View{Cluster: "c"}
		var services []*stack.Service
		var stacks []*stack.Stack
		for i := range 4 {
			services = append(services, &stack.Service{Name: fmt.Sprint("s", i)})
			stacks = append(stacks, &stack.Stack{Name: fmt.Sprint("st", i)})
		}
		var book *specBook
		var d *differ
		var b *board
		var seen *reader
		elect := func() {
			book, b = newSpecBook(), newBoard()
			if _, err := b.post(view); err != nil {
				t.Fatal(err)
			}
			h := &hello{}
			m.greet(h)
			d, seen = newDiffer(book, h.Tasks, h.Specs), &reader{sums: h.Buckets}
		}
		elect()
		all, touched := true, map[string]bool{}
		send := func() {
			var posted *news
			if seen.read {
				posted = b.since(seen.number, buckets)
			} else {
				posted = b.all(seen.sums, buckets)
			}
			seen.read, seen.number = true, b.number
			var want []stack.Assignment
			for _, a := range state {
				want = append(want, a)
			}
			parts, err := d.next(want, all, touched)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pin(parts, posted, nil) {
				u := sent(t, p)
				if err := m.take(&u); err != nil {
					t.Fatal(err)
				}
			}
			all, touched = false, map[string]bool{}
			slices.SortFunc(want, func(a, b stack.Assignment) int { return strings.Compare(a.Task.ID, b.Task.ID) })
			if diff := cmp.Diff(want, m.assignments(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			shown, _ := m.shown()
			if diff := cmp.Diff(view, shown, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
			if len(d.specs) != len(m.specs) {
				t.Fatalf("the node keeps %d specs, the leader thinks %d", len(m.specs), len(d.specs))
			}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			id := fmt.Sprint("t", rapid.IntRange(0, 8).Draw(t, "task"))
			touched[id] = true
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				a := task(id, services[rapid.IntRange(0, 3).Draw(t, "service")], stacks[rapid.IntRange(0, 3).Draw(t, "stack")])
				a.Task.Restarts = rapid.Uint64Range(0, 3).Draw(t, "restarts")
				if rapid.Bool().Draw(t, "secret") {
					a.Secrets = map[string][]byte{"k": []byte(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "data"))}
				}
				if rapid.Bool().Draw(t, "config") {
					a.Configs = map[string][]byte{"k": []byte(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "data"))}
				}
				if rapid.Bool().Draw(t, "login") {
					a.Auth = &stack.RegistryAuth{Username: "ann", Password: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "password")}
				}
				if old, ok := state[id]; ok {
					a.Task.Status = old.Task.Status
				}
				state[id] = a
			case 2:
				delete(state, id)
			case 3:
				n := Node{ID: id, Hostname: fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "host"))}
				view.Nodes = append(slices.DeleteFunc(slices.Clone(view.Nodes), func(o Node) bool { return o.ID == id }), n)
				slices.SortFunc(view.Nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
			case 4:
				view.Nodes = slices.DeleteFunc(slices.Clone(view.Nodes), func(o Node) bool { return o.ID == id })
			case 5:
				view.Networks = []stack.Network{{Name: "net" + id}}
			case 6:
				elect()
				all = true
			case 7:
				if rapid.Bool().Draw(t, "damaged") {
					m.distrust()
				}
				elect()
				all = true
			}
			if _, err := b.post(view); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "send") {
				send()
			}
		}
		send()
	})
}

// FuzzFromClient: what a node sends is refused or within bounds.
func FuzzFromClient(f *testing.F) {
	for _, m := range []fromClient{
		{Hello: &hello{Protocol: protocol, Tasks: map[string]uint64{"t": 1}, Specs: []string{"a"}, Buckets: make([]uint64, buckets), Topics: map[string][]uint64{"": {1, 2}, "net": nil}, Description: Description{Images: []string{"i"}}}},
		{Beat: &beat{1}}, {Report: &report{1, running(2)}}, {Describe: &Description{Volumes: []string{"v"}}},
	} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m fromClient
		if (codec{}).Unmarshal(data, &m) != nil {
			return
		}
		if m.check(true) == nil {
			d := newDiffer(newSpecBook(), m.Hello.Tasks, m.Hello.Specs)
			parts, err := d.next([]stack.Assignment{task("t", &stack.Service{Name: "s"}, &stack.Stack{Name: "s"})}, true, nil)
			if err != nil || len(parts) == 0 {
				t.Errorf("%d parts, %v", len(parts), err)
			}
			newBoard().all(m.Hello.Buckets, buckets)
			core := newCore()
			core.file("net", directory(3))
			core.subscribe("n", "net")
			r := newReign(NewServer(ServerConfig{Node: "m"}), core)
			subs := &subscriptions{session: &session{reign: r, node: "n"}, topics: map[string]*reader{}, kept: m.Hello.Topics}
			if list, err := subs.next(true, map[string]bool{}); err != nil || len(list) > len(m.Hello.Topics)+1 {
				t.Errorf("%d topics are told of, %v", len(list), err)
			}
		}
		if m.check(false) == nil && m.Report != nil {
			list, _ := m.Report.usable()
			for _, r := range list {
				if r.Task == "" || len(r.Status.Message) > maxMessageText {
					t.Errorf("taken: %+v", r)
				}
			}
		}
	})
}

// FuzzFromServer: what a leader sends is taken in whole or not at all.
func FuzzFromServer(f *testing.F) {
	book := newSpecBook()
	a := task("t", &stack.Service{Name: "s"}, &stack.Stack{Name: "s"})
	a.Secrets = map[string][]byte{"k": []byte("v")}
	parts, err := newDiffer(book, nil, nil).next([]stack.Assignment{a}, true, nil)
	if err != nil {
		f.Fatal(err)
	}
	b := newBoard()
	if _, err := b.post(View{Nodes: []Node{{ID: "n"}}, Networks: []stack.Network{{Name: "x"}}}); err != nil {
		f.Fatal(err)
	}
	for _, m := range []fromServer{{Update: &parts[0]}, {Update: &update{Board: b.all(nil, buckets)}}, {Update: &update{Topics: []topicNews{
		{Topic: "net", Of: 4, News: &news{Clear: []int{0, 3}, Gone: []string{EndpointKey("t")}, Items: []notice{{Key: ServiceKey("a/b"), Data: []byte(`{"service":"a/b"}`)}}}}, {Topic: "x", End: true},
	}}}, {Ack: &ack{1, DefaultTerms(1)}}, {Bye: &bye{Leader: "x"}}, {Welcome: &welcome{protocol, DefaultTerms(5)}}} {
		data, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m fromServer
		if (codec{}).Unmarshal(data, &m) != nil || m.check(false) != nil || m.Update == nil {
			return
		}
		mirror := newMirror()
		m.Update.More = false
		mirror.folders["net"] = newFolder()
		mirror.folders["net"].set(directory(20), nil)
		err := mirror.take(m.Update)
		select {
		case <-mirror.ready:
			if err != nil {
				t.Errorf("taken in with an error: %v", err)
			}
		default:
			if err == nil {
				t.Error("neither taken in nor refused")
			}
		}
	})
}
