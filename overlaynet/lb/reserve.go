package lb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Ports reserves host ports by listening on them. The packet filter takes
// connections away before they arrive, but for those that the kernel cannot
// translate: these are forwarded.
type Ports struct {
	log  *slog.Logger
	most int // connections that are forwarded at once, of one port
}

var _ overlaynet.Ports = (*Ports)(nil)

// NewPorts returns Ports for the network namespace of the process.
func NewPorts(log *slog.Logger) *Ports {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Ports{log: log, most: tcpMost}
}

// Ephemeral is 49153 to 65535, or what the kernel uses for outgoing
// connections when that does not end below it.
func (p *Ports) Ephemeral() (first, last uint16) {
	var lo, hi uint16
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 49153, 65535
	}
	if _, err := fmt.Sscan(string(b), &lo, &hi); err != nil || hi < lo {
		return 49153, 65535
	}
	return lo, hi
}

// Reserve listens on f. The error is a *overlaynet.PortTaken when another
// process has the port.
func (p *Ports) Reserve(f overlaynet.Frontend) (overlaynet.Reservation, error) {
	network := f.Protocol + "4"
	if f.Addr.Is6() {
		network = f.Protocol + "6"
	}
	addr := netip.AddrPortFrom(f.Addr, f.Port).String()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reservation{log: p.log.With("port", f.String()), cancel: cancel}
	lc := net.ListenConfig{Control: onlyV6(f.Addr)}
	var err error
	switch f.Protocol {
	case "tcp":
		var ln net.Listener
		if ln, err = lc.Listen(context.Background(), network, addr); err == nil {
			r.closer = ln
			r.work.Go(func() { r.serveTCP(ctx, ln, p.most) })
		}
	case "udp":
		var pc net.PacketConn
		if pc, err = lc.ListenPacket(context.Background(), network, addr); err == nil {
			r.closer = pc
			r.work.Go(func() { r.serveUDP(pc.(*net.UDPConn)) })
		}
	default: // sctp: the kernel may lack it; the filter alone decides
		return r, nil
	}
	switch {
	case err == nil:
		return r, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &overlaynet.PortTaken{Frontend: f, Holder: holder(f)}
	case f.Addr.IsUnspecified() && f.Addr.Is6() && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)):
		return r, nil // a host without IPv6
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("reserve port %s: %s", f, strings.TrimPrefix(err.Error(), "bind: "))
}

// onlyV6 keeps an IPv6 wildcard from claiming the IPv4 port too.
func onlyV6(a netip.Addr) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) {
			if a.Is6() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
			}
		}); cerr != nil {
			return cerr
		}
		return err
	}
}

type reservation struct {
	log    *slog.Logger
	closer interface{ Close() error } // nil when nothing is held
	cancel context.CancelFunc         // ends what is forwarded
	work   sync.WaitGroup             // all that forwards
	to     atomic.Pointer[[]overlaynet.Backend]
	next   atomic.Uint32
}

// Forward sets where connections to the socket itself go.
func (r *reservation) Forward(to []overlaynet.Backend) { r.to.Store(&to) }

// Close frees the port and ends the connections that are forwarded: nobody
// serves it any more.
func (r *reservation) Close() error {
	r.cancel()
	if r.closer == nil {
		return nil
	}
	err := r.closer.Close()
	r.work.Wait()
	return err
}

func (r *reservation) leadsTo(b overlaynet.Backend) bool {
	to := r.to.Load()
	return to != nil && slices.Contains(*to, b)
}

func (r *reservation) backend() (overlaynet.Backend, bool) {
	to := r.to.Load()
	if to == nil || len(*to) == 0 {
		return overlaynet.Backend{}, false
	}
	return (*to)[int(r.next.Add(1))%len(*to)], true
}
