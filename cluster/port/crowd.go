package port

import (
	"errors"
	"net"
	"sync"
)

// crowd counts what is bounded as a whole and by source address: once it is half
// full, one source gets a quarter at most, so that no single stranger keeps the
// others out, and the burst of a node passes while there is room.
type crowd struct {
	max int

	mu      sync.Mutex
	all     int
	sources map[string]int
}

var errCrowded = errors.New("too many at a time")

func newCrowd(max int) *crowd { return &crowd{max: max, sources: map[string]int{}} }

func (c *crowd) enter(conn net.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	src := source(conn)
	if c.all >= c.max || c.all >= c.max/2 && c.sources[src] >= max(c.max/4, 1) {
		return errCrowded
	}
	c.all++
	c.sources[src]++
	return nil
}

func (c *crowd) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	src := source(conn)
	c.all--
	if c.sources[src]--; c.sources[src] == 0 {
		delete(c.sources, src)
	}
}

func source(c net.Conn) string {
	addr := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
