package lb

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
)

const (
	dialTime = 5 * time.Second
	udpIdle  = 90 * time.Second // as the kernel's nf_conntrack_udp_timeout_stream, roughly
	udpMost  = 1024             // clients of one port at once
	tcpMost  = 1024             // connections of one port at once: each has two sockets and two pipes

	acceptPause = 100 * time.Millisecond // after an accept that failed
)

// serveTCP forwards until ctx ends, which also closes the listener. Clients
// beyond most wait in the kernel's queue.
func (r *reservation) serveTCP(ctx context.Context, ln net.Listener, most int) {
	room := make(chan struct{}, most)
	for {
		select {
		case <-ctx.Done():
			return
		case room <- struct{}{}:
		}
		c, err := ln.Accept()
		if err != nil {
			<-room
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			r.log.Warn("forward: accept", "err", err) // no descriptors are left, say
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		r.work.Go(func() {
			defer func() { <-room }()
			r.forwardTCP(ctx, c.(*net.TCPConn))
		})
	}
}

// forwardTCP forwards one connection until both ends have said all, or ctx ends.
func (r *reservation) forwardTCP(ctx context.Context, in *net.TCPConn) {
	defer in.Close()
	to, ok := r.backend()
	if !ok {
		_ = in.SetLinger(0) // reset: nobody is there
		return
	}
	c, err := dial(ctx, "tcp", to)
	if err != nil {
		r.log.Debug("forward", "to", to.Addr, "err", err)
		_ = in.SetLinger(0)
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
	var wg sync.WaitGroup
	for _, d := range [][2]*net.TCPConn{{out, in}, {in, out}} {
		wg.Go(func() {
			_, _ = io.Copy(d[0], d[1]) // splice: no copy through user space
			_ = d[0].CloseWrite()
		})
	}
	wg.Wait()
}

type udpClient struct {
	conn *net.UDPConn
	to   overlaynet.Backend
}

// serveUDP forwards datagrams until the socket is closed; each client has a
// socket of its own towards the backend.
func (r *reservation) serveUDP(pc *net.UDPConn) {
	var mu sync.Mutex
	clients := map[netip.AddrPort]udpClient{}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range clients {
			c.conn.Close()
		}
	}()
	buf := make([]byte, 2048) // grows to the largest datagram when one is truncated
	for {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n == len(buf) && n < 64<<10 {
			buf = make([]byte, 64<<10) // this one may be cut short; UDP may lose
			continue
		}
		mu.Lock()
		c := clients[from]
		full := len(clients) >= udpMost && c.conn == nil
		mu.Unlock()
		if c.conn != nil && !r.leadsTo(c.to) { // it gets nothing new
			c.conn.Close()
			c.conn = nil
		}
		if c.conn == nil {
			to, ok := r.backend()
			if !ok || full {
				continue
			}
			conn, err := dial(context.Background(), "udp", to) // it does not block: nothing is sent
			if err != nil {
				continue
			}
			c = udpClient{conn.(*net.UDPConn), to}
			mu.Lock()
			clients[from] = c
			mu.Unlock()
			r.work.Go(func() {
				answers(pc, c.conn, from)
				mu.Lock()
				if clients[from] == c {
					delete(clients, from)
				}
				mu.Unlock()
				c.conn.Close()
			})
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(udpIdle))
		_, _ = c.conn.Write(buf[:n])
	}
}

// dial connects to a backend; to one of another node by the mesh.
func dial(ctx context.Context, network string, to overlaynet.Backend) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	if to.Remote {
		d.Control = throughMesh
	}
	return d.DialContext(ctx, network, netip.AddrPortFrom(to.Addr, to.Port).String())
}

func answers(pc, c *net.UDPConn, to netip.AddrPort) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := pc.WriteToUDPAddrPort(buf[:n], to); err != nil {
			return
		}
	}
}
