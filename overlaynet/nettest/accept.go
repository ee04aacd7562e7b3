package nettest

import (
	"net"
	"sync"
	"testing"
)

// Accept has serve answer each connection of a TCP network to the address in the
// namespace at path ("": the host's), all side by side; a connection ends when its serve
// returns. It returns where it listens. With the test everything ends: what is
// still open is closed, and the last serve waited for.
func Accept(t testing.TB, path, network, addr string, serve func(net.Conn)) net.Addr {
	t.Helper()
	var ln net.Listener
	Must(t, In(t, path, func() (err error) { ln, err = net.Listen(network, addr); return err }))
	s := &server{open: map[net.Conn]bool{}}
	t.Cleanup(func() {
		ln.Close()
		s.end()
		s.all.Wait()
	})
	s.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() {
				defer s.drop(c)
				if s.keep(c) {
					serve(c)
				}
			})
		}
	})
	return ln.Addr()
}

type server struct {
	all sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // guarded by mu; nil: it is over
}

func (s *server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.open[c] = true
	}
	return s.open != nil
}

func (s *server) drop(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
	s.open = nil
}
