package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets are gossip's UDP and TCP. Memberlist's own take 64 KB of new memory
// for each packet, ten times a second on an idle node, which was more than half
// of all that its daemon allocated. Here packets are read into one buffer.
type sockets struct {
	log     *slog.Logger
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
	group   sync.WaitGroup
}

// receiveBuffer is what the kernel keeps for bursts, bytes; less is fine.
const receiveBuffer = 2 << 20

// listen opens both on one port; 0: a free one.
func listen(host string, port int, log *slog.Logger) (s *sockets, err error) {
	for range 10 {
		if s, err = listenOn(host, port, log); err == nil || port != 0 {
			break // else the port was free for one of them only
		}
	}
	return s, err
}

func listenOn(host string, port int, log *slog.Logger) (*sockets, error) {
	ip := net.ParseIP(host)
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port})
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: tcp.Addr().(*net.TCPAddr).Port})
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	for size := receiveBuffer; size > 0 && udp.SetReadBuffer(size) != nil; size /= 2 { //nolint:revive // until the kernel agrees
	}
	s := &sockets{log: log, udp: udp, tcp: tcp, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{})}
	s.group.Go(s.receive)
	s.group.Go(s.accept)
	return s, nil
}

func (s *sockets) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		now := time.Now()
		if err != nil {
			if s.pause(err) {
				continue
			}
			return
		}
		if n == 0 {
			continue
		}
		p := &memberlist.Packet{Buf: slices.Clone(buf[:n]), From: net.UDPAddrFromAddrPort(from), Timestamp: now}
		select {
		case s.packets <- p:
		case <-s.closed:
			return
		}
	}
}

func (s *sockets) accept() {
	for {
		c, err := s.tcp.AcceptTCP()
		if err != nil {
			if s.pause(err) {
				continue
			}
			return
		}
		select {
		case s.streams <- c:
		case <-s.closed:
			c.Close() //nolint:errcheck // nothing was said
			return
		}
	}
}

// pause waits a moment after an error; false: the sockets are closed.
func (s *sockets) pause(err error) bool {
	select {
	case <-s.closed:
		return false
	default:
	}
	s.log.Debug("receive", "error", err)
	select {
	case <-s.closed:
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

// FinalAdvertiseAddr is the address that was given, or the one that is bound, or
// a private one of this machine.
func (s *sockets) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	bound := s.tcp.Addr().(*net.TCPAddr)
	if ip != "" {
		addr := net.ParseIP(ip)
		if addr == nil {
			return nil, 0, fmt.Errorf("%q is not an IP address", ip)
		}
		if port == 0 {
			port = bound.Port
		}
		return short(addr), port, nil
	}
	if !bound.IP.IsUnspecified() {
		return short(bound.IP), bound.Port, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, 0, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsPrivate() && n.IP.To4() != nil {
			return short(n.IP), bound.Port, nil
		}
	}
	return nil, 0, errors.New("this machine has no private address: one to advertise is needed")
}

// short is 4 bytes for what is IPv4.
func short(ip net.IP) net.IP {
	if v4 := ip.To4(); v4 != nil {
		return v4
	}
	return ip
}

// WriteTo sends a packet.
func (s *sockets) WriteTo(b []byte, addr string) (time.Time, error) {
	return s.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress sends a packet.
func (s *sockets) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	to, err := net.ResolveUDPAddr("udp", a.Addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = s.udp.WriteTo(b, to)
	return time.Now(), err
}

// DialTimeout connects to another node. Memberlist has no context for it: the
// timeout bounds it.
func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(context.Background(), "tcp", addr)
}

// DialAddressTimeout connects to another node.
func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(a.Addr, timeout)
}

// PacketCh is what comes by UDP.
func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }

// StreamCh is what comes by TCP.
func (s *sockets) StreamCh() <-chan net.Conn { return s.streams }

// Shutdown closes both and waits for what reads from them.
func (s *sockets) Shutdown() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		err = errors.Join(s.udp.Close(), s.tcp.Close())
	})
	s.group.Wait()
	return err
}

var _ memberlist.NodeAwareTransport = (*sockets)(nil)
