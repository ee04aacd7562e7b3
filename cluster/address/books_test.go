package address

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// ledger is a store with books that follow it.
type ledger struct {
	t     *testing.T
	store *state.Store
	index uint64
	*Books
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, store: state.New(), Books: New()}
}

func (l *ledger) put(changes ...state.Change) {
	l.t.Helper()
	l.index++
	if err := l.store.Apply(l.index, state.Command{Time: int64(l.index), Changes: changes}); err != nil {
		l.t.Fatal(err)
	}
	l.Follow(l.store)
}

func network(name, cidr, rng string, virtual ...string) state.Change {
	return state.Change{Network: &state.Network{Network: stack.Network{
		Name: name, ID: name + cidr, VNI: 1, Driver: "overlay", Subnets: []stack.Subnet{{CIDR: cidr, Range: rng}}, Virtual: virtual,
	}}}
}

func in(networks ...string) (out []stack.TaskAddress) {
	for _, n := range networks {
		out = append(out, stack.TaskAddress{Network: n})
	}
	return out
}

func text(list []stack.TaskAddress) string {
	var out []string
	for _, a := range list {
		out = append(out, strings.TrimSuffix(a.Network+" "+a.IPv4+" "+a.IPv6, " "))
	}
	return strings.Join(out, ", ")
}

func (l *ledger) take(owner string, want ...stack.TaskAddress) string {
	l.t.Helper()
	got, err := l.Take(owner, "", want)
	if err != nil {
		l.t.Fatalf("%s: %v", owner, err)
	}
	return text(got)
}

func (l *ledger) refused(owner, why string, want ...stack.TaskAddress) error {
	l.t.Helper()
	got, err := l.Take(owner, "", want)
	if err == nil || !strings.Contains(err.Error(), why) {
		l.t.Fatalf("%s: got %v, %v; want a refusal with %q", owner, got, err, why)
	}
	return err
}

func equal(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAddressesOfAllNetworksOrNone(t *testing.T) {
	l := newLedger(t)
	l.put(network("front", "10.1.0.0/24", ""), network("tiny", "10.2.0.0/30", ""))
	equal(t, l.take("a", in("front", "tiny", "elsewhere")...), "front 10.1.0.2, tiny 10.2.0.2")
	l.refused("b", "network tiny: addresses 10.2.0.1 to 10.2.0.2 (2 taken) exhausted: give it a larger subnet", in("front", "tiny")...)
	equal(t, l.take("b", in("front")...), "front 10.1.0.4") // what was refused left nothing behind
	l.Give("a")
	l.put(network("other", "10.3.0.0/24", "")) // a was never stored
	equal(t, l.take("c", in("tiny")...), "tiny 10.2.0.2")
}

func TestFixedAddressNamesItsHolder(t *testing.T) {
	l := newLedger(t)
	l.put(network("front", "10.1.0.0/24", ""))
	fixed := stack.TaskAddress{Network: "front", IPv4: "10.1.0.9"}
	equal(t, l.take("a", fixed), "front 10.1.0.9")
	err := l.refused("b", "taken by a", fixed)
	var taken *Taken
	if !errors.As(err, &taken) || taken.Holder != "a" {
		t.Errorf("got %v", err)
	}
	l.refused("b", "taken by gateway", stack.TaskAddress{Network: "front", IPv4: "10.1.0.1"})
	l.refused("b", "is in none of its subnets", stack.TaskAddress{Network: "front", IPv4: "10.9.0.1"})
	l.Move("a", taken)
	equal(t, l.take("b", fixed), "front 10.1.0.9")
}

// What was freed comes last, as long as there is something else.
func TestFreedAddressesComeLast(t *testing.T) {
	l := newLedger(t)
	l.put(network("front", "10.1.0.0/29", "")) // .2 to .6
	create := func(id string) {
		got, err := l.Take(id, "", in("front"))
		if err != nil {
			t.Fatal(err)
		}
		l.put(state.Change{Create: &stack.Task{ID: id, Stack: "s", Service: "w", Addresses: got}})
	}
	for i := range 3 {
		create(fmt.Sprint("t", i))
	}
	l.put(state.Change{Delete: &state.Key{Table: state.TableTask, Name: "t0"}})
	var got []string
	for i := range 3 {
		got = append(got, l.take(fmt.Sprint("u", i), in("front")...))
	}
	equal(t, strings.Join(got, "; "), "front 10.1.0.5; front 10.1.0.6; front 10.1.0.2")
	l.refused("u9", "(6 taken) exhausted", in("front")...)
	l.put(state.Change{Retire: &stack.Task{ID: "t1", Stack: "s", Service: "w"}})
	equal(t, l.take("u9", in("front")...), "front 10.1.0.3")
}

func TestVirtualAddressesFollowTheRanges(t *testing.T) {
	l := newLedger(t)
	l.put(network("front", "10.1.0.0/24", "", "10.7.0.0/29"))
	give := func(name string, networks ...string) string {
		got, err := l.TakeVirtual("s/"+name, networks)
		if err != nil {
			t.Fatal(err)
		}
		l.put(state.Change{Given: &state.GivenChange{Stack: "s", Name: name, Addresses: got}})
		return text(got)
	}
	service := func(name string) {
		l.put(state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: name}, NewVersion: true}})
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		service(name)
		give(name, "front")
	}
	equal(t, give("a", "front"), "front 10.7.0.2")
	_, err := l.TakeVirtual("s/f", []string{"front"})
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "network front: virtual addresses exhausted: all of 10.7.0.0/29") || !strings.Contains(err.Error(), "--address-pool") {
		t.Errorf("got %v", err)
	}
	l.put(state.Change{Delete: &state.Key{Table: state.TableService, Name: "s/b"}})
	service("f")
	equal(t, give("f", "front"), "front 10.7.0.3")
	l.put(network("front", "10.4.0.0/24", "", "10.8.0.0/24")) // remade
	equal(t, give("a", "front"), "front 10.8.0.2")
	equal(t, give("a"), "")
	l.put(state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: "a"}}})
	if s := l.store.Snapshot().Service("s", "f"); text(s.Addresses) != "front 10.7.0.3" {
		t.Errorf("a change of a service must leave its addresses: %v", s.Addresses)
	}
}

// Addresses may pass from a record to another in one command.
func TestAnAddressChangesHands(t *testing.T) {
	l := newLedger(t)
	l.put(network("front", "10.1.0.0/24", ""))
	at := []stack.TaskAddress{{Network: "front", IPv4: "10.1.0.9"}}
	l.put(state.Change{Create: &stack.Task{ID: "a", Addresses: at}}, state.Change{Enter: nil, Create: &stack.Task{ID: "c"}})
	l.put(state.Change{Create: &stack.Task{ID: "b", Addresses: at}}, state.Change{Update: &stack.Task{ID: "a"}})
	l.refused("x", "taken by b", at...)
	l.put(state.Change{Delete: &state.Key{Table: state.TableTask, Name: "a"}})
	l.refused("x", "taken by b", at...)
	l.put(state.Change{Delete: &state.Key{Table: state.TableTask, Name: "b"}})
	equal(t, l.take("x", at...), "front 10.1.0.9")
}

// What a service names is kept for it, whoever starts first.
func TestNamedAddressesAreKept(t *testing.T) {
	l := newLedger(t)
	db := stack.Service{Name: "db", Container: stack.ContainerSpec{Networks: []stack.Attachment{{Network: "front", IPv4: "10.1.0.2"}}}}
	l.put(state.Change{Stack: &state.Stack{Name: "s"}},
		state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: "db", Spec: db}, NewVersion: true}})
	l.put(network("front", "10.1.0.0/24", ""))
	equal(t, l.take("a", in("front")...), "front 10.1.0.3")
	fixed := stack.TaskAddress{Network: "front", IPv4: "10.1.0.2"}
	l.refused("b", "taken by service s/db", fixed)
	got, err := l.Take("c", "s/db", []stack.TaskAddress{fixed})
	if err != nil || text(got) != "front 10.1.0.2" {
		t.Fatal(got, err)
	}
	l.refused("b", "taken by c", fixed)
	l.Give("c")
	l.refused("b", "taken by service s/db", fixed)
	l.put(state.Change{Delete: &state.Key{Table: state.TableService, Name: "s/db"}})
	equal(t, l.take("b", fixed), "front 10.1.0.2")
}

// Who was refused gets what is kept for nobody any more.
func TestAddressesThatWereKeptAreFree(t *testing.T) {
	l := newLedger(t)
	db := stack.Service{Name: "db", Container: stack.ContainerSpec{Networks: []stack.Attachment{{Network: "front", IPv4: "10.1.0.2"}}}}
	l.put(state.Change{Stack: &state.Stack{Name: "s"}},
		state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: "db", Spec: db}, NewVersion: true}})
	l.put(network("front", "10.1.0.0/30", ""))
	l.refused("a", "(2 taken) exhausted", in("front")...)
	l.put(state.Change{Delete: &state.Key{Table: state.TableService, Name: "s/db"}})
	equal(t, l.take("a", in("front")...), "front 10.1.0.2")
}

func TestHostPortsAreChosenOnce(t *testing.T) {
	l := newLedger(t)
	publish := func(name string, ports ...stack.Port) string {
		spec := stack.Service{Name: name, Container: stack.ContainerSpec{Ports: ports}}
		l.put(state.Change{Service: &state.ServiceChange{Service: state.Service{Stack: "s", Name: name, Spec: spec}, NewVersion: true}})
		sv := l.store.Snapshot().Service("s", name)
		got, err := l.TakePorts("s/"+name, &sv.Spec, sv.Ports)
		if err != nil {
			return err.Error()
		}
		l.put(state.Change{Given: &state.GivenChange{Stack: "s", Name: name, Ports: got}})
		return fmt.Sprint(got)
	}
	equal(t, publish("fixed", stack.Port{HostPort: 30001, ContainerPort: 80}, stack.Port{HostPort: 8001, Mode: "host", ContainerPort: 80}), "[]")
	equal(t, publish("a", stack.Port{ContainerPort: 80}, stack.Port{ContainerPort: 81}), "[30000 30002]")
	equal(t, publish("b", stack.Port{ContainerPort: 80}, stack.Port{ContainerPort: 53, Protocol: "udp"}), "[30003 30000]")
	equal(t, publish("c", stack.Port{HostPort: 8000, HostPortEnd: 8002, ContainerPort: 80}), "[8000]")
	equal(t, publish("d", stack.Port{HostPort: 8000, HostPortEnd: 8002, ContainerPort: 80}), "[8002]")
	equal(t, publish("a", stack.Port{ContainerPort: 80}), "[30000]") // keeps what it has
	equal(t, publish("e", stack.Port{HostPort: 8000, HostPortEnd: 8002, ContainerPort: 80}),
		`container port 80: host ports 8000 to 8002/tcp exhausted: all are published by services: publish fewer, or name a port or a wider range (ports: "20000-20999:80")`)
	l.put(state.Change{Delete: &state.Key{Table: state.TableService, Name: "s/c"}})
	equal(t, publish("e", stack.Port{HostPort: 8000, HostPortEnd: 8002, ContainerPort: 80}), "[8000]")
}
