package link

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// sock is a netlink socket that sends many requests in one write. It
// belongs to the namespace that the thread was in when it was dialled.
type sock struct {
	mu     sync.Mutex
	fd     int
	seq    uint32
	buf    [32 << 10]byte
	writes atomic.Uint64 // changes asked for
}

// dial opens a socket of a netlink protocol: NETLINK_ROUTE, say.
func dial(protocol int) (*sock, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink bind: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) // lets lists be filtered; kernels before 4.20 send all
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

// most is how many steps go in one write: as many answers as there may be
// errors fit into the socket's buffer.
const most = 200

// do sends the steps, many in one write; the kernel does them in order, and
// goes on after one that fails. The first error is returned.
func (s *sock) do(steps ...step) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bad error
	for len(steps) > 0 {
		n := min(len(steps), most)
		err := s.doSome(steps[:n])
		if bad == nil {
			bad = err
		}
		steps = steps[n:]
	}
	return bad
}

// doSome does one write. Only the last step asks for an answer: those before
// it answer when they fail, and have done so by then.
func (s *sock) doSome(steps []step) error {
	var out []byte
	first, last := s.seq+1, s.seq+uint32(len(steps))
	for _, st := range steps {
		if kind := st.req.Type; kind != unix.RTM_GETLINK {
			s.writes.Add(1)
		}
		s.seq++
		st.req.Seq = s.seq
		st.req.Flags &^= unix.NLM_F_ACK
		st.req.Flags |= unix.NLM_F_REQUEST
		if s.seq == last {
			st.req.Flags |= unix.NLM_F_ACK
		}
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
	for done := false; !done; {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink receive: %w", err)
		}
		for m := range messages(s.buf[:n]) {
			if m.kind != unix.NLMSG_ERROR || m.seq-first >= uint32(len(steps)) || len(m.body) < 4 {
				continue
			}
			done = done || m.seq == last
			errno := unix.Errno(-int32(nl.NativeEndian().Uint32(m.body)))
			if st := steps[m.seq-first]; errno != 0 && !in(st.ignore, errno) && bad == nil {
				bad = fmt.Errorf("%s: %w", st.what, errno)
			}
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
