package lb

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	dialTime = 5 * time.Second
	udpIdle  = 90 * time.Second // as the kernel's nf_conntrack_udp_timeout_stream, roughly
	udpMost  = 1024             // clients of one port at once
)

// serveTCP forwards until the listener is closed.
func (r *reservation) serveTCP(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return
		}
		go r.forwardTCP(c.(*net.TCPConn))
	}
}

func (r *reservation) forwardTCP(in *net.TCPConn) {
	defer in.Close()
	to, ok := r.backend()
	if !ok {
		_ = in.SetLinger(0) // reset: nobody is there
		return
	}
	c, err := net.DialTimeout("tcp", to, dialTime) //nolint:noctx // the timeout is its context
	if err != nil {
		r.log.Debug("forward", "to", to, "err", err)
		_ = in.SetLinger(0)
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	var wg sync.WaitGroup
	for _, d := range [][2]*net.TCPConn{{out, in}, {in, out}} {
		wg.Go(func() {
			_, _ = io.Copy(d[0], d[1]) // splice: no copy through user space
			_ = d[0].CloseWrite()
		})
	}
	wg.Wait()
}

// serveUDP forwards datagrams until the socket is closed; each client has a
// socket of its own towards the backend.
func (r *reservation) serveUDP(pc *net.UDPConn) {
	var mu sync.Mutex
	clients := map[netip.AddrPort]*net.UDPConn{}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range clients {
			c.Close()
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
		full := len(clients) >= udpMost
		mu.Unlock()
		if c == nil {
			to, ok := r.backend()
			if !ok || full {
				continue
			}
			conn, err := net.Dial("udp", to) //nolint:noctx // it does not block: nothing is sent
			if err != nil {
				continue
			}
			c = conn.(*net.UDPConn)
			mu.Lock()
			clients[from] = c
			mu.Unlock()
			go func() {
				answers(pc, c, from)
				mu.Lock()
				delete(clients, from)
				mu.Unlock()
				c.Close()
			}()
		}
		_ = c.SetReadDeadline(time.Now().Add(udpIdle))
		_, _ = c.Write(buf[:n])
	}
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
