package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// DefaultNetwork is the network of containers that name none; it is made with the cluster.
const DefaultNetwork = "bridge"

// CreateNetwork adds a network made by hand and returns it with its ID and subnets.
func (m *Manager) CreateNetwork(ctx context.Context, n stack.Network) (stack.Network, error) {
	if n.Name == "" {
		return n, fmt.Errorf("create network: no name: %w", runtime.ErrInvalid)
	}
	if n.Name == stack.IngressNetwork {
		return n, fmt.Errorf("create network %s: the cluster has a network of this name for itself: %w", n.Name, runtime.ErrForbidden)
	}
	if err := m.turn(ctx); err != nil {
		return n, err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	if old := snap.Network(n.Name); old != nil && old.Name == n.Name {
		return n, fmt.Errorf("create network %s: it exists: %w", n.Name, runtime.ErrConflict)
	}
	n.Stack, n.Key, n.External = "", "", false
	rec, err := m.resolve(snap, n, time.Now().UnixNano())
	if err != nil {
		return n, err
	}
	_, err = m.propose(ctx, []state.Change{{Network: rec}})
	return rec.Network, err
}

// resolve gives a new network its ID and subnets.
func (m *Manager) resolve(snap *state.Snapshot, n stack.Network, now int64) (*state.Network, error) {
	used := allotted(snap)
	return m.resolveBeside(snap, snap.Cluster(), used, used, n, now)
}

// resolveBeside is resolve beside networks that the state may not have yet: the
// identifiers of all are taken, and the ranges of used.
func (m *Manager) resolveBeside(snap *state.Snapshot, c *state.Cluster, all, used []stack.Network, n stack.Network, now int64) (*state.Network, error) {
	n.VNI, n.Virtual = 0, nil // nobody but the cluster chooses these
	rec := &state.Network{Network: n, Asked: n}
	rec.ID, rec.Created = newHexID(), now
	if err := m.allot(&rec.Network, c, all, besides(snap, c, used)); err != nil {
		return nil, err
	}
	return rec, nil
}

// RemoveNetwork removes a network that no stack made or uses.
func (m *Manager) RemoveNetwork(ctx context.Context, nameOrID string) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	n := snap.Network(nameOrID)
	switch {
	case n == nil:
		return fmt.Errorf("network %s: %w", nameOrID, runtime.ErrNotFound)
	case n.Name == DefaultNetwork:
		return fmt.Errorf("network %s is the default network and stays: %w", n.Name, runtime.ErrForbidden)
	case n.Name == stack.IngressNetwork && n.Network.Stack == "":
		return fmt.Errorf("network %s is the cluster's own, of published ports, and stays: %w", n.Name, runtime.ErrForbidden)
	case n.Network.Stack != "" && snap.Stack(n.Network.Stack) != nil:
		return fmt.Errorf("network %s belongs to stack %s: %w", n.Name, n.Network.Stack, runtime.ErrConflict)
	}
	if user := borrower(snap, n.Name); user != "" {
		return fmt.Errorf("network %s is used by stack %s: %w", n.Name, user, runtime.ErrConflict)
	}
	if err := occupied(snap, n.Name); err != nil {
		return err
	}
	_, err := m.propose(ctx, []state.Change{{Delete: &state.Key{Table: state.TableNetwork, Name: n.Name}}})
	return err
}

// occupied names who has an address in a network; nil: nobody.
func occupied(snap *state.Snapshot, network string) error {
	who := snap.GuestNames(network, "")
	if len(who) == 0 {
		return nil
	}
	return fmt.Errorf("network %s has active endpoints: %s: %w", network, listed(who), runtime.ErrConflict)
}

// vacant refuses to make a network again that others use than the tasks of its
// stack: they would stay behind in the one that was.
func vacant(snap *state.Snapshot, network, stackName string) error {
	who := snap.GuestNames(network, stackName)
	if len(who) == 0 {
		return nil
	}
	return fmt.Errorf("network %s is to be made again, as its definition has changed, and has others in it: %s; take them out first (docker network disconnect, dhow down): %w",
		network, listed(who), runtime.ErrConflict)
}

// listed names the first of some.
func listed(who []string) string {
	if n := len(who); n > 5 {
		who = append(who[:5], fmt.Sprintf("%d more", n-5))
	}
	return strings.Join(who, ", ")
}

// borrower names a stack that uses a network as an external one; "" when none does.
func borrower(snap *state.Snapshot, network string) string {
	for _, s := range snap.Stacks() {
		for _, used := range s.Spec.Networks {
			if used.External && used.Name == network && !s.Removing {
				return s.Name
			}
		}
	}
	return ""
}

// lent returns an error that names the first network of a stack that would go
// although another stack uses it; keep holds the names of those that stay.
func lent(snap *state.Snapshot, stackName string, keep map[string]bool) error {
	for _, n := range snap.StackNetworks(stackName) {
		if keep[n.Name] {
			continue
		}
		if user := borrower(snap, n.Name); user != "" {
			return fmt.Errorf("network %s is used by stack %s, which must be taken down first: %w", n.Name, user, runtime.ErrConflict)
		}
	}
	return nil
}

// Network finds a network by name, ID or unique ID prefix.
func (m *Manager) Network(nameOrID string) (stack.Network, bool) {
	if n := m.store.Snapshot().Network(nameOrID); n != nil {
		return n.Network, true
	}
	return stack.Network{}, false
}

// Networks returns all networks, by name.
func (m *Manager) Networks() []stack.Network {
	var out []stack.Network
	for _, n := range m.store.Snapshot().Networks() {
		out = append(out, n.Network)
	}
	return out
}

// networkChanges makes, replaces and changes the networks of a stack. Those
// that the stack has no more are left to the loop: containers may still be in them.
func (m *Manager) networkChanges(snap *state.Snapshot, s stack.Stack, remade func(key string) bool, now int64) ([]state.Change, error) {
	used := allotted(snap)
	var changes []state.Change
	keep := map[string]bool{}
	for _, want := range s.Networks {
		keep[want.Name] = !want.External
	}
	if err := lent(snap, s.Name, keep); err != nil {
		return nil, err
	}
	for _, key := range sortedKeys(s.Networks) {
		want := s.Networks[key]
		if want.External {
			continue
		}
		want.Key, want.Stack = key, s.Name
		rec, err := m.networkChange(snap, want, used, remade(key), now)
		if err != nil {
			return nil, err
		}
		if rec == nil {
			continue
		}
		changes = append(changes, state.Change{Network: rec})
		used = append(used, rec.Network)
		if rec.Next != nil {
			used = append(used, *rec.Next)
		}
	}
	return changes, nil
}

// networkChange returns the record to store for one network, nil when it is right as it is.
func (m *Manager) networkChange(snap *state.Snapshot, want stack.Network, used []stack.Network, remade bool, now int64) (*state.Network, error) {
	old := snap.Network(want.Name)
	if old != nil && old.Name != want.Name { // found by ID
		old = nil
	}
	left := snap.Stack(want.Stack) == nil // behind by a stack that is gone: somebody was in it
	switch {
	case old == nil:
		return m.resolveBeside(snap, snap.Cluster(), used, used, want, now)
	case old.Network.Stack != want.Stack:
		return nil, fmt.Errorf("network %s exists and is not of this stack; declare it `external: true` to use it, or choose another name: %w", want.Name, runtime.ErrConflict)
	case remade, left && plan.Remade(old.Asked, want):
		if err := vacant(snap, want.Name, want.Stack); err != nil {
			return nil, err
		}
		others := slices.DeleteFunc(slices.Clone(used), func(n stack.Network) bool { return n.Name == want.Name })
		next, err := m.resolveBeside(snap, snap.Cluster(), used, others, want, now)
		if err != nil || left {
			return next, err
		}
		rec := *old
		rec.Asked, rec.Next = want, &next.Network
		return &rec, nil
	case old.Attachable == want.Attachable && mapsEqual(old.Labels, want.Labels) && maps.EqualFunc(old.Forward, want.Forward, slices.Equal[[]string]):
		return nil, nil
	}
	rec := *old
	rec.Attachable, rec.Labels, rec.Forward, rec.Asked = want.Attachable, want.Labels, want.Forward, want
	return &rec, nil
}
