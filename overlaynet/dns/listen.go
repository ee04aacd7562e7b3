package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	idleTime  = 10 * time.Second // of a TCP connection without a question
	writeTime = 5 * time.Second
	connsMost = 256 // TCP connections of one network
	connsOne  = 64  // of one container
	queueSize = 1 << 20
)

// listener serves one gateway address.
type listener struct {
	server  *Server
	at      netip.Addr
	network string
	port    uint16
	udp     *net.UDPConn
	tcp     *net.TCPListener
	stop    context.CancelFunc // ends its errands

	mu    sync.Mutex
	conns map[*net.TCPConn]netip.Addr // guarded by mu; nil: closed
}

// open listens on both protocols with the same port.
func (s *Server) open(a netip.Addr) (*listener, error) {
	var last error
	for try, port := 0, uint16(53); try < 8; try, port = try+1, 0 {
		pc, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		if err != nil {
			if last = err; errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
				continue
			}
			return nil, err
		}
		port = pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		if err != nil {
			pc.Close()
			last = err
			continue
		}
		deepen(pc)
		ctx, stop := context.WithCancel(context.Background())
		l := &listener{server: s, at: a, port: port, udp: pc, tcp: ln, stop: stop, conns: map[*net.TCPConn]netip.Addr{}}
		s.closed.Go(func() { l.serveUDP(ctx) })
		s.closed.Go(func() { l.serveTCP(ctx) })
		return l, nil
	}
	return nil, last
}

// deepen lets a burst of questions wait: beyond the system's limit where we
// may, up to it otherwise.
func deepen(pc *net.UDPConn) {
	raw, err := pc.SyscallConn()
	if err != nil {
		return
	}
	forced := false
	_ = raw.Control(func(fd uintptr) {
		forced = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, queueSize) == nil
	})
	if !forced {
		_ = pc.SetReadBuffer(queueSize)
	}
}

// serveUDP answers in turn: what is ours takes a few microseconds, the rest is
// left to errands.
func (l *listener) serveUDP(ctx context.Context) {
	in, out := make([]byte, ednsSize), make([]byte, 0, plainSize)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.server.log.Warn("resolver: receive", "address", l.at, "error", err)
			time.Sleep(50 * time.Millisecond) // not known to happen; not in circles if it does
			continue
		}
		reply, e := l.server.answer(in[:n], from.Addr().Unmap().WithZone(""), l.at, false, out)
		if e != nil {
			e.packet = slices.Clone(e.packet)
			reply = l.server.upstream.start(ctx, e, func(reply []byte) { _, _ = l.udp.WriteToUDPAddrPort(reply, from) })
		} else if cap(reply) > cap(out) {
			out = reply
		}
		if reply != nil {
			_, _ = l.udp.WriteToUDPAddrPort(reply, from)
		}
	}
}

func (l *listener) serveTCP(ctx context.Context) {
	for {
		c, err := l.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // no more files: they come back
			continue
		}
		from, ok := l.keep(c)
		if !ok {
			c.Close()
			continue
		}
		l.server.closed.Go(func() {
			defer l.drop(c)
			l.serveConn(ctx, c, from)
		})
	}
}

// keep remembers a connection, unless there are too many.
func (l *listener) keep(c *net.TCPConn) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}, false
	}
	from := ap.Addr().Unmap().WithZone("")
	l.mu.Lock()
	defer l.mu.Unlock()
	same := 0
	for _, a := range l.conns {
		if a == from {
			same++
		}
	}
	if l.conns == nil || len(l.conns) >= connsMost || same >= connsOne {
		return from, false
	}
	l.conns[c] = from
	return from, true
}

func (l *listener) drop(c *net.TCPConn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// serveConn answers the questions of one connection in turn.
func (l *listener) serveConn(ctx context.Context, c *net.TCPConn, from netip.Addr) {
	var in, out []byte
	for {
		_ = c.SetReadDeadline(time.Now().Add(idleTime))
		var err error
		if in, err = readTCP(c, in); err != nil {
			return
		}
		reply, e := l.server.answer(in, from, l.at, true, out)
		if e != nil {
			done := make(chan []byte, 1)
			if reply = l.server.upstream.start(ctx, e, func(r []byte) { done <- r }); reply == nil {
				reply = <-done
			}
		} else {
			out = reply
		}
		if reply == nil {
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(writeTime))
		if writeTCP(c, reply) != nil {
			return
		}
	}
}

// close ends the listener's goroutines and what they have asked the world.
func (l *listener) close() {
	l.stop()
	l.udp.Close()
	l.tcp.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// readTCP reads one message with its length before it, into b if it fits.
func readTCP(r io.Reader, b []byte) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if cap(b) < n {
		b = make([]byte, n)
	}
	b = b[:n]
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeTCP writes one message in one packet with its length.
func writeTCP(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(m)+2), uint16(len(m))), m...))
	return err
}
