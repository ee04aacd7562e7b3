package client

import (
	"context"
	"net/url"

	"github.com/moby/moby/api/types/network"

	"github.com/dhow-project/dhow/stack"
)

// Networks lists networks by name.
func (c *Client) Networks(ctx context.Context, f Filters) ([]network.Inspect, error) {
	q := url.Values{}
	f.add(q)
	var out []network.Inspect
	err := c.get(ctx, docker+"/networks", q, &out)
	return out, err
}

// Network describes one network and who is in it.
func (c *Client) Network(ctx context.Context, ref string) (network.Inspect, error) {
	var out network.Inspect
	err := c.get(ctx, docker+"/networks/"+ref, nil, &out)
	return out, err
}

// NetworkView is all that the managers know of one network.
func (c *Client) NetworkView(ctx context.Context, ref string) (stack.NetworkView, error) {
	var out stack.NetworkView
	err := c.get(ctx, "/dhow/v1/networks/"+ref, nil, &out)
	return out, err
}

// CreateNetwork makes a network and returns its ID.
func (c *Client) CreateNetwork(ctx context.Context, req network.CreateRequest) (string, error) {
	var out network.CreateResponse
	err := c.post(ctx, docker+"/networks/create", nil, req, &out)
	return out.ID, err
}

// RemoveNetwork removes a network that nobody uses.
func (c *Client) RemoveNetwork(ctx context.Context, ref string) error {
	return c.delete(ctx, docker+"/networks/"+ref, nil)
}

// PruneNetworks removes networks that nobody uses and no stack owns.
func (c *Client) PruneNetworks(ctx context.Context, f Filters) (network.PruneReport, error) {
	q := url.Values{}
	f.add(q)
	var out network.PruneReport
	err := c.post(ctx, docker+"/networks/prune", q, nil, &out)
	return out, err
}

// ConnectNetwork puts a container into a network.
func (c *Client) ConnectNetwork(ctx context.Context, ref string, req network.ConnectRequest) error {
	return c.post(ctx, docker+"/networks/"+ref+"/connect", nil, req, nil)
}

// DisconnectNetwork takes a container out of a network.
func (c *Client) DisconnectNetwork(ctx context.Context, ref string, req network.DisconnectRequest) error {
	return c.post(ctx, docker+"/networks/"+ref+"/disconnect", nil, req, nil)
}
