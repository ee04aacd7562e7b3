package lb_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// pathMTU sends datagrams that must not be split until the kernel has heard
// how large they may be, and returns that.
func pathMTU(t *testing.T, path, network, addr string) (mtu int) {
	t.Helper()
	nettest.Must(t, nettest.In(t, path, func() error {
		c, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		level, discover, do, ask := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU
		if network == "udp6" {
			level, discover, do, ask = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU
		}
		var serr error
		control := func(f func(fd int) error) error {
			return errors.Join(raw.Control(func(fd uintptr) { serr = f(int(fd)) }), serr)
		}
		if err := control(func(fd int) error { return unix.SetsockoptInt(fd, level, discover, do) }); err != nil {
			return err
		}
		first := 0
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
			if err := control(func(fd int) (err error) { mtu, err = unix.GetsockoptInt(fd, level, ask); return err }); err != nil {
				return err
			}
			if first == 0 {
				first = mtu
			}
			if mtu < first {
				first = mtu
			}
			_, _ = c.Write(make([]byte, mtu-48)) // the headers of either family fit
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 2000)); err == nil {
				return nil // it has arrived
			}
		}
		return fmt.Errorf("%s to %s: no datagram of %d bytes or less arrives", network, addr, mtu)
	}))
	return mtu
}

// Who sends too large packets hears of it, wherever the narrow place is.
func TestMeshPathMTU(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 2)
	task := l.hosts[2].run(5, false)
	l.publish(5)
	nettest.WantAsk(t, "small", l.near, "udp4", "192.0.2.1:8080", "c5 192.0.2.9")
	for network, addr := range map[string]string{"udp4": "192.0.2.1:8080", "udp6": "[2001:db8::1]:8080"} {
		if got := pathMTU(t, l.near, network, addr); got != 1430 {
			t.Errorf("the mesh is narrow: %s: %d", network, got)
		}
	}
	// The task's network is narrower than the mesh: its node says so. It needs a
	// route to the client, as nearly every machine has, though it does not use it.
	l.hosts[2].sh("ip route add default via 192.0.2.254; ip -6 route add default via 2001:db8::254")
	bridge := l.hosts[2].segment().Bridge
	l.hosts[2].sh("ip link set %s mtu 1300; ip link set %sv5 mtu 1300", bridge, bridge[:6])
	sh(t, task, "ip link set eth0 mtu 1300")
	for network, addr := range map[string]string{"udp4": "192.0.2.1:8080", "udp6": "[2001:db8::1]:8080"} {
		if got := pathMTU(t, l.behind, network, addr); got != 1300 {
			t.Errorf("the task's network is narrow: %s: %d", network, got)
		}
	}
	// The client's link is narrow at the node's end: the task hears of it.
	sh(t, "", "ip link set far mtu 1280")
	const size = 1 << 20
	nettest.Accept(t, task, "tcp", ":90", func(c net.Conn) { _, _ = c.Write(make([]byte, size)) })
	l.alsoPublish(90)
	for _, addr := range []string{"192.0.2.1:9090", "[2001:db8::1]:9090"} {
		nettest.Must(t, nettest.In(t, l.behind, func() error {
			c, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", addr)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := io.Copy(io.Discard, c); n != size || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				return fmt.Errorf("%s: %d bytes of %d: %w", addr, n, size, err)
			}
			return nil
		}))
	}
}
