package node

import (
	"context"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/stack"
)

// Directory is what this machine knows of a network by its name, and of
// published ports (""); nil: nothing. The same pointer is the same content.
func (n *Node) Directory(network string) *stack.Directory {
	return n.now().client.Directory(network)
}

// View is what this machine was told of the cluster; false while it is a machine alone.
func (n *Node) View() (dispatch.View, bool) {
	e := n.now()
	return e.client.View(), e.memberNow() != nil
}

// EnterNetwork gives a container without a task its addresses in a network that
// spans nodes, and tells the nodes of that network. It may be repeated. It asks
// the manager that leads, and the next one when that changes, until ctx ends.
func (n *Node) EnterNetwork(ctx context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	return n.now().enterNetwork(ctx, e)
}

// LeaveNetwork takes such a container out of a network.
func (n *Node) LeaveNetwork(ctx context.Context, id, network string) error {
	return n.now().leaveNetwork(ctx, id, network)
}
