package shim

import (
	"context"
	"errors"
	"syscall"

	"github.com/dhow-project/dhow/runtime"
)

var errStub = errors.New("shim: not built yet")

// Client talks to one shim.
type Client struct{}

func Launch(ctx context.Context, binary string, c Config) (*Client, error) { return nil, errStub }
func Connect(ctx context.Context, dir string) (*Client, error)             { return nil, errStub }
func ReadExit(dir string) (Exit, error)                                    { return Exit{}, errStub }
func ReadConfig(dir string) (Config, error)                                { return Config{}, errStub }
func Cleanup(ctx context.Context, dir string) (Exit, error)                { return Exit{}, errStub }

func (c *Client) Run(ctx context.Context) (pid int, err error)                 { return 0, errStub }
func (c *Client) State(ctx context.Context) (State, error)                     { return State{}, errStub }
func (c *Client) Wait() <-chan Exit                                            { return nil }
func (c *Client) Kill(ctx context.Context, sig syscall.Signal, all bool) error { return errStub }
func (c *Client) CloseStdin(ctx context.Context) error                         { return errStub }
func (c *Client) Resize(ctx context.Context, rows, cols uint16) error          { return errStub }
func (c *Client) Pause(ctx context.Context) error                              { return errStub }
func (c *Client) Resume(ctx context.Context) error                             { return errStub }
func (c *Client) Update(ctx context.Context, linuxResourcesJSON []byte) error  { return errStub }
func (c *Client) Close() error                                                 { return errStub }
func (c *Client) Attach(ctx context.Context, o runtime.AttachOptions) (*runtime.Streams, error) {
	return nil, errStub
}
func (c *Client) Exec(ctx context.Context, e ExecConfig) (*ExecSession, error) { return nil, errStub }

// ExecSession is a running exec. Its Streams end after Wait has its answer.
type ExecSession struct {
	*runtime.Streams
	Pid int
}

// Wait delivers one ExecExit; closed after it.
func (s *ExecSession) Wait() <-chan ExecExit                               { return nil }
func (s *ExecSession) Resize(ctx context.Context, rows, cols uint16) error { return errStub }
func (s *ExecSession) Kill(ctx context.Context, sig syscall.Signal) error  { return errStub }
