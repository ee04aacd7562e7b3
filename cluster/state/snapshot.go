package state

import (
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Snapshot is the state at one index. Lists are sorted by key. The records are
// shared and must not be changed.
type Snapshot struct {
	tables tables
}

// Index is that of the last command applied.
func (s *Snapshot) Index() uint64 { return s.tables.index }

// Fleet is the index of the last command that changed a node, or one after it.
func (s *Snapshot) Fleet() uint64 { return s.tables.fleet }

// Cluster returns the cluster's record, nil before it was made.
func (s *Snapshot) Cluster() *Cluster { return s.tables.cluster }

// Nodes returns all nodes.
func (s *Snapshot) Nodes() []*stack.Node { return s.tables.nodes.list() }

// Node returns one node or nil.
func (s *Snapshot) Node(id string) *stack.Node { return s.tables.nodes.get(id) }

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
func (s *Snapshot) Stacks() []*Stack { return s.tables.stacks.list() }

// Stack returns one stack or nil.
func (s *Snapshot) Stack(name string) *Stack { return s.tables.stacks.get(name) }

// Services returns the services of a stack.
func (s *Snapshot) Services(stackName string) (out []*Service) {
	s.tables.services.from(pair{stackName, ""}, func(sv *Service) bool {
		if sv.Stack != stackName {
			return false
		}
		out = append(out, sv)
		return true
	})
	return out
}

// Service returns one service or nil.
func (s *Snapshot) Service(stackName, name string) *Service {
	return s.tables.services.get(pair{stackName, name})
}

// Tasks returns the tasks of a stack, by service, slot, ID.
func (s *Snapshot) Tasks(stackName string) (out []*stack.Task) {
	s.tables.byService.from(pair{stackName, ""}, func(g *taskGroup) bool {
		if g.key.a != stackName {
			return false
		}
		out = append(out, g.tree.list()...)
		return true
	})
	return out
}

type taskGroup = group[pair, slotKey, stack.Task]

// CountTasks returns how many tasks a stack has, without looking at each.
func (s *Snapshot) CountTasks(stackName string) (n int) {
	s.tables.byService.from(pair{stackName, ""}, func(g *taskGroup) bool {
		if g.key.a != stackName {
			return false
		}
		n += g.tree.size
		return true
	})
	return n
}

// EachTask calls f for each task, by stack, service, slot, ID, until it returns false.
func (s *Snapshot) EachTask(f func(*stack.Task) bool) {
	s.tables.byService.all(func(g *taskGroup) bool {
		more := true
		g.tree.all(func(t *stack.Task) bool {
			more = f(t)
			return more
		})
		return more
	})
}

// ServiceTasks returns the tasks of a service, by slot, ID.
func (s *Snapshot) ServiceTasks(stackName, service string) []*stack.Task {
	return s.tables.byService.list(pair{stackName, service})
}

// NodeTasks returns the tasks of a node, by ID.
func (s *Snapshot) NodeTasks(node string) []*stack.Task { return s.tables.byNode.list(node) }

// Task returns one task or nil.
func (s *Snapshot) Task(id string) *stack.Task { return s.tables.tasks.get(id) }

// Networks returns all networks.
func (s *Snapshot) Networks() []*Network { return s.tables.networks.byName.list() }

// StackNetworks returns the networks that a stack made.
func (s *Snapshot) StackNetworks(stackName string) []*Network {
	return s.tables.networks.of(stackName)
}

// Network finds a network by name, ID or an ID's unique beginning; nil when there is none.
func (s *Snapshot) Network(ref string) *Network {
	if n := s.tables.networks.byName.get(ref); n != nil {
		return n
	}
	if ref == "" {
		return nil
	}
	var found, exact *Network
	several := false
	s.tables.networkID.from(pair{ref, ""}, func(n *Network) bool {
		if n.ID == ref {
			exact = n
			return false
		}
		if !strings.HasPrefix(n.ID, ref) {
			return false
		}
		several = found != nil
		found = n
		return !several
	})
	switch {
	case exact != nil:
		return exact
	case several:
		return nil
	}
	return found
}

// Volumes returns all volumes that are bound to a node.
func (s *Snapshot) Volumes() []*Volume { return s.tables.volumes.byName.list() }

// Volume returns a bound volume by its real name, or nil.
func (s *Snapshot) Volume(name string) *Volume { return s.tables.volumes.byName.get(name) }

// StackVolumes returns the bound volumes that a stack declared.
func (s *Snapshot) StackVolumes(stackName string) []*Volume { return s.tables.volumes.of(stackName) }

// Secrets returns all secrets.
func (s *Snapshot) Secrets() []*Secret { return s.tables.secrets.byName.list() }

// Configs returns all configs.
func (s *Snapshot) Configs() []*Config { return s.tables.configs.byName.list() }

// Secret returns a secret by its real name, or nil.
func (s *Snapshot) Secret(name string) *Secret { return s.tables.secrets.byName.get(name) }

// StackSecrets returns the secrets that a stack made.
func (s *Snapshot) StackSecrets(stackName string) []*Secret { return s.tables.secrets.of(stackName) }

// Config returns a config by its real name, or nil.
func (s *Snapshot) Config(name string) *Config { return s.tables.configs.byName.get(name) }

// StackConfigs returns the configs that a stack made.
func (s *Snapshot) StackConfigs(stackName string) []*Config { return s.tables.configs.of(stackName) }
