package link_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// see is everything that a host has of a network, but what comes and goes by
// itself; the numbers of links are left out.
func (h *host) see(s overlaynet.Segment) string {
	return h.sh(`for l in %[1]s %[2]s; do ip -d -o link show $l 2>/dev/null | sed -E 's/^[0-9]+: //; s/(hello|gc|tcn|topology_change)_timer +[0-9.]+//g; s/ageing_timer [0-9.]+//' || true; done
		ip -o addr show dev %[1]s 2>/dev/null | sed -E 's/^[0-9]+: //' | sort || true
		{ ip route show dev %[1]s; ip -6 route show dev %[1]s; ip neigh show dev %[1]s nud permanent; } 2>/dev/null | sed 's/ linkdown//' | sort || true
		bridge fdb show dev %[2]s 2>/dev/null | grep -v 'master .* permanent$' | sort || true`, s.Bridge, s.Tunnel.Device)
}

// What somebody changes by hand comes back when the segment is set again, and
// setting what is right writes nothing.
func TestTunnelsAreRepaired(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 2)
	w := wire{n: 1, v6: true, mtu: 1450}
	boxes := x.connect(w, 2)
	a, far := boxes[0], boxes[2]
	nettest.Serve(t, far.path, "far", "tcp", ":80")
	h, s := a.host, a.host.segment(w)
	good := h.see(s)
	if !strings.Contains(good, "neigh_suppress on") || !strings.Contains(good, "nf_call_iptables 1") || !strings.Contains(good, "nolearning") || strings.Count(good, macOf(2, 2)) != 4 {
		t.Errorf("not as it should be:\n%s", good)
	}
	for _, damage := range []string{
		"",
		"ip link del TUNNEL",
		"ip link set TUNNEL down",
		"ip link set TUNNEL nomaster",
		"ip link set TUNNEL mtu 1300",
		"ip link set BRIDGE mtu 1300",
		"bridge link set dev TUNNEL flood on learning on neigh_suppress off",
		"ip link set BRIDGE type bridge nf_call_iptables 0",
		"bridge fdb del MAC dev TUNNEL self",
		"bridge fdb del MAC dev TUNNEL master",
		"bridge fdb replace MAC dev TUNNEL dst 192.0.2.99 self",
		"bridge fdb append 00:00:00:00:00:00 dev TUNNEL dst 192.0.2.2 self",
		"bridge fdb add 02:00:00:00:00:99 dev TUNNEL dst 192.0.2.2 self; bridge fdb add 02:00:00:00:00:99 dev TUNNEL master static",
		"ip neigh del IP dev BRIDGE",
		"ip -6 neigh flush dev BRIDGE nud permanent",
		"ip neigh replace IP dev BRIDGE lladdr 02:00:00:00:00:98 nud permanent",
		"ip neigh add 10.1.77.77 dev BRIDGE lladdr 02:00:00:00:00:98 nud permanent",
		"ip link del TUNNEL; ip link add TUNNEL type vxlan id 77 dstport 4789 local 192.0.2.1",
		"ip link del TUNNEL; ip link add TUNNEL type vxlan id 4097 dstport 4790 local 192.0.2.1",
		"ip link del TUNNEL; ip link add TUNNEL type vxlan id 4097 dstport 4789",
		"ip link del TUNNEL; ip link add TUNNEL type bridge",
		"ip link del TUNNEL; ip link add MARKxold type vxlan id 4097 dstport 4789 local 192.0.2.1 nolearning",
		"ip link del BRIDGE",
		"ip link set BRIDGE down",
	} {
		before := h.do(order{Op: "writes"}).N
		if damage != "" {
			h.sh("%s", strings.NewReplacer("BRIDGE", s.Bridge, "TUNNEL", s.Tunnel.Device, "MARK", h.mark, "MAC", macOf(2, 2), "IP", far.addr(false)).Replace(damage))
		}
		h.do(order{Op: "segment", Segment: s})
		for _, b := range boxes[:2] {
			h.do(order{Op: "sandbox", ID: fmt.Sprintf("n1c%d", b.c), Plugs: []overlaynet.Plug{h.plug(w, b.c)}})
		}
		if n := h.do(order{Op: "writes"}).N - before; (n == 0) != (damage == "") {
			t.Errorf("%q: %d writes", damage, n)
		}
		var got string
		for range 20 { // the kernel settles
			if got = h.see(s); got == good {
				break
			}
		}
		if got != good {
			t.Errorf("%q: repaired to\n%s\nwant\n%s", damage, got, good)
		}
		for _, v6 := range []bool{false, true} {
			nettest.WantAsk(t, damage, a.path, "tcp", net.JoinHostPort(far.addr(v6), "80"), "far "+a.addr(v6))
		}
	}
}

// sent is how many frames the host's tunnel has sent. Those for nobody do not
// count: the bridge's own reports of multicast groups end in the device.
func (h *host) sent(s overlaynet.Segment) (n int) {
	var links []struct {
		Stats64 struct {
			Tx struct{ Packets int }
		}
	}
	nettest.Must(h.t, json.Unmarshal([]byte(h.sh("ip -j -s link show %s", s.Tunnel.Device)), &links))
	return links[0].Stats64.Tx.Packets
}

// Only what is for a container of another node leaves the node: no broadcast,
// no multicast, no question for an address, nothing for an unknown one.
func TestNothingElseLeavesTheNode(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 2)
	w := wire{n: 1, v6: true, mtu: 1450}
	boxes := x.connect(w, 2)
	a, near, far := boxes[0], boxes[1], boxes[2]
	s := a.host.segment(w)
	near.serveEcho()
	far.serveEcho()
	if n := a.host.sent(s); n != 0 {
		t.Errorf("%d frames were sent before anything was", n)
	}
	say := func(network, to string) {
		_ = nettest.In(t, a.path, func() error {
			c, err := net.Dial(network, to)
			if err != nil {
				t.Errorf("%s: %v", to, err)
				return err
			}
			defer c.Close()
			for range 3 {
				_, err = c.Write([]byte("hello"))
			}
			return err
		})
	}
	a.sh("ip neigh add 10.1.9.10 dev eth1 lladdr 02:00:00:00:00:10; ip neigh add fd00:1::910 dev eth1 lladdr 02:00:00:00:00:11")
	for _, to := range []string{"10.1.9.9:7", "10.1.9.10:7", "10.1.255.255:7", "255.255.255.255:7", "224.0.0.251:5353"} {
		say("udp4", to)
	}
	for _, to := range []string{"[fd00:1::909]:7", "[fd00:1::910]:7", "[ff02::1%eth1]:7", "[ff02::fb%eth1]:5353"} {
		say("udp6", to)
	}
	for _, v6 := range []bool{false, true} {
		nettest.Must(t, a.echo(near, v6, 100)) // behind all of the above
	}
	if n := a.host.sent(s); n != 0 {
		t.Errorf("%d frames left the node", n)
	}
	for i, v6 := range []bool{false, true} {
		nettest.Must(t, a.echo(far, v6, 100))
		if n := a.host.sent(s); n != i+1 {
			t.Errorf("one question and answer: %d frames left the node, want %d", n, i+1)
		}
	}
}

// A container that has moved to another node is reached there at once, with
// the connection that was made before.
func TestMovedContainer(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 3)
	w := wire{n: 1, v6: true, mtu: 1450}
	boxes := x.connect(w, 1)
	asker, old, third := boxes[0], boxes[1], boxes[2]
	p := old.host.plug(w, old.c)
	moved := func(n int) box {
		to := x.hosts[n]
		p.Host, p.Segment = fmt.Sprintf("%svm", to.mark), to.segment(w)
		path := to.do(order{Op: "sandbox", ID: "moved", Plugs: []overlaynet.Plug{p}}).Path
		b := box{to, w, old.c, path}
		b.settle(old.addr(true))
		return b
	}
	tell := func(at *host) {
		for _, h := range x.hosts {
			list := []overlaynet.Remote{}
			for _, b := range []box{asker, third} {
				if b.host != h {
					list = append(list, b.host.remote(w, b.c))
				}
			}
			if at != h {
				r := old.host.remote(w, old.c)
				r.Via = at.addr(false)
				list = append(list, r)
			}
			h.do(order{Op: "remotes", Segment: h.segment(w), Remotes: list})
		}
	}
	check := func(at box, name string) {
		t.Helper()
		nettest.Serve(t, at.path, name, "tcp", ":80")
		for _, from := range []box{asker, third} {
			for _, v6 := range []bool{false, true} {
				nettest.WantAsk(t, name, from.path, "tcp", net.JoinHostPort(old.addr(v6), "80"), name+" "+from.addr(v6))
			}
		}
	}
	check(old, "first")
	x.hosts[1].do(order{Op: "no sandbox", ID: "n1c2", Plugs: []overlaynet.Plug{old.host.plug(w, old.c)}})
	there := moved(2)
	tell(x.hosts[2])
	check(there, "second")
	x.hosts[2].do(order{Op: "no sandbox", ID: "moved", Plugs: []overlaynet.Plug{p}})
	there = moved(0) // where the asker is
	tell(x.hosts[0])
	check(there, "third")
}

// The zero desire leaves no trace, in whatever order it comes.
func TestTunnelsLeaveNoTrace(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 1)
	h := x.hosts[0]
	all := func() string {
		return h.sh("ip -o link | sed -E 's/^[0-9]+: //'; ip -o addr; ip route; ip -6 route; { ip neigh; bridge fdb; } | grep -v dev.uplink || true; ls %s/netns 2>/dev/null || true", h.dir)
	}
	before := all()
	w := wire{n: 1, v6: true, mtu: 1450}
	s := h.segment(w)
	list := []overlaynet.Remote{{MAC: macOf(9, 9), Addrs: []netip.Addr{addrOf(s.Gateways[0], 9, 9)}, Via: h.addr(false)}}
	make := func() {
		t.Helper()
		h.do(order{Op: "segment", Segment: s})
		h.do(order{Op: "sandbox", ID: "c", Plugs: []overlaynet.Plug{h.plug(w, 2)}})
		h.do(order{Op: "remotes", Segment: s, Remotes: list})
	}
	bare := s
	bare.Tunnel = nil
	for name, end := range map[string]func(){
		"segment goes": func() {
			h.do(order{Op: "no sandbox", ID: "c", Plugs: []overlaynet.Plug{h.plug(w, 2)}})
			h.do(order{Op: "no segment", Segment: s})
		},
		"tunnel goes first": func() {
			h.do(order{Op: "segment", Segment: bare})
			if out := h.sh("ip -o link; ip neigh"); strings.Contains(out, s.Tunnel.Device) || strings.Contains(out, "PERMANENT") {
				t.Errorf("the tunnel or what is behind it is left:\n%s", out)
			}
			h.do(order{Op: "remotes", Segment: bare})
			h.do(order{Op: "no sandbox", ID: "c", Plugs: []overlaynet.Plug{h.plug(w, 2)}})
			h.do(order{Op: "no segment", Segment: bare})
		},
		"swept": func() { h.do(order{Op: "sweep"}) },
		"only the tunnel is swept": func() {
			h.do(order{Op: "sweep", All: []overlaynet.Segment{bare}, IDs: []string{"c"}, Plugs: []overlaynet.Plug{h.plug(w, 2)}})
			if out := h.sh("ip -o link"); strings.Contains(out, s.Tunnel.Device) || !strings.Contains(out, s.Bridge) {
				t.Errorf("after sweeping the tunnel:\n%s", out)
			}
			h.do(order{Op: "sweep"})
		},
	} {
		make()
		end()
		if after := all(); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", name, before, after)
		}
	}
}

// Deleted entries, routes and tunnels are noticed; what we do ourselves is not.
func TestDamageIsNoticed(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	h := newLab(t, 1).hosts[0]
	w := wire{n: 1, v6: true, mtu: 1450}
	s := h.segment(w)
	remotes := func(n int, via netip.Addr) (list []overlaynet.Remote) {
		for c := range n {
			list = append(list, overlaynet.Remote{MAC: macOf(9, c), Via: via, Addrs: []netip.Addr{addrOf(s.Gateways[0], 9, c), addrOf(s.Gateways[1], 9, c)}})
		}
		return list
	}
	h.do(order{Op: "segment", Segment: s})
	far, other := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	for _, list := range [][]overlaynet.Remote{remotes(50, far), remotes(20, other), nil, remotes(300, far), remotes(10, far)} {
		h.do(order{Op: "remotes", Segment: s, Remotes: list})
		h.do(order{Op: "segment", Segment: s})
	}
	h.do(order{Op: "sandbox", ID: "c", Plugs: []overlaynet.Plug{h.plug(w, 2)}})
	h.do(order{Op: "no sandbox", ID: "c", Plugs: []overlaynet.Plug{h.plug(w, 2)}})
	ip, mac := remotes(4, far)[3].Addrs, macOf(9, 3)
	for i, damage := range []string{
		"ip link set lo up", // none: what came before is heard of by the time the next is
		fmt.Sprintf("ip neigh del %s dev %s", ip[0], s.Bridge),
		fmt.Sprintf("ip -6 neigh del %s dev %s", ip[1], s.Bridge),
		fmt.Sprintf("ip neigh replace %s dev %s lladdr 02:00:00:00:00:09", ip[0], s.Bridge),
		fmt.Sprintf("bridge fdb del %s dev %s self", mac, s.Tunnel.Device),
		fmt.Sprintf("bridge fdb del %s dev %s master", mac, s.Tunnel.Device),
		fmt.Sprintf("bridge fdb replace %s dev %s dst 192.0.2.66 self", mac, s.Tunnel.Device),
		"ip route del 10.1.0.0/16",
		"ip -6 route del fd00:1::/64",
		"ip link set " + s.Tunnel.Device + " down",
		"ip link set " + s.Tunnel.Device + " nomaster",
		"ip link del " + s.Tunnel.Device,
	} {
		h.sh("%s", damage)
		if i == 0 {
			if n := h.do(order{Op: "woken"}).N; n != 0 {
				t.Errorf("woken %d times by what we did ourselves", n)
			}
			continue
		}
		nettest.Until(t, damage+": noticed", func() bool { return h.do(order{Op: "woken"}).N > 0 })
		h.do(order{Op: "segment", Segment: s})
		h.do(order{Op: "woken"})
	}
}
