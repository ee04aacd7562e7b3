package lb_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// vipLab is one host with networks 1, 2, ...: 10.N.0.0/24 and fdNN::/64, whose
// virtual addresses are 10.N.9.0/24 and fdNN:0:0:9::/112.
type vipLab struct {
	t     testing.TB
	dir   string
	links *link.Links
	rules *lb.Rules
}

// box is a container of one network.
type box struct {
	name   string
	path   string
	v4, v6 netip.Addr
}

func newVIPLab(t testing.TB) *vipLab {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		t.Skip("SKIPPED: this kernel has no br_netfilter")
	}
	l := &vipLab{t: t, dir: t.TempDir()}
	var err error
	l.links, err = link.New(link.Config{RunDir: l.dir, Spare: -1})
	nettest.Must(t, err)
	t.Cleanup(func() { l.links.Close() })
	l.rules = lb.New(lb.Config{RunDir: l.dir})
	return l
}

func (l *vipLab) segment(n int) *overlaynet.Segment {
	return &overlaynet.Segment{
		ID: fmt.Sprint("net", n), Name: fmt.Sprint("net", n), Bridge: overlaynet.Mark(l.dir) + fmt.Sprint("b", n), Masquerade: true, Internal: n == 9,
		Gateways: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd%02d::1/64", n))},
		Virtual:  []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.9.0/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd%02d:0:0:9::/112", n))},
	}
}

func (l *vipLab) apply(c overlaynet.Change) {
	l.t.Helper()
	nettest.Must(l.t, l.rules.Apply(context.Background(), c))
}

// run starts box C of network N: 10.N.0.C, fdNN::C, called "cC".
func (l *vipLab) run(n, c int) box {
	l.t.Helper()
	s := l.segment(n)
	ctx := context.Background()
	nettest.Must(l.t, l.links.SetSegment(ctx, *s))
	b := box{name: fmt.Sprint("c", c), v4: netip.MustParseAddr(fmt.Sprintf("10.%d.0.%d", n, c)), v6: netip.MustParseAddr(fmt.Sprintf("fd%02d::%x", n, c))}
	p := overlaynet.Plug{
		Segment: *s, Host: fmt.Sprintf("%sv%d.%d", overlaynet.Mark(l.dir), n, c), Interface: "eth0", MAC: overlaynet.MAC(b.v4),
		Addrs: []netip.Prefix{netip.PrefixFrom(b.v4, 24), netip.PrefixFrom(b.v6, 64)},
	}
	if !s.Internal {
		p.Gateway4, p.Gateway6 = s.Gateways[0].Addr(), s.Gateways[1].Addr()
	}
	var err error
	b.path, err = l.links.SetSandbox(ctx, fmt.Sprintf("n%dc%d", n, c), []overlaynet.Plug{p})
	nettest.Must(l.t, err)
	l.t.Cleanup(func() { _ = unix.Unmount(b.path, unix.MNT_DETACH) })
	for _, network := range []string{"tcp", "udp4", "udp6"} {
		nettest.Serve(l.t, b.path, b.name, network, ":80")
	}
	l.apply(overlaynet.Change{Segments: map[string]*overlaynet.Segment{s.ID: s}, Locals: map[netip.Addr]bool{b.v4: true, b.v6: true}})
	return b
}

// vip is the I-th virtual address of network N.
func vip(n, i int) (v4, v6 netip.Addr) {
	return netip.MustParseAddr(fmt.Sprintf("10.%d.9.%d", n, i)), netip.MustParseAddr(fmt.Sprintf("fd%02d:0:0:9::%x", n, i))
}

// serve makes the I-th virtual address of network N lead to these.
func (l *vipLab) serve(n, i int, sticky bool, to ...box) {
	l.t.Helper()
	v4, v6 := vip(n, i)
	p4, p6 := &overlaynet.Pool{Sticky: sticky}, &overlaynet.Pool{Sticky: sticky}
	for _, b := range to {
		p4.Backends = append(p4.Backends, overlaynet.Backend{Addr: b.v4})
		p6.Backends = append(p6.Backends, overlaynet.Backend{Addr: b.v6})
	}
	id := l.segment(n).ID
	l.apply(overlaynet.Change{Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{{Network: id, Addr: v4}: p4, {Network: id, Addr: v6}: p6}})
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// serveEcho repeats each line of a connection to port 81, after its name.
func serveEcho(t testing.TB, b box) {
	t.Helper()
	nettest.Accept(t, b.path, "tcp", ":81", func(c net.Conn) {
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(c, b.name, " ", line)
		}
	})
}

// open connects from the box and stays.
func open(t testing.TB, from box, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	nettest.Must(t, nettest.In(t, from.path, func() (err error) { c, err = net.DialTimeout("tcp", addr, 5*time.Second); return err }))
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends a line and returns the answer, or the error within two seconds.
func say(c net.Conn, line string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(answer), err
}

// ping sends an ICMP echo request from the box; refused is an answer that says
// that nobody is there.
func ping(t testing.TB, from box, to netip.Addr) (refused bool, err error) {
	t.Helper()
	network, local, ask, answer, unreachable := "ip4:icmp", "0.0.0.0", byte(8), byte(0), byte(3)
	if to.Is6() {
		network, local, ask, answer, unreachable = "ip6:ipv6-icmp", "::", 128, 129, 1
	}
	err = nettest.In(t, from.path, func() error {
		c, err := net.ListenPacket(network, local)
		if err != nil {
			return err
		}
		defer c.Close()
		m := []byte{ask, 0, 0, 0, 0x12, 0x34, 0, 1, 'd', 'h', 'o', 'w'}
		if to.Is4() { // the kernel adds it for IPv6
			binary.BigEndian.PutUint16(m[2:], checksum(m))
		}
		if _, err := c.WriteTo(m, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		for buf := make([]byte, 1500); ; {
			n, who, err := c.ReadFrom(buf)
			switch {
			case err != nil:
				return err
			case n > 0 && buf[0] == unreachable:
				refused = true
				return errors.New("unreachable, says " + who.String())
			case n > 0 && buf[0] == answer && who.String() == to.String():
				return nil
			}
		}
	})
	return refused, err
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
