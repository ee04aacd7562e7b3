package shim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/logs"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// errCut ends the output of a client that the shim has dropped.
var errCut = errors.New("output cut: the client was too slow or the shim was killed")

// stream is one attached client.
type stream struct {
	conn    *os.File
	out     [2]*io.PipeWriter // nil: not wanted
	readers [2]*io.PipeReader
	in      *stdin
	exited  func(wire.ExitMsg) // before the output ends; may be nil
	prelude func(*stream)      // writes what comes before the live output; may be nil
	done    chan struct{}
	once    sync.Once
}

func newStream(conn *os.File, s wire.Streams) *stream {
	st := &stream{conn: conn, done: make(chan struct{})}
	for i, want := range [2]bool{s.Stdout, s.Stderr} {
		if want {
			st.readers[i], st.out[i] = io.Pipe()
		}
	}
	if s.Stdin {
		st.in = &stdin{conn: conn, leave: st.close}
	}
	return st
}

func (st *stream) streams() *runtime.Streams {
	s := &runtime.Streams{Close: st.close}
	if st.in != nil {
		s.Stdin = st.in
	}
	if st.readers[0] != nil {
		s.Stdout = st.readers[0]
	}
	if st.readers[1] != nil {
		s.Stderr = st.readers[1]
	}
	return s
}

// run hands on the output until it ends.
func (st *stream) run() {
	defer close(st.done)
	if st.prelude != nil {
		st.prelude(st)
	}
	err := st.pump()
	st.conn.Close()
	for _, w := range st.out {
		if w != nil {
			w.CloseWithError(err)
		}
	}
}

func (st *stream) pump() error {
	r := bufio.NewReaderSize(st.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			if st.exited != nil {
				st.exited(wire.ExitMsg{Code: 137, Signal: 9, Error: errCut.Error()})
			}
			return errCut
		}
		switch f.Type {
		case wire.Data:
			if f.ID == wire.Stdout || f.ID == wire.Stderr {
				st.write(int(f.ID-wire.Stdout), f.Payload)
			}
		case wire.Exit:
			m, err := wire.DecodeExit(f.Payload)
			if st.exited != nil && err == nil {
				st.exited(m)
			}
			return nil // io.EOF
		}
	}
}

// write hands output to the reader. A reader that has been closed misses it.
func (st *stream) write(i int, p []byte) {
	if st.out[i] != nil {
		_, _ = st.out[i].Write(p)
	}
}

// close leaves; the process goes on.
func (st *stream) close() error {
	st.once.Do(func() {
		st.conn.Close()
		for _, r := range st.readers {
			if r != nil {
				r.Close()
			}
		}
	})
	return nil
}

// stdin writes to the process through the shim.
type stdin struct {
	conn  *os.File
	leave func() error
	keys  detacher

	mu     sync.Mutex
	closed bool
}

// Write blocks while the process does not read.
func (in *stdin) Write(p []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0, os.ErrClosed
	}
	rest, detach := in.keys.filter(p)
	for len(rest) > 0 {
		n := min(len(rest), 32<<10)
		if _, err := in.conn.Write(wire.Append(nil, wire.Data, wire.Stdin, rest[:n])); err != nil {
			return 0, fmt.Errorf("stdin: %w", err)
		}
		rest = rest[n:]
	}
	if detach {
		in.closed = true
		return len(p), in.leave()
	}
	return len(p), nil
}

// Close sends end of file.
func (in *stdin) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	in.closed = true
	_, err := in.conn.Write(wire.Append(nil, wire.EOF, wire.Stdin, nil))
	if errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// Attach connects to the container's streams; ctx bounds the connecting only.
// Before Run it shows the container's output from the first byte. Closing Stdin
// ends the container's input only when the Config says StdinOnce. Output that
// ends with another error than io.EOF is not complete.
func (c *Client) Attach(ctx context.Context, o runtime.AttachOptions) (*runtime.Streams, error) {
	conn, err := dial(c.dir)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	want := wire.Streams{Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr}
	f, err := exchange(ctx, conn, wire.Attach, wire.AttachMsg{Streams: want, Logs: o.Logs}.Encode())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("attach: %w", err)
	}
	at, err := wire.DecodeStarted(f.Payload)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("attach: %w", err)
	}
	st := newStream(conn, want)
	if st.in != nil {
		st.in.keys.sequence = o.DetachKeys
	}
	if o.Logs {
		st.prelude = func(st *stream) { replay(c.dir, at, st) }
	}
	go st.run()
	return st.streams(), nil
}

// replay writes what the log holds up to the moment of the attach.
func replay(dir string, at wire.StartedMsg, st *stream) {
	c, err := ReadConfig(dir)
	if err != nil || c.Log.Driver == "none" || at.Inode == 0 {
		return
	}
	_ = logs.ReadUntil(c.Log.Path, at.Inode, int64(at.Offset), func(e runtime.LogEntry) error {
		i := 0
		if e.Stream == "stderr" {
			i = 1
		}
		st.write(i, e.Line)
		return nil
	})
}
