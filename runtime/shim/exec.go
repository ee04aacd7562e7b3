package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// ExecSession is one further process in the container. Its exit is final
// before its output ends.
type ExecSession struct {
	*runtime.Streams
	Pid int

	id     string
	client *Client
	exit   chan ExecExit
}

// Exec starts a process. A refusal of the runtime is a *RuntimeError, whose
// Code is 126 or 127 where Docker has these. ctx bounds the start only; the
// process ends with the container, not with the session.
func (c *Client) Exec(ctx context.Context, e ExecConfig) (*ExecSession, error) {
	s, err := c.exec(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	return s, nil
}

func (c *Client) exec(ctx context.Context, e ExecConfig) (*ExecSession, error) {
	file, err := tempFile(c.dir, "exec-*.json", e.Process)
	if err != nil {
		return nil, err
	}
	conn, err := dial(c.dir)
	if err != nil {
		os.Remove(file)
		return nil, err
	}
	want := wire.Streams{Stdin: e.Stdin, Stdout: e.Stdout, Stderr: e.Stderr && !e.TTY}
	m := wire.ExecMsg{ID: e.ID, File: file, Streams: want, TTY: e.TTY, Rows: uint64(e.Rows), Cols: uint64(e.Cols)}
	f, err := exchange(ctx, conn, wire.Exec, m.Encode())
	var started wire.StartedMsg
	if err == nil {
		started, err = wire.DecodeStarted(f.Payload)
	}
	if err != nil {
		conn.Close()
		os.Remove(file)
		return nil, err
	}
	s := &ExecSession{Pid: int(started.Pid), id: e.ID, client: c, exit: make(chan ExecExit, 1)}
	st := newStream(conn, want)
	st.exited = s.exited
	s.Streams = st.streams()
	go st.run()
	return s, nil
}

// Rejoin finds an exec again by its ID, also one that has just ended: it has no
// streams, but delivers the exit. ErrNotRunning means that the shim does not
// know it.
func (c *Client) Rejoin(ctx context.Context, exec string) (*ExecSession, error) {
	conn, err := dial(c.dir)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	f, err := exchange(ctx, conn, wire.Rejoin, wire.RejoinMsg{Exec: exec}.Encode())
	var started wire.StartedMsg
	if err == nil {
		started, err = wire.DecodeStarted(f.Payload)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("exec: %w", err)
	}
	s := &ExecSession{Pid: int(started.Pid), id: exec, client: c, exit: make(chan ExecExit, 1)}
	st := newStream(conn, wire.Streams{})
	st.exited = s.exited
	s.Streams = st.streams()
	go st.run()
	return s, nil
}

func (s *ExecSession) exited(m wire.ExitMsg) {
	x := ExecExit{Code: int(m.Code), Lost: m.Error == errCut.Error()}
	if m.Error != "" {
		x.Err = errors.New(m.Error)
	}
	s.exit <- x
	close(s.exit)
}

// Wait delivers the exit. It is one channel for all callers: the first takes
// the value, the others see it closed.
func (s *ExecSession) Wait() <-chan ExecExit { return s.exit }

// Resize sets the size of its terminal.
func (s *ExecSession) Resize(ctx context.Context, rows, cols uint16) error {
	return s.client.resize(ctx, s.id, rows, cols)
}

// Kill sends it a signal.
func (s *ExecSession) Kill(ctx context.Context, sig syscall.Signal) error {
	_, err := s.client.request(ctx, wire.Signal, wire.SignalMsg{Exec: s.id, Signal: uint64(sig)}.Encode())
	return err
}
