package loop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// onNetwork makes a stack "shop" with the network "front" of these ranges.
func (w *world) onNetwork(cidr, virtual string, specs ...stack.Service) {
	w.t.Helper()
	n := stack.Network{Name: "shop_front", Key: "front", Stack: "shop", ID: cidr, VNI: 5, Subnets: []stack.Subnet{{CIDR: cidr}}, Virtual: []string{virtual}}
	changes := []state.Change{
		{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Networks: map[string]stack.Network{"front": {Name: "shop_front"}}}}},
		{Network: &state.Network{Network: n}},
	}
	for _, spec := range specs {
		if spec.Container.Networks == nil {
			spec.Container.Networks = []stack.Attachment{{Network: "front"}}
		}
		changes = append(changes, state.Change{Service: &state.ServiceChange{
			Service: state.Service{Stack: "shop", Name: spec.Name, Spec: spec, Desired: stack.DesiredRun}, NewVersion: true,
		}})
	}
	w.put(changes...)
}

func (w *world) round() {
	w.t.Helper()
	if _, err := w.loop.Round(w.t.Context(), w.now); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rounds() {
	w.t.Helper()
	for range 5 {
		w.round()
		w.now = w.now.Add(2 * time.Second)
	}
}

// table says what the stack's tasks and services have.
func (w *world) table() string {
	var out []string
	snap := w.store.Snapshot()
	for _, sv := range snap.Services("shop") {
		for _, a := range sv.Addresses {
			out = append(out, sv.Name+" "+a.IPv4)
		}
		for _, t := range snap.ServiceTasks("shop", sv.Name) {
			line := fmt.Sprintf("%s.%d", t.Service, t.Slot)
			for _, a := range t.Addresses {
				line += " " + a.IPv4
			}
			if t.Node == "" {
				line += ": " + t.Status.Message
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func (w *world) want(lines ...string) {
	w.t.Helper()
	if got := w.table(); got != strings.Join(lines, "\n") {
		w.t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(lines, "\n"))
	}
}

func TestATaskGetsItsAddressesWithItsNode(t *testing.T) {
	w := newWorld(t, 2)
	w.onNetwork("10.1.0.0/24", "10.2.0.0/24", stack.Service{Name: "web", Replicas: 2}, stack.Service{Name: "job", Replicas: 1, Mode: stack.ReplicatedJob},
		stack.Service{Name: "rr", Replicas: 1, Deploy: stack.Deploy{EndpointMode: "dnsrr"}},
		stack.Service{Name: "host", Replicas: 1, Container: stack.ContainerSpec{NetworkMode: "host", Networks: []stack.Attachment{}}})
	w.rounds()
	w.want("host.1", "job.1 10.1.0.2", "rr.1 10.1.0.3", "web 10.2.0.2", "web.1 10.1.0.4", "web.2 10.1.0.5")
	if len(w.commands) != 1 {
		t.Errorf("%d commands, want all in one", len(w.commands))
	}
}

// Without an address a task waits and says for what; it goes on when one is free.
func TestExhaustionIsTold(t *testing.T) {
	w := newWorld(t, 1)
	w.onNetwork("10.1.0.0/29", "10.2.0.0/24", stack.Service{Name: "web", Replicas: 6})
	w.rounds()
	const why = "web.6: no address: network shop_front: addresses 10.1.0.1 to 10.1.0.6 (6 taken) exhausted: give it a larger subnet or ip_range (ipam: config:) or a second subnet"
	w.want("web 10.2.0.2", "web.1 10.1.0.2", "web.2 10.1.0.3", "web.3 10.1.0.4", "web.4 10.1.0.5", "web.5 10.1.0.6", "web.6: "+why)
	first := w.store.Snapshot().ServiceTasks("shop", "web")[0]
	w.put(state.Change{Retire: first})
	w.rounds()
	if got := w.table(); strings.Contains(got, "no address") && !strings.Contains(got, "10.1.0.2") {
		t.Errorf("the address that is free is not used:\n%s", got)
	}
}

func TestServicesWithoutVirtualAddressesWait(t *testing.T) {
	w := newWorld(t, 1)
	w.onNetwork("10.1.0.0/24", "10.2.0.0/30", stack.Service{Name: "a", Replicas: 1}, stack.Service{Name: "b", Replicas: 1})
	w.rounds()
	got := w.table()
	for _, want := range []string{"a 10.2.0.2", "a.1 10.1.0.2", "b.1: b.1: no address: network shop_front: virtual addresses exhausted: all of 10.2.0.0/30 are taken", "endpoint_mode: dnsrr"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// An address that a service names goes with it when its node is lost, and
// another service that wants it is told who has it.
func TestANamedAddressFollowsItsService(t *testing.T) {
	w := newWorld(t, 2)
	named := []stack.Attachment{{Network: "front", IPv4: "10.1.0.9"}}
	w.onNetwork("10.1.0.0/24", "10.2.0.0/24", stack.Service{Name: "db", Replicas: 1, Container: stack.ContainerSpec{Networks: named}},
		stack.Service{Name: "thief", Replicas: 1, Container: stack.ContainerSpec{Networks: named}})
	w.rounds()
	tasks := w.store.Snapshot().ServiceTasks("shop", "db")
	if len(tasks) != 1 || len(tasks[0].Addresses) != 1 {
		t.Fatalf("got %+v", tasks)
	}
	if got := w.table(); !strings.Contains(got, "thief.1: thief.1: no address: network shop_front: address 10.1.0.9 is taken by shop/db.1 on node "+tasks[0].Node) {
		t.Errorf("got\n%s", got)
	}
	w.put(state.Change{Node: &stack.Node{ID: tasks[0].Node, Memory: 1 << 30, Down: true, Fenced: true}})
	w.rounds()
	var with, without *stack.Task
	for _, task := range w.store.Snapshot().ServiceTasks("shop", "db") {
		if len(task.Addresses) == 1 {
			with = task
		} else {
			without = task
		}
	}
	if with == nil || without == nil || with.Node == tasks[0].Node || with.Addresses[0].IPv4 != "10.1.0.9" || without.ID != tasks[0].ID {
		t.Errorf("with the address: %+v\nwithout: %+v", with, without)
	}
}

// A service that finds no virtual address in its new network has lost the one
// in the old network all the same: it is another service's now, and no record
// says otherwise.
func TestAVirtualAddressIsOfOneService(t *testing.T) {
	w := newWorld(t, 1)
	w.onNetwork("10.1.0.0/24", "10.2.0.0/30", stack.Service{Name: "a"}) // one address
	tiny := stack.Network{Name: "shop_tiny", Key: "tiny", Stack: "shop", ID: "tiny", VNI: 6, Subnets: []stack.Subnet{{CIDR: "10.3.0.0/24"}}, Virtual: []string{"10.4.0.0/30"}}
	w.put(state.Change{Network: &state.Network{Network: tiny}},
		state.Change{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Networks: map[string]stack.Network{"front": {Name: "shop_front"}, "tiny": {Name: "shop_tiny"}}}}},
		service("full", "tiny"))
	w.rounds()
	w.want("a 10.2.0.2", "full 10.4.0.2")
	w.put(service("a", "front", "tiny")) // it keeps what it has
	w.rounds()
	w.want("a 10.2.0.2", "full 10.4.0.2")
	w.put(service("a", "tiny"), service("z", "front"))
	w.round() // at once
	w.want("full 10.4.0.2", "z 10.2.0.2")
	w.rounds()
	w.want("full 10.4.0.2", "z 10.2.0.2")
	w.put(service("full", "front"))
	w.rounds()
	w.want("a 10.4.0.2", "z 10.2.0.2")
}

// A virtual address in a network that a service has left is its own for as long
// as a task of an older version is there.
func TestAVirtualAddressStaysWithTheTasks(t *testing.T) {
	w := newWorld(t, 1)
	w.onNetwork("10.1.0.0/24", "10.2.0.0/30", stack.Service{Name: "a", Replicas: 1})
	tiny := stack.Network{Name: "shop_tiny", Key: "tiny", Stack: "shop", ID: "tiny", VNI: 6, Subnets: []stack.Subnet{{CIDR: "10.3.0.0/24"}}, Virtual: []string{"10.4.0.0/30"}}
	w.put(state.Change{Network: &state.Network{Network: tiny}},
		state.Change{Stack: &state.Stack{Name: "shop", Spec: stack.Stack{Name: "shop", Networks: map[string]stack.Network{"front": {Name: "shop_front"}, "tiny": {Name: "shop_tiny"}}}}})
	w.rounds()
	w.want("a 10.2.0.2", "a.1 10.1.0.2")
	old := w.store.Snapshot().ServiceTasks("shop", "a")[0]
	w.put(service("a", "tiny"), service("z", "front"))
	w.rounds()
	if got := w.table(); !strings.Contains(got, "a 10.2.0.2") || !strings.Contains(got, "a 10.4.0.2") || strings.Contains(got, "z 10.2.0.2") {
		t.Errorf("while its task is there: got\n%s", got)
	}
	w.put(drop(state.TableTask, old.ID))
	w.rounds()
	w.want("a 10.4.0.2", "z 10.2.0.2")
}

func service(name string, networks ...string) state.Change {
	var in []stack.Attachment
	for _, n := range networks {
		in = append(in, stack.Attachment{Network: n})
	}
	return state.Change{Service: &state.ServiceChange{NewVersion: true, Service: state.Service{
		Stack: "shop", Name: name, Desired: stack.DesiredRun, Spec: stack.Service{Name: name, Container: stack.ContainerSpec{Networks: in}},
	}}}
}

// Who is in a network that is to be replaced, and is no task of its stack, is
// named by the tasks that wait, and waited for.
func TestAStaleNetworkWaitsForItsGuests(t *testing.T) {
	for guest, c := range map[string]struct{ enters, leaves state.Change }{
		"container box": {
			state.Change{Enter: &state.Endpoint{Endpoint: stack.Endpoint{ID: "c1", Network: "shop_front", Node: "n0", Name: "box", IPv4: "10.1.0.2"}}},
			state.Change{Delete: &state.Key{Table: state.TableEndpoint, Name: state.EndpointKey("c1", "shop_front")}},
		},
		"mail/smtp.1": {visitor, drop(state.TableTask, "v1")},
	} {
		t.Run(guest, func(t *testing.T) {
			w := newWorld(t, 1)
			w.onNetwork("10.1.0.0/24", "10.2.0.0/24")
			old := *w.store.Snapshot().Network("shop_front")
			next := old.Network
			next.ID, next.VNI, next.Subnets = "next", 7, []stack.Subnet{{CIDR: "10.5.0.0/24"}}
			old.Next = &next
			w.put(state.Change{Network: &old}, c.enters, service("web", "front"), state.Change{Service: &state.ServiceChange{
				NewVersion: true, Service: state.Service{Stack: "shop", Name: "one", Desired: stack.DesiredRun,
					Spec: stack.Service{Name: "one", Replicas: 1, Container: stack.ContainerSpec{Networks: []stack.Attachment{{Network: "front"}}}}},
			}})
			w.rounds()
			w.want("one 10.2.0.2", "one.1: waits for network front to be replaced: "+guest+" is still in it", "web 10.2.0.3")
			w.put(c.leaves)
			w.round() // at once
			if got := w.store.Snapshot().Network("shop_front"); got.ID != "next" || got.Next != nil {
				t.Errorf("the network is %+v", got)
			}
			w.rounds()
			if got := w.table(); !strings.Contains(got, "one.1 10.5.0.2") {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

// visitor is a task of another stack in the network of "shop".
var visitor = state.Change{Create: &stack.Task{
	ID: "v1", Stack: "mail", Service: "smtp", Slot: 1, Node: "n0", Desired: stack.DesiredRun,
	Addresses: []stack.TaskAddress{{Network: "shop_front", IPv4: "10.1.0.9"}},
}}

// What is left of a stack goes at once when the last task of another stack has
// left its networks.
func TestARemovedStackWaitsForItsGuests(t *testing.T) {
	w := newWorld(t, 1)
	w.onNetwork("10.1.0.0/24", "10.2.0.0/24")
	shop := *w.store.Snapshot().Stack("shop")
	shop.Removing = true
	w.put(visitor, state.Change{Stack: &shop})
	w.rounds()
	if snap := w.store.Snapshot(); snap.Stack("shop") == nil || snap.Network("shop_front") == nil {
		t.Fatal("the network of mail/smtp.1 is gone")
	}
	w.put(drop(state.TableTask, "v1"))
	w.round()
	if snap := w.store.Snapshot(); snap.Stack("shop") != nil || snap.Network("shop_front") != nil {
		t.Error("the stack or its network is still there")
	}
}
