package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Content types of hijacked and log streams.
const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// streamType is the content type of a process's output.
func streamType(r *http.Request, tty bool) string {
	if tty || olderThan(r, "1.42") {
		return rawStream
	}
	return multiplexedStream
}

// wire is a hijacked connection: one direction of it can end alone.
type wire struct {
	net.Conn
	r *bufio.Reader // what the HTTP server read too far, then the connection
}

func (c *wire) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite ends our direction; the peer's may go on.
func (c *wire) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return half.CloseWrite()
}

// linger is how long a client may take to close its direction after ours has ended.
const linger = time.Second

// endWrite ends our direction and gives the peer time to end its own. What it
// sent is to be read until then: a connection that is closed with something
// unread is reset, which the client takes for an error and which over TCP
// loses output.
func (c *wire) endWrite() {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(linger))
}

// end closes the connection once the peer has ended its direction.
func (c *wire) end() {
	c.endWrite()
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
}

// hijack takes over the connection and answers 101 to a client that asked for
// an upgrade, 200 to one that did not.
func hijack(w http.ResponseWriter, r *http.Request, contentType string) (*wire, error) {
	if r.ContentLength > 0 { // what is left of a body would be taken for input
		if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)); err != nil {
			return nil, fmt.Errorf("read body: %w", err)
		}
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("hijack connection: %w", err)
	}
	if t, ok := w.(*tracker); ok {
		t.begun = true
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n"
	if strings.EqualFold(r.Header.Get("Upgrade"), "tcp") {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	for _, key := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server"} {
		head += key + ": " + w.Header().Get(key) + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &wire{Conn: conn, r: rw.Reader}, nil
}

// waitGone returns when the peer has closed both directions, or conn is
// closed. It is called after the peer's direction has ended, when reading
// tells nothing more: the kernel then reports a hang-up. TLS ends one direction
// without a word to the kernel, for which the end of one direction is then the
// end of both.
func waitGone(conn net.Conn) {
	events := int16(unix.POLLHUP | unix.POLLERR | unix.POLLNVAL)
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		if _, ok := conn.(*tls.Conn); ok {
			events |= unix.POLLRDHUP
		}
		conn = inner.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // the error says that conn was closed: gone too
		fds := []unix.PollFd{{Fd: int32(fd), Events: events & unix.POLLRDHUP}} //nolint:gosec // descriptors are small
		n, err := unix.Poll(fds, 0)
		return err == nil && n > 0 && fds[0].Revents&events != 0
	})
}
