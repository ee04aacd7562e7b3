package node

import (
	"context"

	"github.com/dhow-project/dhow/stack"
)

// Directory is what this machine knows of a network, and of published ports.
func (n *Node) Directory(string) *stack.Directory { return nil }

// EnterNetwork gives a container without a task its addresses in a network that spans nodes.
func (n *Node) EnterNetwork(_ context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	return e, nil
}

// LeaveNetwork takes such a container out of a network.
func (n *Node) LeaveNetwork(context.Context, string, string) error { return nil }
