package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Inside does f on a thread of its own that is in the network namespace with
// the path. Sockets that f makes stay there.
func Inside(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			done <- fmt.Errorf("enter %s: %w", path, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// NamespaceOf is the path of the network namespace of a container on the host.
func (h *Host) NamespaceOf(container string) string {
	return filepath.Join(h.RunDir, "netns", container)
}

// Resolver asks a server for addresses, from a network namespace.
type Resolver struct {
	conn net.Conn
	id   uint16
	buf  []byte
}

// NewResolver opens a socket in the namespace with the path.
func NewResolver(path, server string) (*Resolver, error) {
	r := &Resolver{buf: make([]byte, 4096)}
	err := Inside(path, func() (err error) {
		r.conn, err = net.Dial("udp", net.JoinHostPort(server, "53"))
		return err
	})
	return r, err
}

// Close closes the socket.
func (r *Resolver) Close() error { return r.conn.Close() }

// Lookup returns the IPv4 addresses of a name; none when it does not exist.
func (r *Resolver) Lookup(name string) ([]netip.Addr, error) {
	r.id++
	if err := r.conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := r.conn.Write(question(r.id, name)); err != nil {
		return nil, err
	}
	for {
		n, err := r.conn.Read(r.buf)
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", name, err)
		}
		if n >= 12 && binary.BigEndian.Uint16(r.buf) == r.id {
			return addresses(r.buf[:n])
		}
	}
}

// question is a DNS message (RFC 1035, section 4).
func question(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

var errShort = errors.New("the answer ends too early")

// addresses reads the A records of an answer.
func addresses(b []byte) (out []netip.Addr, err error) {
	count := int(binary.BigEndian.Uint16(b[6:]))
	at := skipName(b, 12) + 4
	for range count {
		at = skipName(b, at)
		if at+10 > len(b) {
			return nil, errShort
		}
		kind, size := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+8:]))
		if at += 10; at+size > len(b) {
			return nil, errShort
		}
		if kind == 1 && size == 4 {
			out = append(out, netip.AddrFrom4([4]byte(b[at:at+4])))
		}
		at += size
	}
	return out, nil
}

// skipName returns where a name that begins at i ends.
func skipName(b []byte, i int) int {
	for i < len(b) {
		switch n := int(b[i]); {
		case n == 0:
			return i + 1
		case n >= 0xc0:
			return i + 2
		default:
			i += 1 + n
		}
	}
	return i
}
