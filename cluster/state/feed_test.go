package state

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func since(t *testing.T, s *Store, index uint64) []Touched {
	t.Helper()
	touched, _, ok := s.Since(index)
	if !ok {
		t.Fatalf("what came after %d is not known", index)
	}
	return touched
}

func TestTheFeedTellsWhomAChangeConcerns(t *testing.T) {
	s := New()
	apply(t, s, 1, Change{Node: &stack.Node{ID: "n"}}, Change{Create: &stack.Task{ID: "a", Stack: "s"}})
	apply(t, s, 2, Change{Update: &stack.Task{ID: "a", Stack: "s", Node: "n"}}, Change{Volume: &Volume{Name: "v", Stack: "s", Node: "n"}})
	apply(t, s, 3, Change{Update: &stack.Task{ID: "a", Stack: "s", Node: "m"}}, Change{Volume: &Volume{Name: "v", Stack: "s", Node: "m"}})
	apply(t, s, 4, Change{Secret: &Secret{Name: "k", Stack: "s"}}, Change{Network: &Network{Network: stack.Network{Name: "w", Stack: "s"}}})
	apply(t, s, 5, Change{Delete: &Key{Table: TableTask, Name: "a"}}, Change{Delete: &Key{Table: TableNode, Name: "n"}}, Change{Delete: &Key{Table: TableVolume, Name: "x"}})
	task := Touched{Table: TableTask, Key: "a", Stack: "s"}
	on := func(what Touched, node string) Touched { what.Node = node; return what }
	volume := Touched{Table: TableVolume, Key: "v", Stack: "s"}
	want := []Touched{
		{Table: TableNode, Key: "n", Node: "n", Life: true}, task,
		on(task, "n"), on(volume, "n"),
		on(task, "n"), on(task, "m"), on(volume, "n"), on(volume, "m"),
		{Table: TableSecret, Key: "k", Stack: "s"}, {Table: TableNetwork, Key: "w", Stack: "s"},
		on(task, "m"), {Table: TableNode, Key: "n", Node: "n", Life: true},
	}
	if got := since(t, s, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := since(t, s, 3); !reflect.DeepEqual(got, want[8:]) {
		t.Errorf("after 3: %v", got)
	}
	if got, now, ok := s.Since(5); len(got) != 0 || now != 5 || !ok {
		t.Errorf("at the end: %v %d %v", got, now, ok)
	}
	if _, now, ok := s.Since(6); ok || now != 5 {
		t.Error("the feed knows the future")
	}
}

func TestWhoMissedTooMuchIsTold(t *testing.T) {
	s := New()
	const each = 1000
	for i := uint64(1); i <= feedLimit/each+2; i++ {
		var c Command
		for j := range each {
			c.Changes = append(c.Changes, Change{Create: &stack.Task{ID: fmt.Sprint(i, "-", j), Stack: "s"}})
		}
		if err := s.Apply(i, c); err != nil {
			t.Fatal(err)
		}
	}
	_, now, ok := s.Since(0)
	if ok {
		t.Error("everything is remembered")
	}
	if got := since(t, s, now-1); len(got) != each {
		t.Errorf("the last command touched %d", len(got))
	}
	if got := since(t, s, s.feed.base); len(got) > feedLimit || len(got) <= feedLimit-each {
		t.Errorf("%d are remembered", len(got))
	}
	var b bytes.Buffer
	if err := s.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Since(now - 1); ok {
		t.Error("the feed outlived the state that it was of")
	}
	if got := since(t, s, now); len(got) != 0 {
		t.Errorf("a restored state touched %v", got)
	}
}

func TestNodesAreFound(t *testing.T) {
	s := New()
	for i, n := range []stack.Node{{ID: "abc", Hostname: "one"}, {ID: "abd", Hostname: "two"}, {ID: "one1", Hostname: "two"}} {
		apply(t, s, uint64(i+1), Change{Node: &n})
	}
	for ref, want := range map[string]int{"abc": 1, "ab": 2, "abd": 1, "one": 1, "two": 2, "": 0, "x": 0, "one1": 1} {
		if got := s.Snapshot().FindNodes(ref); len(got) != want {
			t.Errorf("%q: %d nodes, want %d", ref, len(got), want)
		}
	}
}
