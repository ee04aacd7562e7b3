package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/dhow-project/dhow/runtime"
)

func (s *server) streamRoutes() {
	s.onContainer("POST /containers/{id}/attach", s.attach)
	s.onContainer("POST /containers/{id}/wait", s.wait)
	s.onContainer("GET /containers/{id}/logs", s.logs)
	s.onContainer("GET /containers/{id}/stats", s.stats)
	s.onContainer("GET /containers/{id}/archive", s.getArchive)
	s.onContainer("HEAD /containers/{id}/archive", s.headArchive)
	s.onContainer("PUT /containers/{id}/archive", s.putArchive)
	s.onContainer("GET /containers/{id}/export", s.export)
}

// attach connects the client with the container's streams. The streams are
// live before the client is told so: what a container prints first is not
// lost to a client that starts it as soon as it has the answer.
func (s *server) attach(w http.ResponseWriter, r *http.Request) error {
	c, err := s.Engine.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	keys, err := detachKeys(r.URL.Query().Get("detachKeys"))
	if err != nil {
		return err
	}
	stream := flag(r, "stream")
	opt := runtime.AttachOptions{
		Stdin:  stream && flag(r, "stdin") && c.Spec.OpenStdin,
		Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr"), Logs: flag(r, "logs"),
	}
	if c.State.Status == runtime.Paused {
		return say(runtime.ErrConflict, "container %s is paused, unpause the container before attach", c.Name)
	}
	if c.State.Status == runtime.Restarting {
		return say(runtime.ErrConflict, "container %s is restarting, wait until the container is running", c.Name)
	}
	if !stream {
		return s.attachLogs(w, r, c, opt)
	}
	// The engine's context outlives no handler: the streams end with it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	streams, err := s.Engine.Attach(ctx, c.ID, opt)
	if err != nil {
		return err
	}
	conn, err := hijack(w, r, streamType(r, c.Spec.TTY))
	if err != nil {
		return errors.Join(err, streams.Close())
	}
	connect(conn, streams, c.Spec.TTY, keys)
	return nil
}

// attachLogs answers an attach that asks for the past only.
func (s *server) attachLogs(w http.ResponseWriter, r *http.Request, c *runtime.Container, opt runtime.AttachOptions) error {
	conn, err := hijack(w, r, streamType(r, c.Spec.TTY))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost: all was written
	if !opt.Logs {
		return nil
	}
	out := logWriter{tty: c.Spec.TTY, append: func(p []byte) error { _, err := conn.Write(p); return err }}
	err = s.Engine.Logs(r.Context(), c.ID, runtime.LogOptions{Stdout: opt.Stdout, Stderr: opt.Stderr, Tail: -1}, out.entry)
	if err != nil {
		s.log.Warn("attach", "container", c.ID, "error", err)
	}
	return nil
}

// connect moves bytes until the process has no more output, the client has
// gone or it sends the detach keys. The end of the client's direction is the
// end of the process's input only; the end of output ends our direction and
// then the connection.
func connect(conn *wire, streams *runtime.Streams, tty bool, keys []byte) {
	detached := make(chan struct{})
	var once sync.Once
	leave := func() { once.Do(func() { close(detached) }) }
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if readInput(conn, streams.Stdin, keys) {
			leave()
			return
		}
		waitGone(conn)
		leave()
	}()
	output := make(chan struct{})
	go func() {
		defer close(output)
		if copyOutput(conn, streams, tty) != nil {
			leave() // nobody reads any more
		}
	}()
	select {
	case <-output:
	case <-detached:
	}
	_ = streams.Close()
	_ = conn.CloseWrite()
	_ = conn.Close()
	<-gone
	<-output
}

// readInput copies the client's direction to stdin. It returns true when the
// detach keys were seen, false when the direction has ended.
func readInput(conn io.Reader, stdin io.WriteCloser, keys []byte) bool {
	if stdin == nil {
		_, _ = io.Copy(io.Discard, conn)
		return false
	}
	escaped, err := copyEscaped(stdin, conn, keys)
	if escaped {
		return true
	}
	_ = stdin.Close()
	if err != nil { // the process took no more: what the client still sends has no reader
		_, _ = io.Copy(io.Discard, conn)
	}
	return false
}

func copyOutput(conn io.Writer, streams *runtime.Streams, tty bool) error {
	if tty {
		if streams.Stdout == nil {
			return nil
		}
		_, err := io.Copy(onlyWriter{conn}, streams.Stdout)
		return err
	}
	out := &lockedWriter{w: conn}
	var wg sync.WaitGroup
	var errs [2]error
	for i, src := range []io.Reader{streams.Stdout, streams.Stderr} {
		if src == nil {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = copyFrames(out, src, byte(stdoutFrame+i))
		}()
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// onlyWriter hides other methods of a connection from io.Copy.
type onlyWriter struct{ io.Writer }

// lockedWriter keeps frames whole.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
