package daemon

import (
	"context"

	member "github.com/dhow-project/dhow/cluster/node"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// source fits overlaynet.Source.
type source struct{ *member.Node }

// Fabric is how this machine reaches the containers of others.
func (s source) Fabric() overlaynet.Fabric { return overlaynet.Fabric{} }

func (s source) Enter(ctx context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	return s.EnterNetwork(ctx, e)
}

func (s source) Leave(ctx context.Context, id, network string) error {
	return s.LeaveNetwork(ctx, id, network)
}
