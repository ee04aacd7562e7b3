package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// Files in a shim's directory.
const (
	socketFile = "shim.sock"
	configFile = "shim.json"
	pidFile    = "shim.pid"
	exitFile   = "exit.json"
	logFile    = "shim.log" // what the shim itself had to say; empty but for a crash
)

// socketAddr gives the socket an address short enough for sun_path (107 bytes)
// however deep dir is. The file is needed until the address has been used.
func socketAddr(dir string) (*os.File, *unix.SockaddrUnix, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, err
	}
	return d, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketFile}, nil
}

// dial connects to the shim of dir. A shim that is gone is ErrNotFound.
func dial(dir string) (*os.File, error) {
	d, addr, err := socketAddr(dir)
	if err != nil {
		return nil, fmt.Errorf("shim of %s: %w: %w", dir, runtime.ErrNotFound, err)
	}
	defer d.Close()
	return dialAddr(addr)
}

func dialAddr(addr *unix.SockaddrUnix) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		if err == unix.ENOENT || err == unix.ECONNREFUSED {
			return nil, fmt.Errorf("the shim is gone: %w", runtime.ErrNotFound)
		}
		return nil, fmt.Errorf("connect to shim: %w", err)
	}
	return os.NewFile(uintptr(fd), "shim socket"), nil
}

// readFrame reads one frame into memory of its own.
func readFrame(r io.Reader) (wire.Frame, error) {
	var h [wire.HeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return wire.Frame{}, err
	}
	n, err := wire.PayloadLen(h)
	if err != nil {
		return wire.Frame{}, err
	}
	b := append(h[:], make([]byte, n)...)
	if _, err := io.ReadFull(r, b[wire.HeaderLen:]); err != nil {
		return wire.Frame{}, err
	}
	f, _, err := wire.Next(b)
	return f, err
}

// exchange sends a request on a new connection and reads the answer, past the
// State frame that every connection begins with. ctx bounds it.
func exchange(ctx context.Context, conn *os.File, t wire.Type, payload []byte) (wire.Frame, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	f, err := roundTrip(conn, t, payload)
	if !stop() && ctx.Err() != nil {
		return f, ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the shim is gone: %w", runtime.ErrNotRunning)
	}
	return f, err
}

func roundTrip(conn *os.File, t wire.Type, payload []byte) (wire.Frame, error) {
	if _, err := conn.Write(wire.Append(nil, t, 1, payload)); err != nil {
		return wire.Frame{}, fmt.Errorf("the shim is gone: %w", runtime.ErrNotRunning)
	}
	for {
		f, err := readFrame(conn)
		switch {
		case err != nil:
			return f, err
		case f.ID == 1:
			return f, answerError(f)
		case f.Type == wire.Exit:
			return f, io.EOF
		}
	}
}

// RuntimeError is what the OCI runtime said when it refused.
type RuntimeError struct {
	Code int // exit code that Docker shows: 127 not found, 126 not executable, 128 otherwise
	Msg  string
}

func (e *RuntimeError) Error() string { return e.Msg }

// answerError is the error in an answer, if it is one.
func answerError(f wire.Frame) error {
	if f.Type != wire.Error {
		return nil
	}
	m, err := wire.DecodeError(f.Payload)
	switch {
	case err != nil:
		return err
	case m.Kind == wire.KindRuntime:
		return &RuntimeError{Code: int(m.Code), Msg: m.Text}
	case m.Kind == wire.KindNotRunning:
		return fmt.Errorf("%s: %w", m.Text, runtime.ErrNotRunning)
	case m.Kind == wire.KindConflict:
		return fmt.Errorf("%s: %w", m.Text, runtime.ErrConflict)
	}
	return fmt.Errorf("shim: %s", m.Text)
}
