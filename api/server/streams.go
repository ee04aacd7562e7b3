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
	connect(conn, streams, session{tty: c.Spec.TTY, endInput: c.Spec.StdinOnce, keys: keys})
	return nil
}

// attachLogs answers an attach that asks for the past only.
func (s *server) attachLogs(w http.ResponseWriter, r *http.Request, c *runtime.Container, opt runtime.AttachOptions) error {
	conn, err := hijack(w, r, streamType(r, c.Spec.TTY))
	if err != nil {
		return err
	}
	defer conn.end()
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

// session says how a client and a process are connected.
type session struct {
	tty      bool
	endInput bool   // the end of the client's direction is the end of the process's input
	keys     []byte // what leaves a terminal
}

// connect moves bytes until the process has no more output, the client has
// gone, or it leaves a terminal by the detach keys or the end of its input.
// Without a terminal the end of the client's direction ends no more than that
// direction; the end of output ends ours and then the connection.
func connect(conn *wire, streams *runtime.Streams, how session) {
	left := make(chan struct{})
	leave := sync.OnceFunc(func() { close(left) })
	input, output := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(input)
		readInput(conn, streams.Stdin, how)
		leave()
	}()
	go func() {
		defer close(output)
		if copyOutput(conn, streams, how.tty) != nil {
			leave() // nobody reads any more
		}
	}()
	select {
	case <-output:
	case <-left:
	}
	_ = streams.Close()
	conn.endWrite()
	<-input
	_ = conn.Close()
	<-output
}

// readInput copies the client's direction to stdin and returns when the client has left.
func readInput(conn *wire, stdin io.WriteCloser, how session) {
	switch {
	case stdin == nil:
	case how.tty:
		_, _ = copyEscaped(stdin, conn, how.keys) // the reason to leave does not matter
		return
	default: // every byte is data: no keys
		_, _ = io.Copy(stdin, conn)
		if how.endInput {
			_ = stdin.Close()
		}
	}
	_, _ = io.Copy(io.Discard, conn) // what the process does not take has no reader
	waitGone(conn.Conn)
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
