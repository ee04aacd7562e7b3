package link_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// An address outside the subnet that the packet filter translates is answered
// by containers of this node, of another and by the asker itself, though the
// answers stay within the network; what is not translated is left alone.
func TestTranslatedWithinANetwork(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 2)
	w := wire{n: 1, v6: true, mtu: 1450}
	boxes := x.connect(w, 2)
	a, near, far := boxes[0], boxes[1], boxes[2]
	s := a.host.segment(w)
	for name, b := range map[string]box{"self": a, "near": near, "far": far} {
		nettest.Serve(t, b.path, name, "tcp", ":80")
		nettest.Serve(t, b.path, name, "udp", ":80")
		b.serveEcho()
	}
	rules := "add table inet t; add chain inet t pre { type nat hook prerouting priority dstnat; }; add chain inet t post { type nat hook postrouting priority srcnat; };"
	for i, b := range []box{a, near, far} {
		rules += fmt.Sprintf("add rule inet t pre iifname %[1]s ip daddr 172.16.1.%[2]d dnat ip to %[3]s; add rule inet t pre iifname %[1]s ip6 daddr fd01:1::%[2]d dnat ip6 to %[4]s;",
			s.Bridge, i+1, b.addr(false), b.addr(true))
	}
	rules += fmt.Sprintf("add rule inet t post ip saddr . ip daddr { %[1]s . %[1]s } masquerade; add rule inet t post ip6 saddr . ip6 daddr { %[2]s . %[2]s } masquerade", a.addr(false), a.addr(true))
	a.host.sh("nft '%s'", rules)
	for _, network := range []string{"tcp", "udp"} {
		for i, name := range []string{"self", "near", "far"} {
			from4, from6 := a.addr(false), a.addr(true)
			if name == "self" {
				from4, from6 = "10.1.0.1", "fd00:1::1"
			}
			nettest.WantAsk(t, "virtual", a.path, network, fmt.Sprintf("172.16.1.%d:80", i+1), name+" "+from4)
			nettest.WantAsk(t, "virtual", a.path, network, fmt.Sprintf("[fd01:1::%d]:80", i+1), name+" "+from6)
		}
	}
	for _, v6 := range []bool{false, true} {
		nettest.WantAsk(t, "directly", a.path, "tcp", net.JoinHostPort(far.addr(v6), "80"), "far "+a.addr(v6))
		for _, to := range []box{near, far} {
			if err := a.fragments(to, v6, 9000); err != nil {
				t.Errorf("datagram in fragments to %s: %v", to.addr(v6), err)
			}
		}
	}
	if got := near.hear(t, a, "udp4", "10.1.255.255"); got != "hello from "+a.addr(false) {
		t.Errorf("broadcast: %q", got)
	}
	if got := near.hear(t, a, "udp6", "ff02::1%eth1"); !strings.HasPrefix(got, "hello from fe80::") {
		t.Errorf("multicast: %q", got)
	}
}

// fragments sends a datagram that is larger than the MTU and wants it back.
func (b box) fragments(to box, v6 bool, size int) error {
	return nettest.In(b.host.t, b.path, func() error {
		c, err := net.Dial("udp", net.JoinHostPort(to.addr(v6), "7"))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, size)
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_, err = c.Read(buf)
		return err
	})
}

// hear listens for what from sends to an address of many.
func (b box) hear(t *testing.T, from box, network, to string) (said string) {
	var pc net.PacketConn
	nettest.Must(t, nettest.In(t, b.path, func() (err error) { pc, err = net.ListenPacket(network, ":99"); return err }))
	defer pc.Close()
	nettest.Must(t, nettest.In(t, from.path, func() error {
		c, err := net.Dial(network, net.JoinHostPort(to, "99"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	}))
	_ = pc.SetReadDeadline(time.Now().Add(2 * time.Second))
	buf := make([]byte, 100)
	n, addr, err := pc.ReadFrom(buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n]) + " from " + addr.(*net.UDPAddr).IP.String()
}

// Sandboxes that exist get the routes and the MTU that their network gets
// later, and keep what they have set themselves.
func TestSandboxesFollowTheirNetwork(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "fd01::1/64")
	seg.Tunnel = &overlaynet.Tunnel{Device: mark + "x", VNI: 5000, Port: 4789, Local: netip.MustParseAddr("127.0.0.1")}
	path := ""
	set := func(l *link.Links) {
		t.Helper()
		nettest.Must(t, l.SetSegment(ctx, seg))
		p := plug(seg, mark, 7)
		p.Gateway4, p.Gateway6 = netip.Addr{}, netip.Addr{} // as in an internal network
		var err error
		path, err = l.SetSandbox(ctx, "c7", []overlaynet.Plug{p})
		nettest.Must(t, err)
	}
	want := func(mtu int, routes ...string) {
		t.Helper()
		m := fmt.Sprint("mtu ", mtu, " ")
		if got := nettest.Run(t, "sh", "-c", "ip -o link show "+seg.Bridge+"; ip -o link show "+mark+"v7; ip -o link show "+mark+"x"); strings.Count(got, m) != 3 {
			t.Errorf("want %s:\n%s", m, got)
		}
		if got := inside(t, path, "ip", "-o", "link", "show", "eth0"); !strings.Contains(got, m) {
			t.Errorf("inside: want %s:\n%s", m, got)
		}
		got := inside(t, path, "sh", "-c", "ip route; ip -6 route")
		for _, r := range routes {
			if !strings.Contains(got, r) {
				t.Errorf("want route %s:\n%s", r, got)
			}
		}
	}
	seg.MTU = 1500
	set(l)
	want(1500)
	seg.MTU = 1450
	seg.Virtual = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24"), netip.MustParsePrefix("fd99::/112")}
	set(l)
	want(1450, "10.99.0.0/24 via 10.1.0.1 dev eth0", "fd99::/112 via fd01::1 dev eth0")
	seg.MTU = 8950
	set(l)
	want(8950, "10.99.0.0/24 via 10.1.0.1 dev eth0")
	inside(t, path, "ip", "route", "replace", "10.99.0.0/24", "via", "10.1.0.77")
	inside(t, path, "ip", "-6", "route", "del", "fd99::/112")
	set(l)
	set(open(t, dir)) // the next process looks once
	want(8950, "10.99.0.0/24 via 10.1.0.77 dev eth0", "fd99::/112 via fd01::1 dev eth0")
	if n := l.MTUOf(netip.MustParseAddr("10.1.0.1")); n != 8950 {
		t.Errorf("MTU of the gateway's link: %d", n)
	}
	if n := l.MTUOf(netip.MustParseAddr("203.0.113.1")); n != 0 {
		t.Errorf("MTU of an address that nobody has: %d", n)
	}
}

// A container that sends with the address of another node's container gets
// nothing of its traffic.
func TestNobodyTakesOverARemoteContainer(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 2)
	w := wire{n: 1, mtu: 1450}
	boxes := x.connect(w, 2)
	a, thief, far := boxes[0], boxes[1], boxes[2]
	nettest.Serve(t, far.path, "far", "tcp", ":80")
	nettest.WantAsk(t, "before", a.path, "tcp", far.addr(false)+":80", "far "+a.addr(false))
	thief.sh("ip link set eth1 address %s; ip addr add %s/16 dev eth1", macOf(2, 2), far.addr(false))
	nettest.Serve(t, thief.path, "thief", "tcp", ":80")
	thief.sh("ip neigh replace 10.1.9.9 lladdr 02:00:00:00:00:09 dev eth1; echo > /dev/udp/10.1.9.9/9 || true")
	nettest.WantAsk(t, "after", a.path, "tcp", far.addr(false)+":80", "far "+a.addr(false))
}

// Containers of a network that keeps them apart reach each other neither on
// their node nor on another, but the gateway.
func TestSeparateOnEveryNode(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 2)
	w := wire{n: 1, mtu: 1450, separate: true}
	boxes := x.connect(w, 2)
	for i, b := range boxes {
		nettest.Serve(t, b.path, fmt.Sprint(i), "tcp", ":80")
	}
	for _, to := range boxes[1:] {
		nettest.WantNone(t, "apart", boxes[0].path, "tcp", to.addr(false)+":80")
	}
	nettest.WantAsk(t, "its gateway's side", fmt.Sprintf("/proc/%d/ns/net", x.hosts[0].pid), "tcp", boxes[0].addr(false)+":80", "0 10.1.0.1")
}
