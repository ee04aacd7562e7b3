package server

import (
	"net/http"
	"sync"
)

// coalescer writes an answer in as few and as early pieces as the client
// takes them: what comes while a write is under way goes out with the next
// one. Nothing waits for a timer, and a burst costs few system calls.
type coalescer struct {
	w     http.ResponseWriter
	ctl   *http.ResponseController
	done  chan struct{}
	mu    sync.Mutex
	wake  sync.Cond // on mu: buf, err or ended changed
	buf   []byte    // guarded by mu; not yet written
	err   error     // guarded by mu; of the first write that failed
	ended bool      // guarded by mu
}

// maxPending is how much waits before the producer does.
const maxPending = 256 << 10

// newCoalescer sends the headers and starts writing; Close ends it.
func newCoalescer(w http.ResponseWriter) *coalescer {
	c := &coalescer{w: w, ctl: http.NewResponseController(w), done: make(chan struct{})}
	c.wake.L = &c.mu
	w.WriteHeader(http.StatusOK)
	_ = c.ctl.Flush() // the first write tells when the client has gone
	go c.run()
	return c
}

func (c *coalescer) run() {
	defer close(c.done)
	var spare []byte
	for {
		c.mu.Lock()
		for len(c.buf) == 0 && !c.ended {
			c.wake.Wait()
		}
		out := c.buf
		c.buf = spare[:0]
		c.wake.Broadcast()
		c.mu.Unlock()
		if len(out) == 0 {
			return
		}
		_, err := c.w.Write(out)
		if err == nil {
			err = c.ctl.Flush()
		}
		spare = out
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.wake.Broadcast()
			c.mu.Unlock()
			return
		}
	}
}

// add appends to the buffer through f and waits while too much is pending.
func (c *coalescer) add(f func(buf []byte) []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) > maxPending && c.err == nil {
		c.wake.Wait()
	}
	if c.err != nil {
		return c.err
	}
	c.buf = f(c.buf)
	c.wake.Broadcast()
	return nil
}

// Write appends p.
func (c *coalescer) Write(p []byte) (int, error) {
	if err := c.add(func(buf []byte) []byte { return append(buf, p...) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what is left and returns the first error of a write.
func (c *coalescer) Close() error {
	c.mu.Lock()
	c.ended = true
	c.wake.Broadcast()
	c.mu.Unlock()
	<-c.done
	return c.err
}
