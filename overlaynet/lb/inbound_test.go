package lb_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// To the port of the tunnels only nodes may send: not a stranger, not the host's
// own users, not a container that writes a node's address on its packets.
func TestTunnelsHearNodesOnly(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	out := nettest.Outside(t)
	nettest.Run(t, "nsenter", "--net="+out, "sh", "-c", "ip addr add 192.0.2.10/24 dev eth0; ip addr add 2001:db8::a/64 dev eth0 nodad preferred_lft 0")
	l := newVIPLab(t)
	evil := l.run(1, 2)
	for _, network := range []string{"udp4", "udp6"} {
		nettest.Serve(t, "", "node", network, ":4789") // where the kernel would have the tunnel
	}
	nettest.Serve(t, evil.path, "box", "udp4", ":4789")
	nettest.WantAsk(t, "without tunnels", out, "udp", "192.0.2.1:4789", "node 192.0.2.9")
	tell := func(peers ...string) {
		in := &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{}}
		for _, p := range peers {
			in.Peers[netip.MustParseAddr(p)] = true
		}
		l.apply(overlaynet.Change{Inbound: in})
	}
	nettest.Run(t, "conntrack", "-F")
	tell("192.0.2.10", "2001:db8::a")
	nettest.WantNone(t, "a stranger", out, "udp", "192.0.2.1:4789")
	nettest.WantNone(t, "a stranger", out, "udp", "[2001:db8::1]:4789")
	nettest.WantNone(t, "the host itself", "", "udp", "127.0.0.1:4789")
	nettest.WantNone(t, "a container", evil.path, "udp", "10.1.0.1:4789")
	nettest.Run(t, "conntrack", "-F")
	tell("192.0.2.9", "2001:db8::9", "10.1.0.2")
	nettest.WantAsk(t, "a node", out, "udp", "192.0.2.1:4789", "node 192.0.2.9")
	nettest.WantAsk(t, "a node", out, "udp", "[2001:db8::1]:4789", "node 2001:db8::9")
	nettest.WantNone(t, "a container with a node's address", evil.path, "udp", "10.1.0.1:4789")
	nettest.WantNone(t, "a container with a node's address", evil.path, "udp", "192.0.2.1:4789")
	other := l.run(1, 3)
	nettest.WantAsk(t, "tunnels of containers' own", other.path, "udp", "10.1.0.2:4789", "box 10.1.0.3")
	b, err := os.ReadFile("/proc/net/nf_conntrack")
	nettest.Must(t, err)
	for line := range strings.Lines(string(b)) {
		_, ask, _ := strings.Cut(line, " dport=")
		if (strings.Contains(line, "192.0.2.9") || strings.Contains(line, "0db8:")) && strings.HasPrefix(ask, "4789 ") {
			t.Errorf("packets of the tunnels are tracked: %s", line)
		}
	}
	tell("2001:db8::9")
	nettest.WantNone(t, "a node that has left", out, "udp", "192.0.2.1:4789")
	l.apply(overlaynet.Change{Inbound: &overlaynet.Inbound{}})
	nettest.WantAsk(t, "without tunnels again", out, "udp", "192.0.2.1:4789", "node 192.0.2.9")
}

// A container's packets leave with its node's address, from which other nodes
// take frames of every network: to the port of their tunnels it gets nowhere.
func TestContainersReachNoTunnelOfOtherNodes(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	out := nettest.Outside(t)
	l := newVIPLab(t)
	evil := l.run(1, 2)
	for _, network := range []string{"udp4", "udp6"} {
		nettest.Serve(t, out, "node", network, ":4789")
		nettest.Serve(t, out, "node", network, ":5000")
	}
	nettest.WantAsk(t, "somebody's tunnel", evil.path, "udp", "192.0.2.9:4789", "node 192.0.2.1")
	nettest.Run(t, "conntrack", "-F")
	in := &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.9"): true, netip.MustParseAddr("2001:db8::9"): true}}
	l.apply(overlaynet.Change{Inbound: in})
	nettest.WantNone(t, "a node's tunnel", evil.path, "udp", "192.0.2.9:4789")
	nettest.WantNone(t, "a node's tunnel", evil.path, "udp", "[2001:db8::9]:4789")
	nettest.WantAsk(t, "another port of a node", evil.path, "udp", "192.0.2.9:5000", "node 192.0.2.1")
	nettest.WantAsk(t, "another port of a node", evil.path, "udp", "[2001:db8::9]:5000", "node 2001:db8::1")
}

// A closed input chain is its owner's: the command to type is told, and no more
// once it was typed.
func TestClosedInputIsTold(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	for _, x := range []struct{ what, rules, want string }{
		{"plain nftables", "add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }",
			"nft insert rule inet filter input ip saddr 192.0.2.9 udp dport 4789 accept"},
		{"iptables", "add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }",
			"iptables -I INPUT -p udp -s 192.0.2.9 --dport 4789 -j ACCEPT"},
		{"ufw", "add table ip filter; add chain ip filter INPUT { type filter hook input priority 0; policy drop; }; add chain ip filter ufw-user-input",
			"ufw allow proto udp from 192.0.2.9 to any port 4789"},
		{"firewalld", "add table inet firewalld; add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy accept; }; add chain inet firewalld filter_IN_public_allow",
			"firewall-cmd --permanent --add-port=4789/udp && firewall-cmd --reload"},
	} {
		l := newVIPLab(t)
		l.run(1, 2)
		nettest.Run(t, "nft", x.rules)
		l.apply(overlaynet.Change{Inbound: &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.9"): true}}})
		if got := strings.Join(l.rules.Warnings(), "\n"); !strings.Contains(got, x.want) {
			t.Errorf("%s: warnings %q, want %q", x.what, got, x.want)
		}
		if out := strings.Fields(x.want); out[0] == "nft" { // the command works, and is enough
			nettest.Run(t, "nft", strings.Join(out[1:], " "))
		} else {
			chain := map[string]string{"iptables": "ip filter INPUT", "ufw": "ip filter ufw-user-input", "firewalld": "inet firewalld filter_IN_public_allow"}[x.what]
			nettest.Run(t, "nft", "add rule "+chain+" udp dport 4789 accept")
		}
		_, err := l.rules.Check(ctx)
		nettest.Must(t, err)
		if got := l.rules.Warnings(); len(got) != 0 {
			t.Errorf("%s: still warned: %q", x.what, got)
		}
		nettest.Must(t, l.rules.Clear(ctx))
		nettest.Run(t, "nft", "flush ruleset")
	}
}

// An idle connection is remembered for weeks, half open for a day.
func TestIdleConnectionsAreRemembered(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newVIPLab(t)
	client, web := l.run(1, 2), l.run(1, 3)
	serveEcho(t, web)
	l.serve(1, 1, false, web)
	v4, v6 := vip(1, 1)
	for _, v := range []netip.Addr{v4, v6} {
		c := open(t, client, at(v, 81))
		_, err := say(c, "hello")
		nettest.Must(t, err)
	}
	list := nettest.Run(t, "conntrack", "-L", "-p", "tcp")
	long := 0
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) > 3 && f[3] == "ESTABLISHED" && len(f[2]) == 7 && f[2] > "1700000" {
			long++
		}
	}
	if long != 2 {
		t.Errorf("%d of 2 connections are remembered for 20 days:\n%s", long, list)
	}
}
