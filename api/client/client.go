package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/api"
	"github.com/dhow-project/dhow/stack"
)

// DefaultHost is where the daemon listens unless told otherwise.
const DefaultHost = "unix:///run/dhow/dhow.sock"

// docker is the prefix of the Docker endpoints.
const docker = "/v" + api.DockerVersion

// Client is a connection to one daemon. It is safe for concurrent use.
type Client struct {
	host string
	path string // of the socket
	http *http.Client
}

// Dial prepares a client for host: "unix:///run/dhow/dhow.sock" or an absolute
// path; "" is DefaultHost. Nothing is connected yet.
func Dial(host string) (*Client, error) {
	if host == "" {
		host = DefaultHost
	}
	path := host
	if scheme, rest, found := strings.Cut(host, "://"); found {
		if scheme != "unix" {
			return nil, fmt.Errorf("host %s: %s is not supported: give unix:///path/to/dhow.sock", host, scheme)
		}
		path = rest
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("host %s: the path of the socket must be absolute", host)
	}
	c := &Client{host: host, path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}}
	return c, nil
}

// Host is what Dial was given.
func (c *Client) Host() string { return c.host }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	if err != nil && ctx.Err() == nil {
		return nil, &Unreachable{Path: c.path, Err: err}
	}
	return conn, err
}

// Error is what the daemon said when it refused.
type Error struct {
	Status   int // of HTTP
	Message  string
	Problems stack.Problems // of a stack that was sent; mostly none
}

func (e *Error) Error() string { return e.Message }

// IsNotFound reports whether err is the daemon's word that something does not exist.
func IsNotFound(err error) bool { return StatusOf(err) == http.StatusNotFound }

// IsConflict reports whether err is the daemon's word that the state does not allow it.
func IsConflict(err error) bool { return StatusOf(err) == http.StatusConflict }

// IsUnavailable reports whether err is the daemon's word that something cannot
// be reached at the moment: another node, or the cluster's leader.
func IsUnavailable(err error) bool { return StatusOf(err) == http.StatusServiceUnavailable }

// StatusOf is the HTTP status of err, 0 when the daemon did not say it.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Unreachable is the error when nobody answers on the socket.
type Unreachable struct {
	Path string
	Err  error
}

func (e *Unreachable) Error() string {
	switch {
	case errors.Is(e.Err, syscall.ENOENT):
		return fmt.Sprintf("no socket at %s: `dhow daemon` is not running there", e.Path)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nobody answers on %s: `dhow daemon` is not running", e.Path)
	case errors.Is(e.Err, syscall.EACCES), errors.Is(e.Err, syscall.EPERM):
		return fmt.Sprintf("no permission to use %s: run as root or join the group dhow", e.Path)
	}
	return fmt.Sprintf("connect to %s: %v", e.Path, e.Err)
}

// Unwrap gives the error of the connection.
func (e *Unreachable) Unwrap() error { return e.Err }

// Cut is the error when the daemon ended while it was answering. It does not
// wrap the error of the connection: io.EOF means a good end to many.
type Cut struct{ Err error }

func (e *Cut) Error() string { return "the daemon ended before it had answered" }

// Filters narrow lists: values by key.
type Filters map[string][]string

func (f Filters) add(q url.Values) {
	if len(f) == 0 {
		return
	}
	sets := map[string]map[string]bool{}
	for key, values := range f {
		sets[key] = map[string]bool{}
		for _, v := range values {
			sets[key][v] = true
		}
	}
	data, _ := json.Marshal(sets) // plain data
	q.Set("filters", string(data))
}

// request is one call.
type request struct {
	method, path string
	query        url.Values
	body         any // io.Reader, or a value for JSON, or nil
	header       http.Header
}

// send returns the answer when it is a success; the caller closes its body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.build(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, plain(ctx, err)
	}
	if err := check(resp); err != nil {
		return nil, err
	}
	return resp, nil
}

func (c *Client) build(ctx context.Context, r request) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "dhow", Path: r.path, RawQuery: r.query.Encode()}
	var body io.Reader
	header := r.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
		header.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header = header
	return req, nil
}

// plain takes net/http's wrapping off: its URL says nothing to a person.
func plain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var gone *Unreachable
	if errors.As(err, &gone) {
		return gone
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return &Cut{Err: err}
	}
	return err
}

// maxError bounds the body of an error.
const maxError = 1 << 20

// check turns an answer that is not a success into an *Error and closes it.
func check(resp *http.Response) error {
	if resp.StatusCode < 300 {
		return nil
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	var said api.Error
	if json.Unmarshal(data, &said) != nil || said.Message == "" {
		said.Message = strings.TrimSpace(string(data))
	}
	if said.Message == "" {
		said.Message = strings.ToLower(http.StatusText(resp.StatusCode))
	}
	return &Error{Status: resp.StatusCode, Message: said.Message, Problems: said.Problems}
}

// call sends a request and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, r request, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	if out == nil {
		if _, err = io.Copy(io.Discard, resp.Body); err != nil {
			return plain(ctx, err)
		}
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", r.method, r.path, plain(ctx, err))
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, request{method: http.MethodGet, path: path, query: query}, out)
}

func (c *Client) post(ctx context.Context, path string, query url.Values, body, out any) error {
	return c.call(ctx, request{method: http.MethodPost, path: path, query: query, body: body}, out)
}

func (c *Client) delete(ctx context.Context, path string, query url.Values) error {
	return c.call(ctx, request{method: http.MethodDelete, path: path, query: query}, nil)
}

// lines decodes a stream of JSON values until it ends, ctx is done or each fails.
func lines[T any](ctx context.Context, c *Client, r request, each func(T) error) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	dec := json.NewDecoder(resp.Body)
	for {
		var v T
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return plain(ctx, err)
		}
		if err := each(v); err != nil {
			return err
		}
	}
}

func set(q url.Values, key string, on bool) {
	if on {
		q.Set(key, "1")
	}
}

func setText(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func setTime(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()))
	}
}
