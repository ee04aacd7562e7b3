package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// ListOptions of Containers.
type ListOptions struct {
	All     bool // also those that do not run
	Size    bool
	Limit   int // 0: no limit
	Filters Filters
}

func containerPath(ref, rest string) string { return docker + "/containers/" + ref + rest }

// Containers lists containers of the daemon's node, the newest first.
func (c *Client) Containers(ctx context.Context, opt ListOptions) ([]container.Summary, error) {
	var out []container.Summary
	err := c.get(ctx, docker+"/containers/json", opt.query(), &out)
	return out, err
}

// ContainersEverywhere lists the containers of all nodes, the newest first, and
// the nodes that did not answer.
func (c *Client) ContainersEverywhere(ctx context.Context, opt ListOptions) ([]api.Container, []api.Missing, error) {
	q := opt.query()
	q.Set("nodes", "all")
	resp, err := c.send(ctx, request{method: http.MethodGet, path: docker + "/containers/json", query: q})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	var out []api.Container
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return nil, nil, fmt.Errorf("read list of containers: %w", plain(ctx, err))
	}
	var missing []api.Missing
	if text := resp.Header.Get(api.MissingHeader); text != "" {
		if err := json.Unmarshal([]byte(text), &missing); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", api.MissingHeader, err)
		}
	}
	return out, missing, nil
}

func (opt ListOptions) query() url.Values {
	q := url.Values{}
	set(q, "all", opt.All)
	set(q, "size", opt.Size)
	if opt.Limit > 0 {
		q.Set("limit", strconv.Itoa(opt.Limit))
	}
	opt.Filters.add(q)
	return q
}

// CreateContainer makes a container from dhow's own noun; name may be "".
func (c *Client) CreateContainer(ctx context.Context, name string, spec stack.ContainerSpec) (api.CreateResponse, error) {
	q := url.Values{}
	setText(q, "name", name)
	var out api.CreateResponse
	err := c.post(ctx, "/dhow/v1/containers", q, api.CreateRequest{Spec: spec}, &out)
	return out, err
}

// Container describes one container.
func (c *Client) Container(ctx context.Context, ref string) (container.InspectResponse, error) {
	var out container.InspectResponse
	err := c.get(ctx, containerPath(ref, "/json"), nil, &out)
	return out, err
}

// ContainerJSON is Container with every field that the daemon sent.
func (c *Client) ContainerJSON(ctx context.Context, ref string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.get(ctx, containerPath(ref, "/json"), nil, &out)
	return out, err
}

// StartContainer starts a container; one that runs is left alone.
func (c *Client) StartContainer(ctx context.Context, ref string) error {
	return unmodified(c.post(ctx, containerPath(ref, "/start"), nil, nil, nil))
}

// unmodified drops the answer that there was nothing to do.
func unmodified(err error) error {
	if StatusOf(err) == http.StatusNotModified {
		return nil
	}
	return err
}

// StopContainer stops a container; signal "" and grace nil are its own.
func (c *Client) StopContainer(ctx context.Context, ref, signal string, grace *time.Duration) error {
	return unmodified(c.post(ctx, containerPath(ref, "/stop"), stopQuery(signal, grace), nil, nil))
}

// RestartContainer stops and starts a container.
func (c *Client) RestartContainer(ctx context.Context, ref, signal string, grace *time.Duration) error {
	return c.post(ctx, containerPath(ref, "/restart"), stopQuery(signal, grace), nil, nil)
}

func stopQuery(signal string, grace *time.Duration) url.Values {
	q := url.Values{}
	setText(q, "signal", signal)
	if grace != nil {
		q.Set("t", strconv.Itoa(int((*grace+time.Second-1)/time.Second)))
	}
	return q
}

// KillContainer sends a signal; "" is SIGKILL.
func (c *Client) KillContainer(ctx context.Context, ref, signal string) error {
	q := url.Values{}
	setText(q, "signal", signal)
	return c.post(ctx, containerPath(ref, "/kill"), q, nil, nil)
}

// PauseContainer freezes a container.
func (c *Client) PauseContainer(ctx context.Context, ref string) error {
	return c.post(ctx, containerPath(ref, "/pause"), nil, nil, nil)
}

// UnpauseContainer lets a frozen container go on.
func (c *Client) UnpauseContainer(ctx context.Context, ref string) error {
	return c.post(ctx, containerPath(ref, "/unpause"), nil, nil, nil)
}

// RenameContainer gives a container another name.
func (c *Client) RenameContainer(ctx context.Context, ref, name string) error {
	return c.post(ctx, containerPath(ref, "/rename"), url.Values{"name": {name}}, nil, nil)
}

// RemoveContainer removes a container.
func (c *Client) RemoveContainer(ctx context.Context, ref string, opt runtime.RemoveOptions) error {
	q := url.Values{}
	set(q, "force", opt.Force)
	set(q, "v", opt.Volumes)
	return c.delete(ctx, containerPath(ref, ""), q)
}

// PruneContainers removes stopped containers.
func (c *Client) PruneContainers(ctx context.Context, f Filters) (container.PruneReport, error) {
	q := url.Values{}
	f.add(q)
	var out container.PruneReport
	err := c.post(ctx, docker+"/containers/prune", q, nil, &out)
	return out, err
}

// Waited is the outcome of WaitContainer.
type Waited struct {
	Code int
	Err  error // why there is no code, or why the container could not run
}

// WaitContainer returns when the wait is registered; the channel then yields once.
func (c *Client) WaitContainer(ctx context.Context, ref string, cond runtime.WaitCondition) (<-chan Waited, error) {
	q := url.Values{}
	setText(q, "condition", string(cond))
	resp, err := c.send(ctx, request{method: http.MethodPost, path: containerPath(ref, "/wait"), query: q}) //nolint:bodyclose // the goroutine below closes it
	if err != nil {
		return nil, err
	}
	out := make(chan Waited, 1)
	go func() {
		defer resp.Body.Close() //nolint:errcheck // it is only read
		var w container.WaitResponse
		switch err := json.NewDecoder(resp.Body).Decode(&w); {
		case err != nil:
			out <- Waited{Code: -1, Err: plain(ctx, err)}
		case w.Error != nil:
			out <- Waited{Code: int(w.StatusCode), Err: errors.New(w.Error.Message)}
		default:
			out <- Waited{Code: int(w.StatusCode)}
		}
	}()
	return out, nil
}

// Top lists the processes of a container as ps with these arguments does.
func (c *Client) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	q := url.Values{}
	setText(q, "ps_args", psArgs)
	var out container.TopResponse
	err := c.get(ctx, containerPath(ref, "/top"), q, &out)
	return out, err
}

// Stats calls each with readings: one a second with stream, otherwise one.
func (c *Client) Stats(ctx context.Context, ref string, stream bool, each func(container.StatsResponse) error) error {
	q := url.Values{"stream": {strconv.FormatBool(stream)}}
	return lines(ctx, c, request{method: http.MethodGet, path: containerPath(ref, "/stats"), query: q}, each)
}

// ResizeContainer tells the size of the terminal.
func (c *Client) ResizeContainer(ctx context.Context, ref string, rows, cols uint16) error {
	return c.post(ctx, containerPath(ref, "/resize"), size(rows, cols), nil, nil)
}

func size(rows, cols uint16) url.Values {
	return url.Values{"h": {strconv.Itoa(int(rows))}, "w": {strconv.Itoa(int(cols))}}
}

const pathStatHeader = "X-Docker-Container-Path-Stat"

// StatPath describes a file in a container.
func (c *Client) StatPath(ctx context.Context, ref, path string) (container.PathStat, error) {
	resp, err := c.send(ctx, request{method: http.MethodHead, path: containerPath(ref, "/archive"), query: url.Values{"path": {path}}})
	if err != nil {
		return container.PathStat{}, err
	}
	return pathStat(resp), resp.Body.Close()
}

func pathStat(resp *http.Response) (st container.PathStat) {
	data, err := base64.StdEncoding.DecodeString(resp.Header.Get(pathStatHeader))
	if err == nil {
		_ = json.Unmarshal(data, &st) // a daemon that sends nonsense describes nothing
	}
	return st
}

// CopyFrom returns a tar of a path in a container.
func (c *Client) CopyFrom(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: containerPath(ref, "/archive"), query: url.Values{"path": {path}}})
	if err != nil {
		return nil, container.PathStat{}, err
	}
	return resp.Body, pathStat(resp), nil
}

// CopyTo unpacks a tar into a directory of a container.
func (c *Client) CopyTo(ctx context.Context, ref, path string, tar io.Reader, noOverwriteDirNonDir bool) error {
	q := url.Values{"path": {path}}
	set(q, "noOverwriteDirNonDir", noOverwriteDirNonDir)
	err := c.call(ctx, request{method: http.MethodPut, path: containerPath(ref, "/archive"), query: q, body: tar}, nil)
	if err != nil {
		return fmt.Errorf("copy to %s:%s: %w", ref, path, err)
	}
	return nil
}
