package node

import (
	"context"
	"fmt"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack/plan"
)

// History returns the revisions of a stack.
func (n *Node) History(name string) ([]cluster.Revision, error) {
	if m := n.Manager(); m != nil {
		return m.History(name)
	}
	return nil, fmt.Errorf("this node is a worker: %w", cluster.ErrNotLeader)
}

// Rollback applies an earlier revision of a stack.
func (n *Node) Rollback(ctx context.Context, name string, opt cluster.RollbackOptions) (*plan.Plan, uint64, error) {
	m := n.Manager()
	if m == nil {
		return nil, 0, fmt.Errorf("this node is a worker: %w", cluster.ErrNotLeader)
	}
	return m.Rollback(ctx, name, opt)
}
