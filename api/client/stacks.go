package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

func stackPath(name, rest string) string { return "/dhow/v1/stacks/" + name + rest }

// ApplyStack makes s what is wanted of its stack; dryRun only tells the plan.
func (c *Client) ApplyStack(ctx context.Context, s stack.Stack, opt plan.Options, dryRun bool) (api.ApplyResponse, error) {
	var out api.ApplyResponse
	err := c.call(ctx, request{method: http.MethodPut, path: stackPath(s.Name, ""), body: api.ApplyRequest{Stack: s, Options: opt, DryRun: dryRun}}, &out)
	return out, err
}

// Stacks lists all stacks by name.
func (c *Client) Stacks(ctx context.Context) ([]api.StackStatus, error) {
	var out []api.StackStatus
	err := c.get(ctx, "/dhow/v1/stacks", nil, &out)
	return out, err
}

// Stack returns one stack.
func (c *Client) Stack(ctx context.Context, name string) (api.StackStatus, error) {
	var out api.StackStatus
	err := c.get(ctx, stackPath(name, ""), nil, &out)
	return out, err
}

// WatchStack calls each with the stack's status now and after every change. It
// returns nil when the stack is gone, and the error of each.
func (c *Client) WatchStack(ctx context.Context, name string, each func(api.StackStatus) error) error {
	return lines(ctx, c, request{method: http.MethodGet, path: stackPath(name, "/watch")}, each)
}

// RemoveStack begins to remove a stack, or only some of its services; volumes
// takes the anonymous volumes of its containers along.
func (c *Client) RemoveStack(ctx context.Context, name string, volumes bool, services ...string) error {
	q := url.Values{}
	set(q, "volumes", volumes)
	setText(q, "services", strings.Join(services, ","))
	return c.delete(ctx, stackPath(name, ""), q)
}

// ControlStack does action to services, to all when none is named.
func (c *Client) ControlStack(ctx context.Context, name string, action api.Action, services ...string) error {
	return c.post(ctx, stackPath(name, "/control"), nil, api.ControlRequest{Action: action, Services: services}, nil)
}

// ScaleStack sets replicas by service.
func (c *Client) ScaleStack(ctx context.Context, name string, counts map[string]int) error {
	return c.post(ctx, stackPath(name, "/scale"), nil, api.ScaleRequest{Counts: counts}, nil)
}
