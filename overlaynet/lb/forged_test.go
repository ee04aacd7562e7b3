package lb_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// forge sends one datagram from the box with a source that is not its own.
func forge(t *testing.T, from box, source, to string) {
	t.Helper()
	src := netip.MustParseAddrPort(source)
	nettest.Run(t, "nsenter", "--net="+from.path, "sh", "-c", fmt.Sprintf("ip addr add %s/%d dev lo nodad", src.Addr(), src.Addr().BitLen()))
	nettest.Must(t, nettest.In(t, from.path, func() error {
		c, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(src)}).Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("?"))
		return err
	}))
	nettest.Run(t, "nsenter", "--net="+from.path, "sh", "-c", fmt.Sprintf("ip addr del %s/%d dev lo", src.Addr(), src.Addr().BitLen()))
}

// answerAs asks from a port of the namespace at path; "" is no answer.
func answerAs(t *testing.T, path string, port uint16, to string) string {
	t.Helper()
	var got string
	nettest.Must(t, nettest.In(t, path, func() error {
		c, err := (&net.Dialer{LocalAddr: &net.UDPAddr{Port: int(port)}}).Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buf := make([]byte, 100)
		n, _ := c.Read(buf)
		got = string(buf[:n])
		return nil
	}))
	return got
}

// One container makes a connection known that somebody else seems to have begun,
// and its mate answers it: it gets to no other network, not out of an internal
// one, to no tunnel of the node and no other address of it.
func TestForgedConnectionsLeadNowhere(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	out := nettest.Outside(t)
	nettest.Run(t, "nsenter", "--net="+out, "sh", "-c", "ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd00::/8 via 2001:db8::1")
	l := newVIPLab(t)
	evil, mate, victim, in, inMate := l.run(1, 2), l.run(1, 3), l.run(2, 2), l.run(9, 2), l.run(9, 3)
	for _, b := range []box{in, inMate} {
		nettest.Run(t, "nsenter", "--net="+b.path, "sh", "-c", "ip route add default via 10.9.0.1; ip -6 route add default via fd09::1")
	}
	l.apply(overlaynet.Change{Inbound: &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.7"): true}}})
	for _, network := range []string{"udp4", "udp6"} {
		nettest.Serve(t, victim.path, "victim", network, ":5000")
		nettest.Serve(t, in.path, "inner", network, ":5002")
		nettest.Serve(t, out, "world", network, ":5000")
		nettest.Serve(t, "", "node", network, ":4789")
	}
	nettest.Serve(t, "", "node", "udp", "192.0.2.1:5001")
	nettest.Serve(t, "", "node", "udp", "[2001:db8::1]:5001")
	for i, x := range []struct {
		what       string
		from, mate box
		as         string // whom the first packet seems to come from: who is reached by the answer
	}{
		{"another network", evil, mate, "10.2.0.2:5000"},
		{"another network", evil, mate, "[fd02::2]:5000"},
		{"an internal network", evil, mate, "10.9.0.2:5002"},
		{"an internal network", evil, mate, "[fd09::2]:5002"},
		{"out of an internal network", in, inMate, "192.0.2.9:5000"},
		{"out of an internal network", in, inMate, "[2001:db8::9]:5000"},
		{"from an internal network to another", in, inMate, "10.2.0.2:5000"},
		{"the tunnel of the node", evil, mate, "10.1.0.1:4789"},
		{"the tunnel of the node", evil, mate, "[fd01::1]:4789"},
		{"the node from an internal network", in, inMate, "192.0.2.1:5001"},
		{"the node from an internal network", in, inMate, "[2001:db8::1]:5001"},
	} {
		port := uint16(6000 + i)
		to := x.mate.v4
		if netip.MustParseAddrPort(x.as).Addr().Is6() {
			to = x.mate.v6
		}
		if got := answerAs(t, x.mate.path, port, x.as); got != "" {
			t.Fatalf("%s, %s: without a forged packet: %q", x.what, x.as, got)
		}
		nettest.Run(t, "conntrack", "-F")
		forge(t, x.from, x.as, at(to, port))
		if got := answerAs(t, x.mate.path, port, x.as); got != "" {
			t.Errorf("%s, %s: %q", x.what, x.as, got)
		}
		nettest.Run(t, "conntrack", "-F")
	}
}

// A published port does not answer into another network whom a container names
// as the sender, and nobody who asks from the port of a node's tunnel: the answer
// would arrive there as a frame.
func TestPublishedPortsAnswerNoForgedSenders(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	out := nettest.Outside(t)
	l := newVIPLab(t)
	evil, mate, victim := l.run(1, 2), l.run(1, 3), l.run(2, 2)
	nodes := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.9"): true, netip.MustParseAddr("2001:db8::9"): true}
	l.apply(overlaynet.Change{
		Inbound: &overlaynet.Inbound{Port: 4789, Peers: nodes},
		Frontends: map[overlaynet.Frontend][]overlaynet.Backend{
			front("udp", "0.0.0.0:8080"): {{Addr: mate.v4, Port: 80}}, front("udp", "[::]:8080"): {{Addr: mate.v6, Port: 80}}},
	})
	for _, to := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
		if got := answerAs(t, out, 5000, to); got == "" {
			t.Errorf("a node: no answer from %s", to)
		}
		if got := answerAs(t, out, 4789, to); got != "" {
			t.Errorf("the tunnel of a node: %q from %s", got, to)
		}
		if got := answerAs(t, victim.path, 5000, to); got == "" {
			t.Errorf("another network: no answer from %s", to)
		}
	}
	for source, to := range map[string]string{"10.2.0.2:5001": "192.0.2.1:8080", "[fd02::2]:5001": "[2001:db8::1]:8080"} {
		nettest.Must(t, nettest.In(t, victim.path, func() error {
			pc, err := net.ListenPacket("udp", source)
			if err != nil {
				return err
			}
			defer pc.Close()
			forge(t, evil, source, to)
			_ = pc.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			buf := make([]byte, 100)
			if n, from, err := pc.ReadFrom(buf); err == nil {
				t.Errorf("%s did not ask and got %q from %s", source, buf[:n], from)
			}
			return nil
		}))
	}
}

// A container may be a router: what it brings from elsewhere reaches its own
// network, also when that is another one of ours.
func TestRoutersReachTheirNetwork(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newVIPLab(t)
	router, web := l.run(1, 2), l.run(1, 3)
	l.run(2, 2)
	l.serve(1, 1, false, web)
	v4, v6 := vip(1, 1)
	for source, to := range map[string][]string{
		"10.8.0.5/32": {at(web.v4, 80), at(v4, 80)}, "fd08::5/128": {at(web.v6, 80), at(v6, 80)},
		"10.2.0.77/32": {at(web.v4, 80)}, "fd02::77/128": {at(web.v6, 80)},
	} {
		p := netip.MustParsePrefix(source)
		via := router.v4
		if p.Addr().Is6() {
			via = router.v6
		}
		nettest.Run(t, "nsenter", "--net="+router.path, "ip", "addr", "add", source, "dev", "lo", "nodad")
		nettest.Run(t, "nsenter", "--net="+web.path, "ip", "route", "add", source, "via", via.String())
		for _, addr := range to {
			if got := askAs(t, router, p.Addr(), addr); got != "c3" {
				t.Errorf("%s asks %s: %q", source, addr, got)
			}
		}
	}
}
