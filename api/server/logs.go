package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/dhow-project/dhow/runtime"
)

// logTime is Docker's: RFC 3339 with all nine digits.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// wait tells the exit code. The headers go out as soon as the wait is
// registered: clients start the container when they have them.
func (s *server) wait(w http.ResponseWriter, r *http.Request) error {
	cond := runtime.WaitCondition(r.URL.Query().Get("condition"))
	switch cond {
	case "":
		cond = runtime.WaitNotRunning
	case runtime.WaitNotRunning, runtime.WaitNextExit, runtime.WaitRemoved:
	default:
		return invalid("invalid condition: %q", cond)
	}
	exited, err := s.Engine.Wait(r.Context(), r.PathValue("id"), cond)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return nil //nolint:nilerr // the client has gone
	}
	select {
	case <-r.Context().Done():
		return nil
	case st, open := <-exited:
		if !open {
			return errors.New("wait: the daemon stopped watching")
		}
		resp := container.WaitResponse{StatusCode: int64(st.Code)}
		// Who waits for the exit of a start also gets the start's own error.
		if st.Err != "" && cond == runtime.WaitNotRunning {
			resp.Error = &container.WaitExitError{Message: st.Err}
		}
		_ = json.NewEncoder(w).Encode(resp) // the client has gone: nobody is left to tell
	}
	return nil
}

func (s *server) logs(w http.ResponseWriter, r *http.Request) error {
	opt, err := logOptions(r)
	if err != nil {
		return err
	}
	c, err := s.Engine.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if c.Spec.Log.Driver == "none" {
		return notYet("configured logging driver does not support reading")
	}
	w.Header().Set("Content-Type", streamType(r, c.Spec.TTY))
	out := newCoalescer(w)
	lines := logWriter{tty: c.Spec.TTY, stamps: flag(r, "timestamps"), append: func(p []byte) error { _, err := out.Write(p); return err }}
	err = s.Engine.Logs(r.Context(), c.ID, opt, lines.entry)
	if cerr := out.Close(); cerr != nil {
		return nil //nolint:nilerr // the client has gone
	}
	return err
}

func logOptions(r *http.Request) (opt runtime.LogOptions, err error) {
	opt = runtime.LogOptions{Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr"), Follow: flag(r, "follow"), Tail: -1}
	if !opt.Stdout && !opt.Stderr {
		return opt, invalid("Bad parameters: you must choose at least one stream")
	}
	if opt.Since, err = timeParam(r, "since"); err != nil {
		return opt, err
	}
	if opt.Until, err = timeParam(r, "until"); err != nil {
		return opt, err
	}
	if tail := r.URL.Query().Get("tail"); tail != "" && tail != "all" {
		n, err := strconv.Atoi(tail)
		if err == nil && n >= 0 { // Docker takes everything else as all
			opt.Tail = n
		}
	}
	return opt, nil
}

// logWriter turns log entries into what clients read: frames without a TTY,
// bytes with one. It is used by one goroutine.
type logWriter struct {
	tty    bool
	stamps bool
	append func([]byte) error
	buf    []byte
	within [2]bool // stdout, stderr: in the middle of a line
}

func (l *logWriter) entry(e runtime.LogEntry) error {
	i := 0
	if e.Stream == "stderr" {
		i = 1
	}
	l.buf = l.buf[:0]
	if !l.tty {
		l.buf = append(l.buf, byte(stdoutFrame+i), 0, 0, 0, 0, 0, 0, 0)
	}
	if l.stamps && !l.within[i] {
		l.buf = e.Time.UTC().AppendFormat(l.buf, logTime)
		l.buf = append(l.buf, ' ')
	}
	l.buf = append(l.buf, e.Line...)
	l.within[i] = e.Partial
	if !l.tty {
		setFrameLength(l.buf)
	}
	return l.append(l.buf)
}

// sampleInterval is how far apart two readings of a container's counters are.
const sampleInterval = time.Second
