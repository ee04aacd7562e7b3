package netlab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Client is an HTTP client that stands on the host, without proxies.
func (h *Host) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.dial, DisableKeepAlives: true}}
}

// dial connects from inside the host's network namespace. Its thread is not
// given back to the scheduler but ends, because it is in another namespace.
func (h *Host) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		conn, err := h.dialHere(network, addr)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialHere moves the calling thread. An address of numbers is dialled without
// further goroutines, so the socket is made on this thread.
func (h *Host) dialHere(network, addr string) (net.Conn, error) {
	ns, err := os.Open("/run/netns/" + h.NetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter %s: %w", h.NetNS, err)
	}
	return net.Dial(network, addr)
}
