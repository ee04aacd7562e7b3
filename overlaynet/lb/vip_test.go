package lb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// A service's address answers in its own network, over every protocol, and the
// service sees who asks.
func TestVirtualAddressLeadsToTheService(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newVIPLab(t)
	client, web := l.run(1, 2), l.run(1, 3)
	l.serve(1, 1, false, web)
	v4, v6 := vip(1, 1)
	for _, x := range []struct {
		network string
		vip     netip.Addr
		seen    netip.Addr
	}{{"tcp", v4, client.v4}, {"udp", v4, client.v4}, {"tcp", v6, client.v6}, {"udp", v6, client.v6}} {
		nettest.WantAsk(t, "through the service's address", client.path, x.network, at(x.vip, 80), "c3 "+x.seen.String())
	}
	for _, v := range []netip.Addr{v4, v6} {
		if _, err := ping(t, client, v); err != nil {
			t.Errorf("ping %s: %v", v, err)
		}
	}
	// To itself, where it must not see its own address as the sender's.
	nettest.WantAsk(t, "its own service", web.path, "tcp", at(v4, 80), "c3 10.1.0.1")
	nettest.WantAsk(t, "its own service", web.path, "tcp", at(v6, 80), "c3 fd01::1")
	nettest.WantAsk(t, "its own service", web.path, "udp", at(v4, 80), "c3 10.1.0.1")
	nettest.WantAsk(t, "its own service", web.path, "udp", at(v6, 80), "c3 fd01::1")
	for _, v := range []netip.Addr{v4, v6} {
		if _, err := ping(t, web, v); err != nil {
			t.Errorf("ping its own service, %s: %v", v, err)
		}
	}
	// A service of one network is nowhere else, and one that was is nowhere.
	nettest.WantAsk(t, "direct", client.path, "tcp", at(web.v4, 80), "c3 "+client.v4.String())
	l.apply(overlaynet.Change{Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{{Network: "net1", Addr: v4}: nil}})
	wantRefused(t, "a service that is gone", client, "tcp", at(v4, 80))
	if repaired, err := l.rules.Check(context.Background()); repaired || err != nil {
		t.Errorf("check: %v, %v", repaired, err)
	}
}

// wantRefused wants an error at once, not after the client's patience.
func wantRefused(t testing.TB, what string, from box, network, addr string) {
	t.Helper()
	start := time.Now()
	_, err := nettest.Ask(t, from.path, network, addr)
	if took := time.Since(start); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s: %s %s: %v after %s; want a refusal", what, network, addr, err, took)
	}
}

// Networks share nothing: not the addresses of their services either.
func TestVirtualAddressesOfOtherNetworks(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	out := nettest.Outside(t)
	nettest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.9")
	nettest.Run(t, "ip", "-6", "route", "add", "default", "via", "2001:db8::9")
	l := newVIPLab(t)
	a, b, in, in2 := l.run(1, 2), l.run(2, 2), l.run(9, 2), l.run(9, 3)
	l.serve(1, 1, false, a)
	l.serve(2, 1, false, b)
	l.serve(9, 1, false, in)
	nettest.WantAsk(t, "inside an internal network", in2.path, "tcp", "10.9.9.1:80", "c2 10.9.0.3")
	nettest.WantAsk(t, "inside an internal network", in2.path, "tcp", "[fd09:0:0:9::1]:80", "c2 fd09::3")
	for _, from := range []struct {
		what string
		box
		own int
	}{{"network 1", a, 1}, {"network 2", b, 2}, {"internal", in2, 9}} {
		for _, n := range []int{1, 2, 9} {
			v4, v6 := vip(n, 1)
			if n == from.own {
				continue
			}
			// Also when it routes there itself.
			nettest.Run(t, "nsenter", "--net="+from.path, "sh", "-c", fmt.Sprintf("ip route replace %s via 10.%d.0.1; ip -6 route replace %s via fd%02d::1", v4, from.own, v6, from.own))
			for _, network := range []string{"tcp", "udp"} {
				nettest.WantNone(t, from.what, from.path, network, at(v4, 80))
				nettest.WantNone(t, from.what, from.path, network, at(v6, 80))
			}
		}
	}
	nettest.Run(t, "nsenter", "--net="+out, "sh", "-c", "ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd00::/8 via 2001:db8::1")
	for _, n := range []int{1, 2, 9} {
		v4, v6 := vip(n, 1)
		for _, addr := range []string{at(v4, 80), at(v6, 80)} {
			nettest.WantNone(t, "from outside", out, "tcp", addr)
			nettest.WantNone(t, "from the host", "", "tcp", addr)
		}
	}
	nettest.WantAsk(t, "still", a.path, "tcp", "10.1.9.1:80", "c2 10.1.0.1")
}

func TestEqualSpread(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newVIPLab(t)
	client := l.run(1, 2)
	boxes := []box{l.run(1, 3), l.run(1, 4), l.run(1, 5)}
	l.serve(1, 1, false, boxes...)
	v4, v6 := vip(1, 1)
	for _, addr := range []string{at(v4, 80), at(v6, 80)} {
		count := map[string]int{}
		for range 300 {
			got, err := nettest.Ask(t, client.path, "tcp", addr)
			nettest.Must(t, err)
			count[strings.Fields(got)[0]]++
		}
		if count["c3"] != 100 || count["c4"] != 100 || count["c5"] != 100 {
			t.Errorf("%s: %v", addr, count)
		}
	}
}

// Of a sticky service each client keeps its backend, over IPv4 and IPv6 and
// published ports, and when a backend goes only its own clients move.
func TestStickyClients(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	const clients = 100
	l := newVIPLab(t)
	many := l.run(1, 2)
	var script strings.Builder
	for i := range clients {
		fmt.Fprintf(&script, "ip addr add 10.1.0.%d/24 dev eth0; ip addr add fd01::1:%x/64 dev eth0 nodad;", 100+i, i)
	}
	nettest.Run(t, "nsenter", "--net="+many.path, "sh", "-c", script.String())
	boxes := []box{l.run(1, 3), l.run(1, 4), l.run(1, 5), l.run(1, 6)}
	v4, v6 := vip(1, 1)
	published := front("tcp", "0.0.0.0:8080")
	publish := func(to ...box) {
		l.serve(1, 1, true, to...)
		var backs []overlaynet.Backend
		for _, b := range to {
			backs = append(backs, overlaynet.Backend{Addr: b.v4, Port: 80})
		}
		l.apply(overlaynet.Change{Frontends: map[overlaynet.Frontend][]overlaynet.Backend{published: backs}, Sticky: map[overlaynet.Frontend]bool{published: true}})
	}
	for what, x := range map[string]struct {
		addr string
		from func(i int) netip.Addr
	}{
		"IPv4":      {at(v4, 80), func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", 100+i)) }},
		"IPv6":      {at(v6, 80), func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd01::1:%x", i)) }},
		"published": {"10.1.0.1:8080", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.1.0.%d", 100+i)) }},
	} {
		ask := func() (by [clients]string) {
			for i := range clients {
				by[i] = askAs(t, many, x.from(i), x.addr)
			}
			return by
		}
		publish(boxes...)
		before := ask()
		if ask() != before {
			t.Errorf("%s: clients moved without a reason", what)
		}
		publish(boxes[0], boxes[1], boxes[3])
		after, moved, used := ask(), 0, map[string]int{}
		for i := range clients {
			used[before[i]]++
			switch {
			case before[i] == "c5" && after[i] == "c5":
				t.Errorf("%s: client %d is with a backend that is gone", what, i)
			case before[i] != "c5" && after[i] != before[i]:
				moved++
			}
		}
		if moved != 0 || len(used) != 4 {
			t.Errorf("%s: %d clients moved whose backend stayed; backends had %v", what, moved, used)
		}
		publish(boxes...)
		if ask() != before {
			t.Errorf("%s: with the backend back, clients are elsewhere than before", what)
		}
	}
}

// askAs asks from one of a box's addresses and returns the server's name.
func askAs(t testing.TB, b box, from netip.Addr, addr string) (name string) {
	t.Helper()
	nettest.Must(t, nettest.In(t, b.path, func() error {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 5 * time.Second}).Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err == nil {
			name = strings.Fields(string(buf[:n]))[0]
		}
		return err
	}))
	return name
}

// With nobody behind it, a service's address refuses at once: whoever asks anew,
// and whoever is in the middle of something.
func TestEmptyPoolRefuses(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newVIPLab(t)
	client, web := l.run(1, 2), l.run(1, 3)
	serveEcho(t, web)
	l.serve(1, 1, false, web)
	v4, v6 := vip(1, 1)
	var open4 []net.Conn
	for _, v := range []netip.Addr{v4, v6} {
		c := open(t, client, at(v, 81))
		if got, err := say(c, "hello"); got != "c3 hello" {
			t.Fatalf("%s: %q, %v", v, got, err)
		}
		open4 = append(open4, c)
	}
	l.serve(1, 1, false)
	nettest.Must(t, l.links.Forget(context.Background(), overlaynet.Flows{Addrs: []netip.Addr{web.v4, web.v6}}))
	for i, v := range []netip.Addr{v4, v6} {
		wantRefused(t, "new", client, "tcp", at(v, 80))
		wantRefused(t, "new", client, "udp", at(v, 80))
		start := time.Now()
		if refused, err := ping(t, client, v); !refused {
			t.Errorf("ping %s: %v", v, err)
		}
		_, err := say(open4[i], "are you there?")
		if took := time.Since(start); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: running connection: %v after %s", v, err, took)
		}
	}
	l.serve(1, 1, false, web)
	nettest.WantAsk(t, "back", client.path, "tcp", at(v4, 80), "c3 10.1.0.2")
	nettest.WantAsk(t, "back", client.path, "udp", at(v6, 80), "c3 fd01::2")
}

// What is connected stays so when its backend leaves the pool (it drains), when
// others come, and when the table is written anew.
func TestPoolChangeKeepsConnections(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	l := newVIPLab(t)
	client, web, other := l.run(1, 2), l.run(1, 3), l.run(1, 4)
	serveEcho(t, web)
	l.serve(1, 1, false, web)
	v4, v6 := vip(1, 1)
	conns := []net.Conn{open(t, client, at(v4, 81)), open(t, client, at(v6, 81))}
	wantSame := func(what string) {
		t.Helper()
		for _, c := range conns {
			if got, err := say(c, what); got != "c3 "+what {
				t.Errorf("%s: %q, %v", what, got, err)
			}
		}
	}
	wantSame("first")
	l.serve(1, 1, false, web, other)
	wantSame("one came")
	l.serve(1, 1, false, other)
	wantSame("drains")
	nettest.WantAsk(t, "new ones", client.path, "tcp", at(v4, 80), "c4 10.1.0.2")
	l.serve(1, 1, false)
	wantSame("all drain")
	nettest.Run(t, "nft", "flush", "ruleset")
	if repaired, err := l.rules.Check(ctx); !repaired || err != nil {
		t.Errorf("check: %v, %v", repaired, err)
	}
	wantSame("written anew")
}

// A connection that the kernel has forgotten (its table was flushed, or full,
// or it was idle for longer than any timeout) goes on or is reset: neither end
// waits for what never comes.
func TestForgottenConnections(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	nettest.Outside(t) // as on most hosts, there is a way out
	nettest.Run(t, "ip", "route", "add", "default", "via", "192.0.2.9")
	nettest.Run(t, "ip", "-6", "route", "add", "default", "via", "2001:db8::9")
	l := newVIPLab(t)
	client, web, other := l.run(1, 2), l.run(1, 3), l.run(1, 4)
	for _, b := range []box{web, other} {
		serveEcho(t, b)
	}
	forget := func() {
		nettest.Must(t, l.links.Forget(context.Background(), overlaynet.Flows{Addrs: []netip.Addr{web.v4, web.v6, other.v4, other.v6}}))
	}
	v4, v6 := vip(1, 1)
	for _, v := range []netip.Addr{v4, v6} {
		l.serve(1, 1, false, web)
		c := open(t, client, at(v, 81))
		_, err := say(c, "hello")
		nettest.Must(t, err)
		forget()
		if got, err := say(c, "again"); got != "c3 again" {
			t.Errorf("%s, to the only backend: %q, %v; want it to go on", v, got, err)
		}
		l.serve(1, 1, false, other)
		forget()
		start := time.Now()
		_, err = say(c, "and now?")
		if took := time.Since(start); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, to another backend: %v after %s; want a reset", v, err, took)
		}
		// Its end alone, without data: nothing but that packet says that it was there.
		c = open(t, client, at(v, 81))
		_, err = say(c, "hello")
		nettest.Must(t, err)
		forget()
		nettest.Must(t, c.(*net.TCPConn).CloseWrite())
		start = time.Now()
		_ = c.SetReadDeadline(start.Add(2 * time.Second))
		if _, err = c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, half closed: %v after %s; want a reset", v, err, time.Since(start))
		}
	}
}
