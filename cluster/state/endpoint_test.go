package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func place(id, network, node string) Change {
	return Change{Enter: &Endpoint{Endpoint: stack.Endpoint{ID: id, Network: network, Node: node, IPv4: "10.0.0.9"}, Created: 1}}
}

func names(list []*Endpoint) (out []string) {
	for _, e := range list {
		out = append(out, e.ID+" in "+e.Network+" on "+e.Node)
	}
	return out
}

func net(name, id string) Change {
	return Change{Network: &Network{Network: stack.Network{Name: name, ID: id}}}
}

func TestEndpointsGoWithWhatTheyAreOf(t *testing.T) {
	s := New()
	apply(t, s, 1, Change{Node: &stack.Node{ID: "n"}}, Change{Node: &stack.Node{ID: "m"}}, net("a", "1"), net("b", "2"))
	apply(t, s, 2, place("c1", "a", "n"), place("c1", "b", "n"), place("c2", "a", "m"), place("c3", "b", "m"))
	snap := s.Snapshot()
	if got := names(snap.Endpoints("a")); !slices.Equal(got, []string{"c1 in a on n", "c2 in a on m"}) {
		t.Errorf("in a: %q", got)
	}
	if got := names(snap.ContainerEndpoints("c1")); len(got) != 2 || snap.Endpoint("c1", "b") == nil || len(snap.NodeEndpoints("m")) != 2 {
		t.Errorf("of c1: %q", got)
	}
	for _, bad := range []Change{place("", "a", "n"), place("c", "none", "n"), place("c", "a", "none")} {
		if err := s.Apply(3, Command{Changes: []Change{bad}}); err == nil {
			t.Errorf("stored: %+v", bad.Enter)
		}
	}
	apply(t, s, 3, Change{Delete: &Key{TableEndpoint, EndpointKey("c3", "b")}}, net("a", "1"))
	if got := names(s.Snapshot().NodeEndpoints("m")); !slices.Equal(got, []string{"c2 in a on m"}) {
		t.Errorf("on m: %q", got)
	}
	apply(t, s, 4, net("a", "7")) // another network of the same name
	apply(t, s, 5, Change{Delete: &Key{TableNode, "n"}})
	for _, touched := range since(t, s, 3) {
		if touched.Table == TableEndpoint && (len(touched.Networks) != 1 || touched.Node == "") {
			t.Errorf("told: %+v", touched)
		}
	}
	left := 0
	s.Snapshot().EachEndpoint(func(*Endpoint) bool { left++; return true })
	if left != 0 {
		t.Errorf("%d endpoints of nothing", left)
	}
}

// A restored state knows who is in which network, and is the same in bytes.
func TestNetworksAreRestored(t *testing.T) {
	s := New()
	apply(t, s, 1, Change{Node: &stack.Node{ID: "n"}}, net("a", "1"), net("b", "2"), place("c1", "a", "n"))
	for i := range 100 {
		at := []stack.TaskAddress{{Network: "a", IPv4: fmt.Sprint("10.0.1.", i)}, {Network: "b", IPv4: fmt.Sprint("10.0.2.", i)}}
		apply(t, s, uint64(2+i), Change{Create: &stack.Task{ID: fmt.Sprintf("t%02d", i), Stack: "s", Service: "w", Node: "n", Addresses: at[:1+i%2]}})
	}
	apply(t, s, 200, Change{Update: &stack.Task{ID: "t01", Stack: "s", Service: "w", Node: "n"}}, Change{Delete: &Key{TableTask, "t03"}})
	var first, second bytes.Buffer
	if err := s.Snapshot().Persist(&first); err != nil {
		t.Fatal(err)
	}
	r := New()
	if err := r.Restore(bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := r.Snapshot().Persist(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the bytes differ")
	}
	for _, store := range []*Store{s, r} {
		snap := store.Snapshot()
		if a, b, e := len(snap.NetworkTasks("a")), len(snap.NetworkTasks("b")), len(snap.Endpoints("a")); a != 98 || b != 48 || e != 1 {
			t.Errorf("%d tasks in a, %d in b, %d endpoints", a, b, e)
		}
	}
}
