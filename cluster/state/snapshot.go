package state

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-memdb"

	"github.com/dhow-project/dhow/stack"
)

// Snapshot is the state at one index. Lists are sorted by key. The records are
// shared and must not be changed.
type Snapshot struct {
	txn *memdb.Txn
}

// Index is that of the last command applied.
func (s *Snapshot) Index() uint64 {
	if m := first[meta](s.txn, tableMeta, "id", ""); m != nil {
		return m.Index
	}
	return 0
}

// Cluster returns the cluster's record, nil before it was made.
func (s *Snapshot) Cluster() *Cluster { return first[Cluster](s.txn, TableCluster, "id", "") }

// Nodes returns all nodes.
func (s *Snapshot) Nodes() []*stack.Node { return list[stack.Node](s.txn, TableNode, "id_prefix") }

// Node returns one node or nil.
func (s *Snapshot) Node(id string) *stack.Node { return first[stack.Node](s.txn, TableNode, "id", id) }

// FindNodes returns the nodes that ref may mean: the one of this ID, else those
// of this host name, else those whose ID begins with it.
func (s *Snapshot) FindNodes(ref string) []*stack.Node {
	if n := s.Node(ref); n != nil {
		return []*stack.Node{n}
	}
	var named, begin []*stack.Node
	for _, n := range s.Nodes() {
		if ref != "" && n.Hostname == ref {
			named = append(named, n)
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			begin = append(begin, n)
		}
	}
	if len(named) > 0 {
		return named
	}
	return begin
}

// Stacks returns all stacks.
func (s *Snapshot) Stacks() []*Stack { return list[Stack](s.txn, TableStack, "id_prefix") }

// StacksSince returns the stacks that changed after index, the longest unchanged first.
func (s *Snapshot) StacksSince(index uint64) []*Stack {
	it, err := s.txn.LowerBound(string(TableStack), "index", index+1)
	return collect[Stack](it, err)
}

// Stack returns one stack or nil.
func (s *Snapshot) Stack(name string) *Stack { return first[Stack](s.txn, TableStack, "id", name) }

// Services returns the services of a stack.
func (s *Snapshot) Services(stackName string) []*Service {
	return list[Service](s.txn, TableService, "id_prefix", stackName)
}

// Service returns one service or nil.
func (s *Snapshot) Service(stackName, name string) *Service {
	return first[Service](s.txn, TableService, "id", stackName, name)
}

// Tasks returns the tasks of a stack, by service, slot, ID.
func (s *Snapshot) Tasks(stackName string) []*stack.Task {
	return list[stack.Task](s.txn, TableTask, "service_prefix", stackName)
}

// ServiceTasks returns the tasks of a service, by slot, ID.
func (s *Snapshot) ServiceTasks(stackName, service string) []*stack.Task {
	return list[stack.Task](s.txn, TableTask, "service_prefix", stackName, service)
}

// NodeTasks returns the tasks of a node, by ID.
func (s *Snapshot) NodeTasks(node string) []*stack.Task {
	return list[stack.Task](s.txn, TableTask, "node", node)
}

// Task returns one task or nil.
func (s *Snapshot) Task(id string) *stack.Task { return first[stack.Task](s.txn, TableTask, "id", id) }

// Networks returns all networks.
func (s *Snapshot) Networks() []*Network { return list[Network](s.txn, TableNetwork, "id_prefix") }

// StackNetworks returns the networks that a stack made.
func (s *Snapshot) StackNetworks(stackName string) []*Network {
	return list[Network](s.txn, TableNetwork, "stack", stackName)
}

// Network finds a network by name, ID or an ID's unique beginning; nil when there is none.
func (s *Snapshot) Network(ref string) *Network {
	if n := first[Network](s.txn, TableNetwork, "id", ref); n != nil {
		return n
	}
	if n := first[Network](s.txn, TableNetwork, "netid", ref); n != nil {
		return n
	}
	var found *Network
	for _, n := range s.Networks() {
		if ref == "" || !strings.HasPrefix(n.ID, ref) {
			continue
		}
		if found != nil {
			return nil
		}
		found = n
	}
	return found
}

// Volumes returns all volumes that are bound to a node.
func (s *Snapshot) Volumes() []*Volume { return list[Volume](s.txn, TableVolume, "id_prefix") }

// Volume returns a bound volume by its real name, or nil.
func (s *Snapshot) Volume(name string) *Volume {
	return first[Volume](s.txn, TableVolume, "id", name)
}

// StackVolumes returns the bound volumes that a stack declared.
func (s *Snapshot) StackVolumes(stackName string) []*Volume {
	return list[Volume](s.txn, TableVolume, "stack", stackName)
}

// Secret returns a secret by its real name, or nil.
func (s *Snapshot) Secret(name string) *Secret {
	return first[Secret](s.txn, TableSecret, "id", name)
}

// StackSecrets returns the secrets that a stack made.
func (s *Snapshot) StackSecrets(stackName string) []*Secret {
	return list[Secret](s.txn, TableSecret, "stack", stackName)
}

// Config returns a config by its real name, or nil.
func (s *Snapshot) Config(name string) *Config {
	return first[Config](s.txn, TableConfig, "id", name)
}

// StackConfigs returns the configs that a stack made.
func (s *Snapshot) StackConfigs(stackName string) []*Config {
	return list[Config](s.txn, TableConfig, "stack", stackName)
}

// first returns the first record under a key, or nil.
func first[T any](txn *memdb.Txn, table Table, index string, args ...any) *T {
	r, err := txn.First(string(table), index, args...)
	if err != nil { // only for tables, indexes and arguments that the schema does not know
		panic(fmt.Sprintf("state: %s by %s: %v", table, index, err))
	}
	if r == nil {
		return nil
	}
	return r.(*T)
}

func list[T any](txn *memdb.Txn, table Table, index string, args ...any) []*T {
	it, err := txn.Get(string(table), index, args...)
	return collect[T](it, err)
}

func collect[T any](it memdb.ResultIterator, err error) []*T {
	if err != nil { // as above
		panic(fmt.Sprintf("state: list: %v", err))
	}
	var out []*T
	for r := it.Next(); r != nil; r = it.Next() {
		out = append(out, r.(*T))
	}
	return out
}
