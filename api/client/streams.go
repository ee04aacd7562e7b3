package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

// rawStream is the content type of a process with a terminal.
const rawStream = "application/vnd.docker.raw-stream"

// Stream is a live connection to the standard streams of a process.
type Stream struct {
	TTY  bool // output is not multiplexed
	conn net.Conn
	r    *bufio.Reader
}

// Write sends input.
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite ends the input; output goes on.
func (s *Stream) CloseWrite() error {
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close leaves; the process goes on.
func (s *Stream) Close() error { return s.conn.Close() }

// Output copies output until it ends: then the process has ended and its exit
// code is final. With a terminal everything goes to stdout.
func (s *Stream) Output(stdout, stderr io.Writer) error {
	var err error
	if s.TTY {
		_, err = io.Copy(stdout, s.r)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, s.r)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// hijack sends a request and keeps the connection as a stream.
func (c *Client) hijack(ctx context.Context, r request) (*Stream, error) {
	req, err := c.build(ctx, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	// Until the answer is there, ctx cuts the connection; later Close does.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(plain(ctx, err), conn.Close())
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, errors.Join(plain(ctx, err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		err := check(resp)
		if err == nil {
			err = fmt.Errorf("the daemon answered %s instead of a stream", resp.Status)
		}
		return nil, errors.Join(err, conn.Close())
	}
	return &Stream{conn: conn, r: br, TTY: resp.Header.Get("Content-Type") == rawStream}, nil
}

// Attach connects to a container, which need not have been started: what it
// prints from its first byte on comes here.
func (c *Client) Attach(ctx context.Context, ref string, opt runtime.AttachOptions) (*Stream, error) {
	q := url.Values{"stream": {"1"}}
	set(q, "stdin", opt.Stdin)
	set(q, "stdout", opt.Stdout)
	set(q, "stderr", opt.Stderr)
	set(q, "logs", opt.Logs)
	setText(q, "detachKeys", keysText(opt.DetachKeys))
	return c.hijack(ctx, request{method: http.MethodPost, path: containerPath(ref, "/attach"), query: q})
}

// keysText is the reverse of what the daemon reads: "ctrl-p,ctrl-q".
func keysText(keys []byte) string {
	text := ""
	for i, k := range keys {
		if i > 0 {
			text += ","
		}
		switch {
		case k >= 1 && k <= 26:
			text += "ctrl-" + string(rune('a'+k-1))
		case k == 0:
			text += "ctrl-@"
		case k < 32:
			text += "ctrl-" + string(rune('['+k-27))
		default:
			text += string(rune(k))
		}
	}
	return text
}

// Logs writes what a container printed; with a terminal all of it to stdout.
// It returns when there is no more, or with Follow when the container has stopped.
func (c *Client) Logs(ctx context.Context, ref string, opt runtime.LogOptions, timestamps bool, stdout, stderr io.Writer) error {
	q := url.Values{}
	set(q, "stdout", opt.Stdout)
	set(q, "stderr", opt.Stderr)
	set(q, "follow", opt.Follow)
	set(q, "timestamps", timestamps)
	setTime(q, "since", opt.Since)
	setTime(q, "until", opt.Until)
	if opt.Tail >= 0 {
		q.Set("tail", strconv.Itoa(opt.Tail))
	}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: containerPath(ref, "/logs"), query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	if resp.Header.Get("Content-Type") == rawStream {
		_, err = io.Copy(stdout, resp.Body)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, resp.Body)
	}
	if err != nil {
		return plain(ctx, err)
	}
	return nil
}

func execPath(id, rest string) string { return docker + "/exec/" + id + rest }

// ExecCreate prepares a further process in a container.
func (c *Client) ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	var out container.ExecCreateResponse
	err := c.post(ctx, containerPath(ref, "/exec"), nil, req, &out)
	return out.ID, err
}

// ExecStart starts it and connects to its streams.
func (c *Client) ExecStart(ctx context.Context, id string, req container.ExecStartRequest) (*Stream, error) {
	req.Detach = false
	return c.hijack(ctx, request{method: http.MethodPost, path: execPath(id, "/start"), body: req})
}

// ExecDetached starts it and leaves it alone.
func (c *Client) ExecDetached(ctx context.Context, id string) error {
	return c.post(ctx, execPath(id, "/start"), nil, container.ExecStartRequest{Detach: true}, nil)
}

// ExecInspect tells how it is doing; the exit code is nil while it runs.
func (c *Client) ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	var out container.ExecInspectResponse
	err := c.get(ctx, execPath(id, "/json"), nil, &out)
	return out, err
}

// ExecResize tells the size of its terminal.
func (c *Client) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	return c.post(ctx, execPath(id, "/resize"), size(rows, cols), nil, nil)
}
