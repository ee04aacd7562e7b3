package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

func stackPath(name, rest string) string { return "/dhow/v1/stacks/" + name + rest }

// ApplyStack makes s what is wanted of its stack; dryRun only tells the plan.
func (c *Client) ApplyStack(ctx context.Context, s stack.Stack, opt plan.Options, dryRun bool) (api.ApplyResponse, error) {
	return c.Deploy(ctx, api.ApplyRequest{Stack: s, Options: opt, DryRun: dryRun})
}

// Deploy is ApplyStack with what else may come along.
func (c *Client) Deploy(ctx context.Context, req api.ApplyRequest) (api.ApplyResponse, error) {
	var out api.ApplyResponse
	err := c.call(ctx, request{method: http.MethodPut, path: stackPath(req.Stack.Name, ""), body: req}, &out)
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

// watched is a line of a watch.
type watched struct {
	api.StackStatus
	api.WatchEnd
}

// WatchStack calls each with the stack's status now and after every change. It
// returns nil when the stack is gone, and the error of each.
func (c *Client) WatchStack(ctx context.Context, name string, each func(api.StackStatus) error) error {
	var applied stack.Stack
	removing := false
	err := lines(ctx, c, request{method: http.MethodGet, path: stackPath(name, "/watch")}, func(line watched) error {
		if line.Failed != "" {
			return &Error{Status: http.StatusServiceUnavailable, Message: line.Failed}
		}
		st := line.StackStatus
		if st.Stack.Name == "" { // not sent again
			st.Stack = applied
		}
		applied, removing = st.Stack, st.Removing
		return each(st)
	})
	if err != nil {
		return err
	}
	// The stream ends in good order when the stack is gone, and when the daemon is told to end.
	now, err := c.Stack(ctx, name)
	switch {
	case IsNotFound(err), err == nil && removing && !now.Removing: // one of the same name came after it
		return nil
	case err == nil:
		return &Cut{Err: io.EOF}
	}
	return err
}

// RemoveOptions of RemoveStack.
type RemoveOptions struct {
	Services []string       // only these; empty: the whole stack
	Volumes  bool           // anonymous volumes of its containers too
	Grace    *time.Duration // between stop signal and kill; nil: the services' own
}

// RemoveStack begins to remove a stack, or only some of its services.
func (c *Client) RemoveStack(ctx context.Context, name string, opt RemoveOptions) error {
	q := url.Values{}
	set(q, "volumes", opt.Volumes)
	setText(q, "services", strings.Join(opt.Services, ","))
	if opt.Grace != nil {
		q.Set("grace", opt.Grace.String())
	}
	return c.delete(ctx, stackPath(name, ""), q)
}

// ControlStack does to services of a stack what req says.
func (c *Client) ControlStack(ctx context.Context, name string, req api.ControlRequest) error {
	return c.post(ctx, stackPath(name, "/control"), nil, req, nil)
}

// ScaleStack sets replicas by service.
func (c *Client) ScaleStack(ctx context.Context, name string, counts map[string]int) error {
	return c.post(ctx, stackPath(name, "/scale"), nil, api.ScaleRequest{Counts: counts}, nil)
}
