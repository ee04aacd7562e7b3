package client

import (
	"context"

	"github.com/dhow-project/dhow/api"
)

// History returns the revisions of a stack, the newest first.
func (c *Client) History(ctx context.Context, name string) ([]api.Revision, error) {
	var out []api.Revision
	err := c.get(ctx, stackPath(name, "/history"), nil, &out)
	return out, err
}

// Rollback applies an earlier revision of a stack as a new one.
func (c *Client) Rollback(ctx context.Context, name string, req api.RollbackRequest) (api.ApplyResponse, error) {
	var out api.ApplyResponse
	err := c.post(ctx, stackPath(name, "/rollback"), nil, req, &out)
	return out, err
}
