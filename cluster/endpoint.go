package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// EnterNetwork gives a container without a task its addresses in a network that
// spans nodes, those that e names or free ones, and tells the other nodes of it.
// It may be repeated: who is in the network already keeps its addresses, unless
// it names others.
func (m *Manager) EnterNetwork(ctx context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	if err := m.turn(ctx); err != nil {
		return e, err
	}
	defer m.write.Unlock()
	if m.books == nil { // the loop has not begun to keep them
		m.books = address.New()
	}
	snap := m.store.Snapshot()
	n := snap.Network(e.Network)
	switch {
	case n == nil:
		return e, fmt.Errorf("network %s: %w", e.Network, runtime.ErrNotFound)
	case !n.Spans():
		return e, fmt.Errorf("network %s: its addresses are each node's own business: %w", n.Name, runtime.ErrInvalid)
	case snap.Node(e.Node) == nil:
		return e, fmt.Errorf("node %s is not of this cluster: %w", e.Node, runtime.ErrForbidden)
	case strings.Contains(e.ID, "/") || snap.Task(e.ID) != nil: // it would be taken for another record
		return e, fmt.Errorf("network %s: %q is no ID of a container: %w", n.Name, e.ID, runtime.ErrInvalid)
	}
	if err := mayEnter(n, &e); err != nil {
		return e, err
	}
	e.Network, e.Up, e.Ready = n.Name, true, true
	old := snap.Endpoint(e.ID, n.Name)
	if old != nil && old.Node != e.Node {
		return e, fmt.Errorf("network %s: container %s is on node %s: %w", n.Name, e.ID, old.Node, runtime.ErrConflict)
	}
	if old != nil && (e.IPv4 == "" || e.IPv4 == old.IPv4) && (e.IPv6 == "" || e.IPv6 == old.IPv6) {
		e.IPv4, e.IPv6 = old.IPv4, old.IPv6
		if reflect.DeepEqual(old.Endpoint, e) {
			return e, m.Verify(ctx) // who leads no more may not know that it was taken out
		}
		return e, m.enter(ctx, e, old.Created)
	}
	return m.enterAnew(ctx, snap, e)
}

// enterAnew is EnterNetwork of who is not in the network, or at another address.
func (m *Manager) enterAnew(ctx context.Context, snap *state.Snapshot, e stack.Endpoint) (stack.Endpoint, error) {
	m.books.Follow(m.store)
	m.books.Leave(e.ID, e.Network)
	got, err := m.books.Take(e.ID, "", []stack.TaskAddress{{Network: e.Network, IPv4: e.IPv4, IPv6: e.IPv6}})
	if err != nil {
		m.stay(snap.Endpoint(e.ID, e.Network))
		if taken := (*address.Taken)(nil); errors.As(err, &taken) {
			return e, fmt.Errorf("network %s: address %s is taken by %s: %w", taken.Network, taken.Addr, holder(snap, taken.Holder), runtime.ErrConflict)
		}
		if errors.Is(err, address.ErrExhausted) {
			return e, fmt.Errorf("%w: %w", err, runtime.ErrConflict)
		}
		return e, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	for _, a := range got {
		if a.Network == e.Network {
			e.IPv4, e.IPv6 = a.IPv4, a.IPv6
		}
	}
	if err := m.enter(ctx, e, time.Now().UnixNano()); err != nil {
		m.books.Reset() // it may have been stored or not
		return e, err
	}
	m.log.Info("container entered a network", "container", e.ID, "network", e.Network, "node", e.Node, "ipv4", e.IPv4, "ipv6", e.IPv6)
	return e, nil
}

// stay writes down again what a container has that could not have another address.
func (m *Manager) stay(old *state.Endpoint) {
	if old == nil {
		return
	}
	if _, err := m.books.Take(old.ID, "", []stack.TaskAddress{{Network: old.Network, IPv4: old.IPv4, IPv6: old.IPv6}}); err != nil {
		m.books.Reset() // the records alone count
	}
}

func (m *Manager) enter(ctx context.Context, e stack.Endpoint, created int64) error {
	_, err := m.propose(ctx, []state.Change{{Enter: &state.Endpoint{Endpoint: e, Created: created}}})
	return err
}

// mayEnter refuses plain containers in networks that are for services, as Docker does.
func mayEnter(n *state.Network, e *stack.Endpoint) error {
	own, _, _ := strings.Cut(e.Service, "/")
	own = cmp.Or(e.Stack, own)
	switch {
	case n.Name == stack.IngressNetwork && n.Network.Stack == "":
		return fmt.Errorf("network %s is of published ports and takes no containers: %w", n.Name, runtime.ErrForbidden)
	case n.Driver != "overlay" || n.Attachable || n.Network.Stack != "" && n.Network.Stack == own:
		return nil
	}
	return fmt.Errorf("network %s not manually attachable: it is an overlay network for services; declare it with `attachable: true`, or make it with dhow network create --attachable, to let plain containers in: %w", n.Name, runtime.ErrForbidden)
}

// holder is what a person calls who has an address.
func holder(snap *state.Snapshot, id string) string {
	if t := snap.Task(id); t != nil {
		return fmt.Sprintf("%s/%s.%d", t.Stack, t.Service, t.Slot)
	}
	if list := snap.ContainerEndpoints(id); len(list) > 0 && list[0].Name != "" {
		return "container " + list[0].Name
	}
	return id
}

// LeaveNetwork takes a node's container out of a network; one that is not in it
// is fine. The network may be gone.
func (m *Manager) LeaveNetwork(ctx context.Context, node, id, network string) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	if n := snap.Network(network); n != nil {
		network = n.Name
	}
	e := snap.Endpoint(id, network)
	if e == nil || e.Node != node {
		return nil
	}
	_, err := m.propose(ctx, []state.Change{leave(e)})
	return err
}

func leave(e *state.Endpoint) state.Change {
	return state.Change{Delete: &state.Key{Table: state.TableEndpoint, Name: state.EndpointKey(e.ID, e.Network)}}
}

// KeepEndpoints drops all endpoints of a node but those of the containers that
// it still has.
func (m *Manager) KeepEndpoints(ctx context.Context, node string, ids []string) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	keep := make(map[string]bool, len(ids))
	for _, id := range ids {
		keep[id] = true
	}
	var changes []state.Change
	for _, e := range m.store.Snapshot().NodeEndpoints(node) {
		if !keep[e.ID] {
			changes = append(changes, leave(e))
		}
	}
	for part := range slices.Chunk(changes, 1000) {
		if _, err := m.propose(ctx, part); err != nil {
			return err
		}
	}
	return nil
}
