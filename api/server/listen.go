package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketGroup may use the socket beside root.
const socketGroup = "dhow"

// Listen opens the unix socket at path, for root and the group dhow if there
// is one. A socket that a dead daemon left is replaced; one on which somebody
// answers is an error. Two daemons that start at once cannot both win: a lock
// beside the socket is held until the listener is closed.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket has its own permissions
		return nil, err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { //nolint:gosec // descriptors are small
		return nil, errors.Join(errors.New("another dhow daemon serves this socket"), lock.Close())
	}
	l, err := bind(path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &locked{UnixListener: l, lock: lock}, nil
}

func bind(path string) (*net.UnixListener, error) {
	if err := clearStale(path); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	old := unix.Umask(0o177) // nobody but root connects before the permissions are right
	l, err := net.ListenUnix("unix", addr)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	if err := permit(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func clearStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(errors.New("another daemon answers there"), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("another daemon may be there: %w", err)
	}
	return os.Remove(path)
}

func permit(path string) error {
	gid := 0
	if g, err := user.LookupGroup(socketGroup); err == nil { // no such group: root alone
		gid, _ = strconv.Atoi(g.Gid)
	}
	if gid != 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o660) //nolint:gosec // the group is the point
}

// locked gives the lock back with the listener.
type locked struct {
	*net.UnixListener
	lock *os.File
}

func (l *locked) Close() error {
	return errors.Join(l.UnixListener.Close(), l.lock.Close())
}

// headerTimeout bounds how long a client may take to say what it wants.
const headerTimeout = 30 * time.Second

// Serve serves h on l until ctx ends, then lets requests finish for at most
// grace. Streams without an end are cut after it.
func Serve(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return base }}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer done()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		cancel()
		err = srv.Close()
	}
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
