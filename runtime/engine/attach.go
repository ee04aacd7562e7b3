package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim"
)

// Attach connects to the container's standard streams. A container that does
// not run yet can be attached to as well: the streams come to life between the
// start of its shim and that of its process, so that no byte is missed.
func (e *Engine) Attach(ctx context.Context, ref string, opt runtime.AttachOptions) (*runtime.Streams, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	opt.Stdin = opt.Stdin && c.rec.Spec.OpenStdin
	r, tty := c.run, c.rec.Spec.TTY
	var l *lateStreams
	if r == nil && !c.gone {
		l = newLateStreams(opt)
		c.late = append(c.late, l)
	}
	c.mu.Unlock()
	if l == nil && r == nil {
		return nil, fmt.Errorf("attach to container %s: %w", ref, runtime.ErrNotFound)
	}
	defer e.publish(c, "attach")
	if l != nil {
		context.AfterFunc(ctx, func() { c.dropLate(l) })
		return l.streams(tty), nil
	}
	s, err := r.client.Attach(ctx, opt)
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", c.name(), err)
	}
	return s, nil
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, rows, cols uint16) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	r, _ := c.current()
	if r == nil {
		return fmt.Errorf("resize container %s: %w", c.name(), runtime.ErrNotRunning)
	}
	if err := r.client.Resize(ctx, rows, cols); err != nil {
		return fmt.Errorf("resize container %s: %w", c.name(), err)
	}
	e.publish(c, "resize", "height", fmt.Sprint(rows), "width", fmt.Sprint(cols))
	return nil
}

// lateStreams are streams of a process that does not exist yet: reads and
// writes wait until they are connected, or fail.
type lateStreams struct {
	opt   runtime.AttachOptions
	ready chan struct{} // closed once real or err is set
	once  sync.Once
	real  *runtime.Streams
	err   error
	left  chan struct{} // closed by Close
	leave sync.Once

	launched chan struct{} // closed when the start has come to its end, well or not
	failed   bool          // it went wrong; set before launched is closed
}

var errNeverStarted = errors.New("the container did not start")

func newLateStreams(opt runtime.AttachOptions) *lateStreams {
	return &lateStreams{opt: opt, ready: make(chan struct{}), left: make(chan struct{}), launched: make(chan struct{})}
}

// connect joins the streams to the shim's. The attachment outlives ctx.
func (l *lateStreams) connect(ctx context.Context, client *shim.Client) {
	l.once.Do(func() {
		defer close(l.ready)
		select {
		case <-l.left:
			l.err = io.ErrClosedPipe
			return
		default:
		}
		l.real, l.err = client.Attach(context.WithoutCancel(ctx), l.opt)
		if l.err != nil {
			return
		}
		go func() { // whoever leaves while we connect
			<-l.left
			_ = l.real.Close()
		}()
	})
}

// settle tells how the start came out.
func (l *lateStreams) settle(err error) {
	l.failed = err != nil
	close(l.launched)
}

func (l *lateStreams) fail() {
	l.once.Do(func() {
		l.err = errNeverStarted
		close(l.ready)
	})
}

func (l *lateStreams) Close() error {
	l.leave.Do(func() { close(l.left) })
	return nil
}

// wait returns the real streams once there are any.
func (l *lateStreams) wait() (*runtime.Streams, error) {
	select {
	case <-l.ready:
		return l.real, l.err
	case <-l.left:
		return nil, io.ErrClosedPipe
	}
}

func (l *lateStreams) streams(tty bool) *runtime.Streams {
	s := &runtime.Streams{Close: l.Close}
	if l.opt.Stdin {
		s.Stdin = lateWriter{l}
	}
	if l.opt.Stdout || (tty && l.opt.Stderr) {
		s.Stdout = lateReader{l, func(s *runtime.Streams) io.Reader { return s.Stdout }}
	}
	if l.opt.Stderr && !tty {
		s.Stderr = lateReader{l, func(s *runtime.Streams) io.Reader { return s.Stderr }}
	}
	return s
}

type lateReader struct {
	l    *lateStreams
	pick func(*runtime.Streams) io.Reader
}

func (r lateReader) Read(p []byte) (int, error) {
	s, err := r.l.wait()
	if err != nil {
		return 0, io.EOF
	}
	real := r.pick(s)
	if real == nil {
		return 0, io.EOF
	}
	n, err := real.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		// A start that went wrong ends the output; nothing of it was lost.
		select {
		case <-r.l.launched:
			if r.l.failed {
				err = io.EOF
			}
		case <-r.l.left:
		}
	}
	return n, err
}

type lateWriter struct{ l *lateStreams }

func (w lateWriter) Write(p []byte) (int, error) {
	s, err := w.l.wait()
	if err != nil {
		return 0, err
	}
	if s.Stdin == nil {
		return 0, io.ErrClosedPipe
	}
	return s.Stdin.Write(p)
}

func (w lateWriter) Close() error {
	s, err := w.l.wait()
	if err != nil || s.Stdin == nil {
		return nil //nolint:nilerr // what never started has no input to end
	}
	return s.Stdin.Close()
}

func (c *container) dropLate(l *lateStreams) {
	_ = l.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, x := range c.late {
		if x == l {
			c.late = append(c.late[:i], c.late[i+1:]...)
			return
		}
	}
}
