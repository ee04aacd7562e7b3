package cluster

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

func TestIdentifiersRunOut(t *testing.T) {
	c := &state.Cluster{Settings: Settings{VNIFirst: 10, VNILast: 12}}
	var used []stack.Network
	for want := 10; want <= 12; want++ {
		got, err := pickVNI(c, used)
		if err != nil || got != want {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
		used = append(used, stack.Network{VNI: got})
	}
	if _, err := pickVNI(c, used); err == nil || !strings.Contains(err.Error(), "identifiers 10 to 12 are all taken by networks") {
		t.Errorf("got %v", err)
	}
	if got, err := pickVNI(c, used[1:]); err != nil || got != 10 {
		t.Errorf("got %d, %v, want the one that is free again", got, err)
	}
	c.LastVNI = 11
	if got, err := pickVNI(c, nil); err != nil || got != 12 {
		t.Errorf("got %d, %v, want the one after the last", got, err)
	}
	c.LastVNI = 12
	if got, err := pickVNI(c, used[1:]); err != nil || got != 10 {
		t.Errorf("got %d, %v, want the lowest after the end", got, err)
	}
}

func TestNumbersOfNodesComeAgainLast(t *testing.T) {
	mesh := netip.MustParsePrefix("10.0.0.0/29") // six addresses
	var nodes []*stack.Node
	for want := 1; want <= 6; want++ {
		got, err := pickNumber(nil, nodes, mesh)
		if err != nil || got != want {
			t.Fatalf("got %d, %v, want %d", got, err, want)
		}
		nodes = append(nodes, &stack.Node{Number: got})
		if want == 3 {
			nodes = nodes[1:] // number 1 is not given again as long as there are others
		}
	}
	if got, err := pickNumber(nil, nodes, mesh); err != nil || got != 1 {
		t.Errorf("got %d, %v", got, err)
	}
	_, err := pickNumber(nil, append(nodes, &stack.Node{Number: 1}), mesh)
	if err == nil || !strings.Contains(err.Error(), "the numbers 1 to 6 are all taken by nodes: the ingress network 10.0.0.0/29") || !strings.Contains(err.Error(), "--default-addr-pool") {
		t.Errorf("got %v", err)
	}
}

// The last node that came may be the first to go: its successor is told apart.
func TestNumbersOfRemovedNodesAreNotGivenAgain(t *testing.T) {
	s := state.New()
	apply := func(index uint64, changes ...state.Change) {
		t.Helper()
		if err := s.Apply(index, state.Command{Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	next := func() int {
		t.Helper()
		snap := s.Snapshot()
		n, err := pickNumber(snap.Cluster(), snap.Nodes(), netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	apply(1, state.Change{Cluster: &state.Cluster{ID: "c", Open: true}})
	for i := range uint64(3) {
		apply(2+i, state.Change{Node: &stack.Node{ID: fmt.Sprint("n", i), Number: next()}})
	}
	c := *s.Snapshot().Cluster()
	apply(5, state.Change{Delete: &state.Key{Table: state.TableNode, Name: "n2"}}, state.Change{Delete: &state.Key{Table: state.TableNode, Name: "n1"}})
	if got := next(); got != 4 {
		t.Errorf("after number 3 has gone the next is %d", got)
	}
	c.LastNumber = 0 // of who has read it before
	apply(6, state.Change{Cluster: &c})
	if got := next(); got != 4 {
		t.Errorf("after a change of the settings the next is %d", got)
	}
	var buf bytes.Buffer
	if err := s.Snapshot().Persist(&buf); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(&buf); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != 4 {
		t.Errorf("after a snapshot the next is %d", got)
	}
}

// Whatever the mesh has room for, no number is too high for the marks on packets.
func TestNumbersOfNodesFitIntoMarks(t *testing.T) {
	for _, mesh := range []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16")} {
		got, err := pickNumber(nil, []*stack.Node{{Number: 1}, {Number: overlaynet.MeshPeers}}, mesh)
		if err != nil || got != 2 {
			t.Errorf("%v: got %d, %v, want 2", mesh, got, err)
		}
	}
	if MaxNumber != overlaynet.MeshPeers {
		t.Errorf("nodes have numbers up to %d, marks hold %d", MaxNumber, overlaynet.MeshPeers)
	}
}

// large is a state of 200 networks, 1,000 services and 5,000 tasks in them.
func large(t testing.TB) *state.Store {
	s := state.New()
	changes := []state.Change{{Cluster: &state.Cluster{ID: "c", Open: true}}}
	for i := range 50 {
		changes = append(changes, state.Change{Node: &stack.Node{ID: fmt.Sprint("n", i)}})
	}
	for i := range 200 {
		name := fmt.Sprintf("s%03d", i)
		network := name + "_net"
		changes = append(changes,
			state.Change{Stack: &state.Stack{Name: name, Spec: stack.Stack{Name: name, Networks: map[string]stack.Network{"net": {Name: network}}}}},
			state.Change{Network: &state.Network{Network: stack.Network{Name: network, Stack: name, Key: "net", ID: fmt.Sprint("id", i), VNI: i + 1}}})
		for j := range 5 {
			spec := stack.Service{Name: fmt.Sprint("web", j), Replicas: 5, Container: stack.ContainerSpec{
				Networks: []stack.Attachment{{Network: "net"}}, Ports: []stack.Port{{HostPort: uint16(10000 + 5*i + j), ContainerPort: 80}}, //nolint:gosec // small
			}}
			changes = append(changes, state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: name, Name: spec.Name, Spec: spec, Desired: stack.DesiredRun}, NewVersion: true}})
			for k := range 5 {
				changes = append(changes, state.Change{Create: &stack.Task{
					ID: fmt.Sprintf("t%03d%d%d", i, j, k), Stack: name, Service: spec.Name, Slot: k + 1, Version: 1, Node: fmt.Sprint("n", (i+j*7+k)%50), Desired: stack.DesiredRun,
					Status: stack.TaskStatus{State: stack.TaskRunning}, Addresses: []stack.TaskAddress{{Network: network, IPv4: fmt.Sprintf("10.%d.%d.%d", i, j, k+2)}},
				}})
			}
		}
	}
	if err := s.Apply(1, state.Command{Changes: changes}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDirectoriesOfManyNetworks(t *testing.T) {
	snap := large(t).Snapshot()
	endpoints, services := 0, 0
	for _, n := range snap.Networks() {
		d := directoryOf(snap, n.Name, nil)
		endpoints, services = endpoints+len(d.Endpoints), services+len(d.Services)
	}
	all := directoryOf(snap, "", nil)
	if endpoints != 5000 || services != 1000 || len(all.Endpoints) != 5000 || len(all.Published) != 1000 {
		t.Errorf("%d endpoints and %d services in networks, %d and %d of published ports", endpoints, services, len(all.Endpoints), len(all.Published))
	}
}

func BenchmarkDirectory(b *testing.B) {
	snap := large(b).Snapshot()
	for name, f := range map[string]func(){
		"one change of a network":           func() { directoryOf(snap, "s007_net", []string{dispatch.EndpointKey("t00711")}) },
		"one change of published ports":     func() { directoryOf(snap, "", []string{dispatch.EndpointKey("t00711")}) },
		"a network of 25 tasks":             func() { directoryOf(snap, "s007_net", nil) },
		"published ports of 1,000 services": func() { directoryOf(snap, "", nil) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
		})
	}
}

// While a stack moves to other networks, its old tasks are called as before and
// go on to get requests from published ports.
func TestOldTasksStayInTheDirectoriesOfTheirNetworks(t *testing.T) {
	s := state.New()
	spec := stack.Service{Name: "web", Replicas: 1, Container: stack.ContainerSpec{
		Networks: []stack.Attachment{{Network: "front", Aliases: []string{"www"}}}, Ports: []stack.Port{{HostPort: 80, ContainerPort: 80}},
	}}
	put := func(index uint64, networks map[string]stack.Network, changes ...state.Change) {
		t.Helper()
		changes = append([]state.Change{{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Networks: networks}}}}, changes...)
		changes = append(changes, state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "shop", Name: "web", Spec: spec, Desired: stack.DesiredRun}, NewVersion: true}})
		if err := s.Apply(index, state.Command{Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	put(1, map[string]stack.Network{"front": {Name: "shop_front"}},
		state.Change{Cluster: &state.Cluster{ID: "c", Open: true}}, state.Change{Node: &stack.Node{ID: "n"}},
		state.Change{Network: &state.Network{Network: stack.Network{Name: "shop_front", Key: "front", Stack: "shop", ID: "1", VNI: 1}}},
		state.Change{Create: &stack.Task{ID: "t", Stack: "shop", Service: "web", Slot: 1, Version: 1, Node: "n", Desired: stack.DesiredRun,
			Status: stack.TaskStatus{State: stack.TaskRunning}, Addresses: []stack.TaskAddress{{Network: "shop_front", IPv4: "10.0.0.2"}}}})
	for i, networks := range []map[string]stack.Network{{"back": {Name: "shop_back"}}, {"front": {Name: "other_front"}}} {
		spec.Container.Networks = nil
		for key := range networks {
			spec.Container.Networks = append(spec.Container.Networks, stack.Attachment{Network: key})
		}
		put(uint64(2+i), networks)
		if d := directoryOf(s.Snapshot(), "", nil); len(d.Endpoints) != 1 || d.Endpoints[0].IPv4 != "10.0.0.2" || !d.Endpoints[0].Ready {
			t.Errorf("with %v, behind the port: %+v", networks, d.Endpoints)
		}
		if d := directoryOf(s.Snapshot(), "shop_front", nil); len(d.Endpoints) != 1 || fmt.Sprint(d.Endpoints[0].Aliases) != "[web www]" {
			t.Errorf("with %v, in the network: %+v", networks, d.Endpoints)
		}
	}
}
