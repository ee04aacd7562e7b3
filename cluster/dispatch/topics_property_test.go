package dispatch

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// records of a made-up directory, by key.
type shelfModel map[string]int

func (s shelfModel) directory() *stack.Directory {
	d := &stack.Directory{}
	for _, key := range slices.Sorted(maps.Keys(s)) {
		name, v := key[len("x/"):], s[key]
		switch key[0] {
		case 'e':
			d.Endpoints = append(d.Endpoints, stack.Endpoint{ID: name, IPv4: fmt.Sprint("10.0.0.", v), Ready: v%2 == 0})
		case 's':
			d.Services = append(d.Services, stack.ServiceAddress{Service: name, IPv4: fmt.Sprint("10.9.0.", v)})
		default:
			d.Published = append(d.Published, stack.Published{Service: name, Ports: []stack.Port{{HostPort: uint16(v)}}})
		}
	}
	return d
}

// keyOf is a model's key as the wire has it.
func keyOf(key string) string {
	name := key[len("x/"):]
	switch key[0] {
	case 'e':
		return EndpointKey(name)
	case 's':
		return ServiceKey(name)
	}
	return PublishedKey(name)
}

// TestDirectoriesShowTheState: whatever changes, however often the leader
// changes, whether the node leads itself in between or starts again from its
// cache, its directories are those of its topics, and a pointer changes with its
// content only. All messages pass through JSON.
func TestDirectoriesShowTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"", "a", "b"}
		m, core := newMirror(), newCore()
		state := map[string]shelfModel{"": {}, "a": {}, "b": {}}
		var r *reign
		var subs *subscriptions
		var s *session
		index := uint64(0)
		elect := func() {
			r = newReign(NewServer(ServerConfig{Node: "m"}), core)
			h := &hello{}
			m.greet(h)
			data, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			h = &hello{}
			if err := json.Unmarshal(data, h); err != nil {
				t.Fatal(err)
			}
			if err := h.checkTopics(); err != nil {
				t.Fatal(err)
			}
			s = &session{reign: r, node: "n", wake: make(chan struct{}, 1), again: true, topics: map[string]bool{}, touched: map[string]bool{}}
			r.nodes["n"] = &visitor{session: s}
			subs = &subscriptions{session: s, topics: map[string]*reader{}, kept: h.Topics}
			index = core.index
			r.index = index
		}
		look := func() {
			shown := map[string]*stack.Directory{}
			for _, topic := range core.topics["n"] {
				want := state[topic].directory()
				got := m.directory(topic)
				if got == nil {
					got = &stack.Directory{}
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("topic %q: %s", topic, diff)
				}
				shown[topic] = got
			}
			for topic := range m.folders {
				if _, ok := shown[topic]; !ok {
					t.Fatalf("topic %q stays", topic)
				}
			}
		}
		send := func() {
			before := map[string]*stack.Directory{}
			for topic, f := range m.folders {
				before[topic] = f.dir
			}
			if err := r.spread(); err != nil {
				t.Fatal(err)
			}
			list, err := subs.next(s.again, s.topics)
			if err != nil {
				t.Fatal(err)
			}
			s.again, s.topics = false, map[string]bool{}
			for _, p := range pin([]update{{}}, nil, list) {
				u := sent(t, p)
				if err := m.take(&u); err != nil {
					t.Fatal(err)
				}
			}
			look()
			for topic, f := range m.folders {
				if was := before[topic]; was != nil && was != f.dir && cmp.Equal(was, f.dir, cmpopts.EquateEmpty()) {
					t.Fatalf("topic %q: another pointer to the same", topic)
				}
			}
		}
		elect()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			topic := rapid.SampledFrom(names).Draw(t, "topic")
			key := fmt.Sprintf("%s/%d", rapid.SampledFrom([]string{"e", "e", "s", "p"}).Draw(t, "kind"), rapid.IntRange(0, 40).Draw(t, "name"))
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2:
				state[topic][key] = rapid.IntRange(1, 3).Draw(t, "value")
				core.file(topic, state[topic].directory(), keyOf(key))
			case 3:
				delete(state[topic], key)
				core.file(topic, state[topic].directory(), keyOf(key))
			case 4:
				state[topic][key] = rapid.IntRange(1, 3).Draw(t, "value")
				core.file(topic, state[topic].directory())
			case 5:
				core.subscribe("n", rapid.SampledFrom([][]string{nil, {""}, {"a"}, {"", "a", "b"}, {"a", "b"}}).Draw(t, "topics")...)
			case 6:
				elect()
			case 7: // the node leads itself for a while
				c := &Client{cfg: ClientConfig{Node: "n"}, mirror: m}
				topics := map[string]bool{}
				c.look(core, Touched{All: true}, topics)
				look()
				state[topic][key] = rapid.IntRange(1, 3).Draw(t, "value")
				at := core.index
				core.file(topic, state[topic].directory(), keyOf(key))
				c.look(core, core.Touched(at), topics)
				look()
				elect()
			case 8: // it starts again
				send()
				u, _, ok := m.dump()
				if m = newMirror(); ok {
					if err := m.restore(u); err != nil {
						t.Fatal(err)
					}
					look()
				}
				elect()
			case 9:
				m.distrust()
				elect()
			}
			if rapid.Bool().Draw(t, "send") {
				send()
			}
		}
		send()
		subs.end()
		if len(r.topics.boards) != 0 {
			t.Fatalf("%d directories are kept for nobody", len(r.topics.boards))
		}
	})
}
