package link

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sock is a route netlink socket that sends many requests in one write. It
// belongs to the namespace that the thread was in when it was dialled.
type sock struct {
	mu     sync.Mutex
	fd     int
	seq    uint32
	buf    [32 << 10]byte
	writes atomic.Uint64 // changes asked for
}

func dial() (*sock, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink bind: %w", err)
	}
	return &sock{fd: fd}, nil
}

func (s *sock) close() {
	if s != nil {
		unix.Close(s.fd)
	}
}

// step is one request of a batch. An error number of ignore counts as done.
type step struct {
	what   string // for the error: "add address 10.0.0.2/24"
	req    *nl.NetlinkRequest
	ignore []unix.Errno
}

// do sends the steps in one write; the kernel does them in order, and goes on
// after one that fails. The first error is returned.
func (s *sock) do(steps ...step) error {
	if len(steps) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	first := s.seq + 1
	for _, st := range steps {
		if kind := st.req.Type; kind != unix.RTM_GETLINK {
			s.writes.Add(1)
		}
		s.seq++
		st.req.Seq = s.seq
		st.req.Flags |= unix.NLM_F_REQUEST | unix.NLM_F_ACK
		b := st.req.Serialize()
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		out = append(out, b...)
	}
	if err := unix.Sendto(s.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink send: %w", err)
	}
	var bad error
	for left := len(steps); left > 0; {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink receive: %w", err)
		}
		for b := s.buf[:n]; len(b) >= unix.NLMSG_HDRLEN+4; {
			size := int(nl.NativeEndian().Uint32(b))
			kind, seq := nl.NativeEndian().Uint16(b[4:]), nl.NativeEndian().Uint32(b[8:])
			if size < unix.NLMSG_HDRLEN+4 || size > len(b) {
				break
			}
			if kind == unix.NLMSG_ERROR && seq-first < uint32(len(steps)) {
				left--
				errno := unix.Errno(-int32(nl.NativeEndian().Uint32(b[unix.NLMSG_HDRLEN:])))
				if st := steps[seq-first]; errno != 0 && !in(st.ignore, errno) && bad == nil {
					bad = fmt.Errorf("%s: %w", st.what, errno)
				}
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
	return bad
}

func in(list []unix.Errno, e unix.Errno) bool {
	for _, x := range list {
		if x == e {
			return true
		}
	}
	return false
}
