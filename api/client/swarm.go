package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/api"
)

// InitSwarm opens the node's cluster to others and returns the node's ID.
func (c *Client) InitSwarm(ctx context.Context, req swarm.InitRequest) (string, error) {
	var id string
	err := c.post(ctx, docker+"/swarm/init", nil, req, &id)
	return id, err
}

// JoinSwarm makes the node part of another's cluster.
func (c *Client) JoinSwarm(ctx context.Context, req swarm.JoinRequest) error {
	return c.post(ctx, docker+"/swarm/join", nil, req, nil)
}

// LeaveSwarm takes the node out of its cluster.
func (c *Client) LeaveSwarm(ctx context.Context, force bool) error {
	q := url.Values{}
	set(q, "force", force)
	return c.post(ctx, docker+"/swarm/leave", q, nil, nil)
}

// Swarm describes the cluster, with its join tokens.
func (c *Client) Swarm(ctx context.Context) (swarm.Swarm, error) {
	var out swarm.Swarm
	err := c.get(ctx, docker+"/swarm", nil, &out)
	return out, err
}

// SwarmUpdate says what UpdateSwarm does beside replacing the settings.
type SwarmUpdate struct{ RotateWorkerToken, RotateManagerToken bool }

// UpdateSwarm replaces the settings of the cluster as it was at version.
func (c *Client) UpdateSwarm(ctx context.Context, version uint64, spec swarm.Spec, u SwarmUpdate) error {
	q := url.Values{"version": {strconv.FormatUint(version, 10)}}
	set(q, "rotateWorkerToken", u.RotateWorkerToken)
	set(q, "rotateManagerToken", u.RotateManagerToken)
	return c.post(ctx, docker+"/swarm/update", q, spec, nil)
}

// SaveSnapshot writes a snapshot of the cluster's state.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer, how Reading) error {
	q := url.Values{}
	how.add(q)
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/dhow/v1/swarm/snapshot", query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	if _, err = io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read snapshot: %w", plain(ctx, err))
	}
	return nil
}

// RestoreSnapshot replaces the cluster's state by a saved one.
func (c *Client) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	return c.call(ctx, request{method: http.MethodPut, path: "/dhow/v1/swarm/snapshot", body: r}, nil)
}

// InspectSnapshot describes a saved snapshot.
func (c *Client) InspectSnapshot(ctx context.Context, r io.Reader) (api.SnapshotInfo, error) {
	var out api.SnapshotInfo
	err := c.post(ctx, "/dhow/v1/swarm/snapshot/inspect", nil, r, &out)
	return out, err
}

// Reading says how current an answer has to be.
type Reading struct {
	Stale bool // from a manager's own copy, also while there is no leader
}

func (r Reading) add(q url.Values) {
	if r.Stale {
		q.Set("consistency", "stale")
	}
}

// Peers lists all nodes as the daemon's node knows them, without asking others.
func (c *Client) Peers(ctx context.Context) ([]api.Peer, error) {
	var out []api.Peer
	err := c.get(ctx, "/dhow/v1/peers", nil, &out)
	return out, err
}

// Nodes lists the nodes of the cluster.
func (c *Client) Nodes(ctx context.Context, f Filters, how Reading) ([]api.Node, error) {
	return listOf[api.Node](ctx, c, "/nodes", f, how)
}

func nodePath(ref, rest string) string { return docker + "/nodes/" + ref + rest }

// Node describes a node: by ID, its unique beginning, or hostname.
func (c *Client) Node(ctx context.Context, ref string, how Reading) (api.Node, error) {
	q := url.Values{}
	how.add(q)
	var out api.Node
	err := c.get(ctx, nodePath(ref, ""), q, &out)
	return out, err
}

// NodeJSON is Node with every field that the daemon sent.
func (c *Client) NodeJSON(ctx context.Context, ref string, how Reading) (json.RawMessage, error) {
	q := url.Values{}
	how.add(q)
	var out json.RawMessage
	err := c.get(ctx, nodePath(ref, ""), q, &out)
	return out, err
}

// UpdateNode replaces what people decide about a node as it was at version.
func (c *Client) UpdateNode(ctx context.Context, id string, version uint64, spec swarm.NodeSpec) error {
	return c.post(ctx, nodePath(id, "/update"), url.Values{"version": {strconv.FormatUint(version, 10)}}, spec, nil)
}

// RemoveNode removes a node that is down, or with force any.
func (c *Client) RemoveNode(ctx context.Context, ref string, force bool) error {
	q := url.Values{}
	set(q, "force", force)
	return c.delete(ctx, nodePath(ref, ""), q)
}

// Tasks lists the tasks of all stacks, the newest first.
func (c *Client) Tasks(ctx context.Context, f Filters, how Reading) ([]swarm.Task, error) {
	return listOf[swarm.Task](ctx, c, "/tasks", f, how)
}

// Services lists the services of all stacks.
func (c *Client) Services(ctx context.Context, f Filters, how Reading) ([]swarm.Service, error) {
	return listOf[swarm.Service](ctx, c, "/services", f, how)
}

func listOf[T any](ctx context.Context, c *Client, path string, f Filters, how Reading) ([]T, error) {
	q := url.Values{}
	f.add(q)
	how.add(q)
	var out []T
	err := c.get(ctx, docker+path, q, &out)
	return out, err
}
