package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/moby/moby/api/types/system"

	"github.com/dhow-project/dhow/api"
)

// Ping reports whether a daemon answers.
func (c *Client) Ping(ctx context.Context) error {
	resp, err := c.send(ctx, request{method: http.MethodHead, path: "/_ping"})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Version tells the daemon's versions.
func (c *Client) Version(ctx context.Context) (system.VersionResponse, error) {
	var out system.VersionResponse
	err := c.get(ctx, docker+"/version", nil, &out)
	return out, err
}

// Info tells about the daemon and its machine.
func (c *Client) Info(ctx context.Context) (system.Info, error) {
	var out system.Info
	err := c.get(ctx, docker+"/info", nil, &out)
	return out, err
}

// System tells what Docker has no word for.
func (c *Client) System(ctx context.Context) (api.System, error) {
	var out api.System
	err := c.get(ctx, "/dhow/v1/system", nil, &out)
	return out, err
}

// DiskUsage tells where the space goes; types narrow it to "container", "image" or "volume".
func (c *Client) DiskUsage(ctx context.Context, types ...string) (api.DiskUsage, error) {
	var out api.DiskUsage
	err := c.get(ctx, docker+"/system/df", url.Values{"type": types}, &out)
	return out, err
}

// Events calls each with what happens, from since (zero: now) until until (zero: without end).
func (c *Client) Events(ctx context.Context, since, until time.Time, f Filters, each func(api.EventMessage) error) error {
	q := url.Values{}
	setTime(q, "since", since)
	setTime(q, "until", until)
	f.add(q)
	return lines(ctx, c, request{method: http.MethodGet, path: docker + "/events", query: q}, each)
}

// EventsOf is Events of another node: by ID or hostname.
func (c *Client) EventsOf(ctx context.Context, node string, since, until time.Time, f Filters, each func(api.EventMessage) error) error {
	q := url.Values{}
	setTime(q, "since", since)
	setTime(q, "until", until)
	f.add(q)
	header := http.Header{api.NodeHeader: {node}}
	return lines(ctx, c, request{method: http.MethodGet, path: docker + "/events", query: q, header: header}, each)
}
