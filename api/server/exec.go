package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

func (s *server) execRoutes() {
	s.onContainer("POST /containers/{id}/exec", s.createExec)
	s.onExec("POST /exec/{id}/start", s.startExec)
	s.onExec("POST /exec/{id}/resize", s.resizeExec)
	s.onExec("GET /exec/{id}/json", s.inspectExec)
}

func (s *server) onExec(pattern string, h handler) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) error {
		at, err := s.elsewhereExec(r, r.PathValue("id"))
		if err != nil {
			return err
		}
		if at.node != "" {
			return s.passExec(w, r, at.node)
		}
		err = h(w, r)
		if errors.Is(err, runtime.ErrNotFound) {
			return notFound("No such exec instance: %s", r.PathValue("id"))
		}
		return err
	})
}

// execCreateRequest has what older clients also send.
type execCreateRequest struct {
	container.ExecCreateRequest
	Cmd    command // shadows the other
	Detach bool    // the start says it again, and that counts
}

func (s *server) createExec(w http.ResponseWriter, r *http.Request) error {
	var req execCreateRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return invalid("No exec command specified")
	}
	if _, err := detachKeys(req.DetachKeys); err != nil {
		return err
	}
	spec := runtime.ExecSpec{Args: req.Cmd, Env: req.Env, User: req.User, WorkingDir: req.WorkingDir, Privileged: req.Privileged,
		TTY: req.Tty, Stdin: req.AttachStdin, Stdout: req.AttachStdout, Stderr: req.AttachStderr}
	if size := req.ConsoleSize; size != nil {
		spec.Rows, spec.Cols = uint16(size[0]), uint16(size[1]) //nolint:gosec // terminals are small
	}
	id, err := s.Engine.ExecCreate(r.Context(), r.PathValue("id"), spec)
	if err != nil {
		return err
	}
	if req.DetachKeys != "" {
		s.detach.set(id, req.DetachKeys)
	}
	writeJSON(w, http.StatusCreated, container.ExecCreateResponse{ID: id})
	return nil
}

func (s *server) startExec(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	var req container.ExecStartRequest
	if err := readOptionalJSON(w, r, &req); err != nil {
		return err
	}
	e, err := s.Engine.ExecInspect(r.Context(), id)
	if err != nil {
		return err
	}
	if size := req.ConsoleSize; size != nil && !e.Spec.TTY {
		return invalid("console size is only supported when allocating a TTY")
	}
	if req.Detach {
		if _, err := s.Engine.ExecStart(r.Context(), id, true); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	keys, err := detachKeys(s.detach.take(id))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	streams, err := s.Engine.ExecStart(ctx, id, false)
	if err != nil {
		return s.refusedExec(w, r, id, err)
	}
	if size := req.ConsoleSize; size != nil && (size[0] != 0 || size[1] != 0) {
		// A process that has already ended needs no size.
		_ = s.Engine.ExecResize(ctx, id, uint16(size[0]), uint16(size[1])) //nolint:gosec // terminals are small
	}
	conn, err := hijack(w, r, streamType(r, e.Spec.TTY))
	if err != nil {
		return errors.Join(err, streams.Close())
	}
	connect(conn, streams, session{tty: e.Spec.TTY, endInput: true, keys: keys})
	return nil
}

// refusedExec answers for a command that could not be executed as Docker does:
// the stream carries the reason and nothing else, and the exit code, 126 or
// 127, stands where clients look for it. An exec that never came so far fails
// as a request.
func (s *server) refusedExec(w http.ResponseWriter, r *http.Request, id string, cause error) error {
	e, err := s.Engine.ExecInspect(r.Context(), id)
	if err != nil || e.ExitCode == nil || errors.Is(cause, runtime.ErrConflict) || errors.Is(cause, runtime.ErrNotRunning) {
		return cause
	}
	conn, err := hijack(w, r, streamType(r, e.Spec.TTY))
	if err != nil {
		return err
	}
	defer conn.end()
	var out io.Writer = conn
	frame := byte(stdoutFrame)
	if e.Spec.Stderr {
		frame = stderrFrame
	}
	text := strings.NewReader(cause.Error() + "\r\n")
	switch {
	case e.Spec.TTY:
		_, err = io.Copy(out, text)
	case e.Spec.Stdout || e.Spec.Stderr:
		err = copyFrames(out, text, frame)
	}
	if err != nil {
		return nil // the client has gone
	}
	return conn.CloseWrite()
}

func (s *server) resizeExec(w http.ResponseWriter, r *http.Request) error {
	rows, cols, err := sizeParams(r)
	if err != nil {
		return err
	}
	if err := s.Engine.ExecResize(r.Context(), r.PathValue("id"), rows, cols); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) inspectExec(w http.ResponseWriter, r *http.Request) error {
	e, err := s.Engine.ExecInspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	privileged := e.Spec.Privileged
	p := &container.ExecProcessConfig{Tty: e.Spec.TTY, Privileged: &privileged, User: e.Spec.User, Arguments: []string{}}
	if len(e.Spec.Args) > 0 {
		p.Entrypoint, p.Arguments = e.Spec.Args[0], list(e.Spec.Args[1:])
	}
	return ok(w, container.ExecInspectResponse{
		ID: e.ID, Running: e.Running, ExitCode: e.ExitCode, ProcessConfig: p, Pid: e.Pid, ContainerID: e.ContainerID,
		OpenStdin: e.Spec.Stdin, OpenStdout: e.Spec.Stdout, OpenStderr: e.Spec.Stderr, DetachKeys: []byte{},
		CanRemove: e.ExitCode != nil,
	})
}
