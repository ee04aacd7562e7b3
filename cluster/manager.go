package cluster

import (
	"context"
	"errors"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Manager is one manager of the cluster.
type Manager struct{}

var errStub = errors.New("cluster: not built yet")

// Open opens or bootstraps the replicated state. It returns when the state is complete.
func Open(cfg Config) (*Manager, error) { return nil, errStub }

// Close stops consensus. No method may be called afterwards.
func (m *Manager) Close() error { return errStub }

// Run reconciles while this manager leads, until ctx ends.
func (m *Manager) Run(ctx context.Context) error { return errStub }

// ID is the ID of the cluster; containers carry it as a label.
func (m *Manager) ID() string { return "" }

// NodeID is the ID of this node.
func (m *Manager) NodeID() string { return "" }

// ApplyStack makes s the wish for its stack and returns the plan and the state's index; dryRun returns the plan only.
func (m *Manager) ApplyStack(ctx context.Context, s stack.Stack, opt plan.Options, dryRun bool) (*plan.Plan, uint64, error) {
	return nil, 0, errStub
}

// RemoveStack removes a stack in reverse dependency order.
func (m *Manager) RemoveStack(ctx context.Context, name string, opt RemoveOptions) error {
	return errStub
}

// Control does act to services of a stack (all when none is named).
func (m *Manager) Control(ctx context.Context, stackName string, services []string, act Action) error {
	return errStub
}

// Scale sets the number of tasks of services.
func (m *Manager) Scale(ctx context.Context, stackName string, counts map[string]int) error {
	return errStub
}

// Stacks returns all stacks, by name.
func (m *Manager) Stacks() []StackStatus { return nil }

// Stack returns one stack, or runtime.ErrNotFound.
func (m *Manager) Stack(name string) (StackStatus, error) { return StackStatus{}, errStub }

// Changed returns a channel that is closed at the next change of the state.
// Take it before reading, so that no change is missed.
func (m *Manager) Changed() <-chan struct{} { return nil }

// Index is the index of the last change of the state.
func (m *Manager) Index() uint64 { return 0 }

// CreateNetwork adds a network made by hand.
func (m *Manager) CreateNetwork(ctx context.Context, n stack.Network) (stack.Network, error) {
	return n, errStub
}

// RemoveNetwork removes a network made by hand.
func (m *Manager) RemoveNetwork(ctx context.Context, nameOrID string) error { return errStub }

// Network finds a network by name, ID or unique ID prefix.
func (m *Manager) Network(nameOrID string) (stack.Network, bool) { return stack.Network{}, false }

// Networks returns all networks, by name.
func (m *Manager) Networks() []stack.Network { return nil }

// Nodes returns all nodes, by ID.
func (m *Manager) Nodes() []stack.Node { return nil }

// Assignments returns the tasks of a node, by ID.
func (m *Manager) Assignments(node string) []Assignment { return nil }

// Report stores what a node's agent observed, in one command.
func (m *Manager) Report(ctx context.Context, reports []TaskReport) error { return errStub }
