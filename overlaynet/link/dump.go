package link

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// dumps bounds how often a list is asked for. Each takes less than a
// millisecond, so that even a host that starts containers all the time leaves
// one alone soon.
const dumps = 100

// whole repeats a listing until no change came in between: the kernel marks
// lists that may miss entries for that reason.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumps {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}

// message is one netlink message without its header.
type message struct {
	kind, flags uint16
	seq         uint32
	body        []byte
}

// messages takes what was received apart.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			size := int(nl.NativeEndian().Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return
			}
			m := message{nl.NativeEndian().Uint16(b[4:]), nl.NativeEndian().Uint16(b[6:]), nl.NativeEndian().Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size]}
			if !yield(m) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// dump returns the bodies of the messages that answer a request for a list.
// The kernel filters by what the request says, where it can.
func (s *sock) dump(what string, kind int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	list, err := whole(func() ([][]byte, error) { return s.dumpOnce(kind, data) })
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return list, nil
}

func (s *sock) dumpOnce(kind int, data []nl.NetlinkRequestData) (out [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	for _, d := range data {
		req.AddData(d)
	}
	req.Seq = s.seq
	if err := unix.Sendto(s.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	interrupted := false
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for m := range messages(slices.Clone(s.buf[:n])) {
			interrupted = interrupted || m.seq == s.seq && m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.seq != s.seq: // the answer to an earlier question, whose asker gave up
			case m.kind == unix.NLMSG_ERROR && len(m.body) >= 4:
				return nil, unix.Errno(-int32(nl.NativeEndian().Uint32(m.body)))
			case m.kind == unix.NLMSG_DONE && interrupted:
				return out, netlink.ErrDumpInterrupted
			case m.kind == unix.NLMSG_DONE:
				return out, nil
			default:
				out = append(out, m.body)
			}
		}
	}
}
