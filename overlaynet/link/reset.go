package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Reset ends the TCP connections to these addresses that processes of the
// sandboxes, and of the node itself, have: directly, or through a virtual
// address or a published port, as connection tracking knows. It must come
// before Forget. A program gets ECONNABORTED instead of waiting for an answer
// that never comes. A kernel that cannot end others' connections
// (CONFIG_INET_DIAG_DESTROY) lets them be, without an error.
func (l *Links) Reset(ctx context.Context, sandboxes []string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	d := doomed{peers: map[netip.Addr]bool{}, pairs: map[pair]bool{}}
	families := map[int]bool{}
	for _, a := range addrs {
		d.peers[a] = true
		families[family(a)] = true
	}
	if err := d.translated(families); err != nil {
		return err
	}
	errs := []error{d.end("")}
	for _, id := range sandboxes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if path := filepath.Join(l.dir, id); mounted(path) {
			if err := d.end(path); err != nil {
				errs = append(errs, fmt.Errorf("connections of %s: %w", id, err))
			}
		}
	}
	return errors.Join(errs...)
}

// pair is a connection as the one who asked for it sees it.
type pair struct{ from, to netip.AddrPort }

// doomed selects connections.
type doomed struct {
	peers map[netip.Addr]bool
	pairs map[pair]bool // to other addresses, translated to one of peers
}

// translated finds the connections whose answers come from the peers.
func (d doomed) translated(families map[int]bool) error {
	for fam := range families {
		flows, err := whole(func() ([]*netlink.ConntrackFlow, error) {
			return netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(fam))
		})
		if err != nil {
			return fmt.Errorf("list tracked connections: %w", err)
		}
		for _, f := range flows {
			if f.Forward.Protocol == unix.IPPROTO_TCP && !f.Forward.DstIP.Equal(f.Reverse.SrcIP) && d.peers[addrOf(f.Reverse.SrcIP)] {
				d.pairs[pair{
					netip.AddrPortFrom(addrOf(f.Forward.SrcIP), f.Forward.SrcPort),
					netip.AddrPortFrom(addrOf(f.Forward.DstIP), f.Forward.DstPort),
				}] = true
			}
		}
	}
	return nil
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// end ends what is selected in the namespace at path; "" is the node's own.
func (d doomed) end(path string) error {
	s, err := diagnose(path)
	if err != nil {
		return err
	}
	defer s.close()
	var steps []step
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} { // a socket for IPv6 may speak IPv4
		list, err := s.dump("connections", nl.SOCK_DIAG_BY_FAMILY, &diagRequest{family: fam, states: connected})
		if err != nil {
			return err
		}
		for _, b := range list {
			if c, ok := parseSocket(b); ok && (d.peers[c.to.Addr()] || d.pairs[c.pair]) {
				steps = append(steps, step{"end connection to " + c.to.String(), destroy(fam, c),
					[]unix.Errno{unix.ENOENT, unix.EOPNOTSUPP, unix.EINVAL}})
			}
		}
	}
	return s.do(steps...)
}

// diagnose opens a socket for questions about the sockets of a namespace.
func diagnose(path string) (s *sock, err error) {
	if path == "" {
		return dial(unix.NETLINK_INET_DIAG)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	err = inThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", path, err)
		}
		s, err = dial(unix.NETLINK_INET_DIAG)
		return err
	})
	return s, err
}

// States of linux/tcp_states.h: all but those without a peer and TIME_WAIT,
// which nobody waits in.
const connected = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h for TCP.
type diagRequest struct {
	family int
	states uint32
	id     []byte // struct inet_diag_sockid; nil: any
}

const sizeofSockID = 48

// Len fits netlink's requests.
func (r *diagRequest) Len() int { return 8 + sizeofSockID }

// Serialize fits netlink's requests.
func (r *diagRequest) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0], b[1] = byte(r.family), unix.IPPROTO_TCP
	nl.NativeEndian().PutUint32(b[4:], r.states)
	copy(b[8:], r.id)
	return b
}

// connection is one socket with a peer.
type connection struct {
	pair
	id []byte // with the cookie, which makes it this socket and no later one
}

// parseSocket reads struct inet_diag_msg.
func parseSocket(b []byte) (c connection, ok bool) {
	if len(b) < 4+sizeofSockID {
		return c, false
	}
	size := 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	c.id = b[4 : 4+sizeofSockID]
	c.from = netip.AddrPortFrom(addrOf(c.id[4:4+size]), binary.BigEndian.Uint16(c.id))
	c.to = netip.AddrPortFrom(addrOf(c.id[20:20+size]), binary.BigEndian.Uint16(c.id[2:]))
	return c, true
}

func destroy(fam int, c connection) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, 0)
	req.AddData(&diagRequest{family: fam, id: c.id})
	return req
}
