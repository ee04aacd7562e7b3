package shim

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// Client talks to one shim over a control connection. It is safe for
// concurrent use; Close it when done. The shim does not mind.
type Client struct {
	dir  string
	conn *os.File
	pid  int           // of the shim when it is our child, else 0
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	next    uint32
	pending map[uint32]chan wire.Frame
	waiters []chan Exit
	exit    *Exit // nil until the container has ended
	ended   bool  // no more answers
	closed  bool  // by Close
}

func newClient(dir string, conn *os.File, pid int) *Client {
	c := &Client{dir: dir, conn: conn, pid: pid, done: make(chan struct{}), pending: map[uint32]chan wire.Frame{}}
	go c.read()
	return c
}

// Connect finds the shim of dir again. ErrNotFound means that it is gone:
// ReadExit tells how the container ended, or Cleanup is due.
func Connect(ctx context.Context, dir string) (*Client, error) {
	conn, err := dial(dir)
	if err != nil {
		return nil, err
	}
	c := newClient(dir, conn, 0)
	if _, err := c.State(ctx); err != nil {
		c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("the shim is gone: %w: %w", runtime.ErrNotFound, err)
	}
	return c, nil
}

// read hands out answers until the connection ends.
func (c *Client) read() {
	r := bufio.NewReaderSize(c.conn, 512)
	for {
		f, err := readFrame(r)
		if err != nil {
			break
		}
		if f.Type == wire.Exit {
			if m, err := wire.DecodeExit(f.Payload); err == nil {
				c.finish(exitOf(m))
			}
			continue
		}
		c.mu.Lock()
		ch := c.pending[f.ID]
		delete(c.pending, f.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- f
		}
	}
	c.disconnected()
	close(c.done)
}

// finish tells everybody the exit, once.
func (c *Client) finish(x Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit != nil {
		return
	}
	c.exit = &x
	for _, w := range c.waiters {
		w <- x
		close(w)
	}
	c.waiters = nil
}

// disconnected ends the requests under way and finds out why.
func (c *Client) disconnected() {
	c.mu.Lock()
	c.ended = true
	for id, ch := range c.pending {
		delete(c.pending, id)
		close(ch)
	}
	known, closed := c.exit != nil, c.closed
	c.mu.Unlock()
	if !closed && !known {
		x, err := ReadExit(c.dir)
		if err != nil {
			x = Exit{Code: 137, Signal: 9, At: time.Now().UTC(), Error: "the shim was killed", Lost: true}
		}
		c.finish(x)
	}
	if c.pid != 0 {
		abandon(c.pid)
	}
}

// Close ends the connection. Channels of Wait that have not delivered are
// closed.
func (c *Client) Close() error {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	for _, w := range c.waiters {
		close(w)
	}
	c.waiters = nil
	c.mu.Unlock()
	if already {
		return nil
	}
	err := c.conn.Close()
	<-c.done
	return err
}

// Wait delivers the exit once the container has ended and exit.json is on disk.
// Each call has a channel of its own, which is closed afterwards. An Exit that
// is Lost means that the shim was killed: call Cleanup.
func (c *Client) Wait() <-chan Exit {
	ch := make(chan Exit, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.exit != nil:
		ch <- *c.exit
		close(ch)
	case c.closed:
		close(ch)
	default:
		c.waiters = append(c.waiters, ch)
	}
	return ch
}

// request sends a request and waits for the answer.
func (c *Client) request(ctx context.Context, t wire.Type, payload []byte) (wire.Frame, error) {
	ch := make(chan wire.Frame, 1)
	c.mu.Lock()
	if c.ended || c.closed {
		c.mu.Unlock()
		return wire.Frame{}, fmt.Errorf("the shim is gone: %w", runtime.ErrNotRunning)
	}
	c.next++
	id := c.next
	c.pending[id] = ch
	_, err := c.conn.Write(wire.Append(nil, t, id, payload))
	c.mu.Unlock()
	if err != nil {
		c.forget(id)
		return wire.Frame{}, fmt.Errorf("the shim is gone: %w", runtime.ErrNotRunning)
	}
	select {
	case <-ctx.Done():
		c.forget(id)
		return wire.Frame{}, ctx.Err()
	case f, ok := <-ch:
		if !ok {
			return f, fmt.Errorf("the shim is gone: %w", runtime.ErrNotRunning)
		}
		return f, answerError(f)
	}
}

func (c *Client) forget(id uint32) {
	c.mu.Lock()
	delete(c.pending, id)
	c.mu.Unlock()
}

// Run starts the container, once. When the runtime refuses, the error is a
// *RuntimeError, exit.json is written and the shim ends.
func (c *Client) Run(ctx context.Context) (pid int, err error) {
	f, err := c.request(ctx, wire.Run, nil)
	if err != nil {
		return 0, err
	}
	m, err := wire.DecodeStarted(f.Payload)
	return int(m.Pid), err
}

// State asks the shim how the container is.
func (c *Client) State(ctx context.Context) (State, error) {
	f, err := c.request(ctx, wire.GetState, nil)
	if err != nil {
		return State{}, err
	}
	m, err := wire.DecodeState(f.Payload)
	phase := [...]string{"created", "starting", "running", "exited"}[min(m.Phase, wire.PhaseExited)]
	return State{Phase: phase, Pid: int(m.Pid), ShimPid: int(m.ShimPid), StartedAt: m.StartedAt,
		Paused: m.Paused, Dropped: m.Dropped, Execs: int(m.Execs)}, err
}

// Kill sends sig to the container's first process, or to all its processes.
func (c *Client) Kill(ctx context.Context, sig syscall.Signal, all bool) error {
	_, err := c.request(ctx, wire.Signal, wire.SignalMsg{Signal: uint64(sig), All: all}.Encode())
	return err
}

// CloseStdin ends the container's standard input.
func (c *Client) CloseStdin(ctx context.Context) error {
	_, err := c.request(ctx, wire.CloseStdin, nil)
	return err
}

// Resize sets the size of the container's terminal; before Run, its first size.
func (c *Client) Resize(ctx context.Context, rows, cols uint16) error {
	return c.resize(ctx, "", rows, cols)
}

func (c *Client) resize(ctx context.Context, exec string, rows, cols uint16) error {
	_, err := c.request(ctx, wire.Resize, wire.ResizeMsg{Exec: exec, Rows: uint64(rows), Cols: uint64(cols)}.Encode())
	return err
}

// Pause freezes all processes of the container.
func (c *Client) Pause(ctx context.Context) error { return c.command(ctx, wire.Pause, "") }

// Resume thaws them.
func (c *Client) Resume(ctx context.Context) error { return c.command(ctx, wire.Resume, "") }

// Update sets the limits of the running container: OCI linux.resources, JSON.
func (c *Client) Update(ctx context.Context, linuxResourcesJSON []byte) error {
	path, err := tempFile(c.dir, "resources-*.json", linuxResourcesJSON)
	if err != nil {
		return err
	}
	defer os.Remove(path) // when the shim has not
	return c.command(ctx, wire.Update, path)
}

func (c *Client) command(ctx context.Context, verb uint64, path string) error {
	_, err := c.request(ctx, wire.Command, wire.CommandMsg{Verb: verb, Path: path}.Encode())
	return err
}

func tempFile(dir, pattern string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
