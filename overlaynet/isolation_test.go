package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func dualNet(name string, n int) stack.Network {
	return stack.Network{Name: name, EnableIPv6: true, Subnets: []stack.Subnet{{CIDR: fmt.Sprintf("10.70.%d.0/24", n)}, {CIDR: fmt.Sprintf("fd00:70:%d::/64", n)}}}
}

// Two networks, an internal one, and a neighbour of the host that routes to
// them all: over both families, nothing passes that nobody allowed.
func TestIsolationOverIPv6(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	inner := dualNet("inner", 3)
	inner.Internal = true
	n := newNode(t, t.TempDir(), newSource(dualNet("front", 1), dualNet("back", 2), inner))
	front := n.connect(overlaynet.Sandbox{ID: "front", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	back := n.connect(overlaynet.Sandbox{ID: "back", Attachments: on("back")})
	in1 := n.connect(overlaynet.Sandbox{ID: "in1", Attachments: on("inner"), Ports: []stack.Port{{HostPort: 8082, ContainerPort: 80}}})
	in2 := n.connect(overlaynet.Sandbox{ID: "in2", Attachments: on("inner")})
	all := map[string]*overlaynet.Connected{"front": front, "back": back, "in1": in1, "in2": in2}
	for name, c := range all {
		serve(t, c.NetNS, name, "tcp", ":80")
	}
	serve(t, out, "world", "tcp", ":80")
	serve(t, "", "host", "tcp", ":81")

	wantAsk(t, "internal inside", in1.NetNS, "tcp", "["+ip6(in2, 0)+"]:80", "in2 "+ip6(in1, 0))
	wantAsk(t, "internal inside", in1.NetNS, "tcp", ip(in2, 0)+":80", "in2 "+ip(in1, 0))
	for from, a := range all {
		for to, b := range all {
			if from == to || strings.HasPrefix(from, "in") && strings.HasPrefix(to, "in") {
				continue
			}
			wantNone(t, from+" to "+to, a.NetNS, "tcp", ip(b, 0)+":80")
			wantNone(t, from+" to "+to, a.NetNS, "tcp", "["+ip6(b, 0)+"]:80")
		}
	}
	// Somebody inside may add a default route by hand.
	run(t, "nsenter", "--net="+in1.NetNS, "ip", "route", "add", "default", "via", "10.70.3.1")
	run(t, "nsenter", "--net="+in1.NetNS, "ip", "-6", "route", "add", "default", "via", "fd00:70:3::1")
	for _, addr := range []string{"192.0.2.9:80", "[2001:db8::9]:80", "192.0.2.1:81", "[2001:db8::1]:81", "192.0.2.1:8080", "[2001:db8::1]:8080", ip(front, 0) + ":80", "[" + ip6(front, 0) + "]:80", "10.70.1.1:81", "[fd00:70:1::1]:81"} {
		wantNone(t, "internal, with a route of its own", in1.NetNS, "tcp", addr)
	}
	wantAsk(t, "its own gateway", in1.NetNS, "tcp", "10.70.3.1:81", "host "+ip(in1, 0))
	wantNone(t, "ports of an internal network are not published", out, "tcp", "192.0.2.1:8082")

	// The neighbour routes to the containers through the host.
	must(t, in(t, out, func() error {
		return errors.Join(addRoute("10.70.0.0/16", "192.0.2.1"), addRoute("fd00:70::/32", "2001:db8::1"))
	}))
	for name, c := range all {
		for _, addr := range []string{ip(c, 0) + ":80", "[" + ip6(c, 0) + "]:80"} {
			wantNone(t, "routed from outside to "+name, out, "tcp", addr)
		}
	}
	wantAsk(t, "published", out, "tcp", "[2001:db8::1]:8080", "front 2001:db8::9")
	wantAsk(t, "published, from another network", back.NetNS, "tcp", "[2001:db8::1]:8080", "front "+ip6(back, 0))
	wantAsk(t, "published, through the own gateway", back.NetNS, "tcp", "10.70.2.1:8080", "front "+ip(back, 0))
}

// What is published on 127.0.0.1 stays there, also for a neighbour who sends
// frames for 127.0.0.1 to our hardware address. That such frames do arrive is
// shown by a listener of the host itself, once the kernel's own guard is off.
func TestLoopbackBindingAgainstANeighbour(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{
		{HostIP: "127.0.0.1", HostPort: 8081, ContainerPort: 80}, {HostIP: "127.0.0.1", HostPort: 8081, ContainerPort: 80, Protocol: "udp"}, {HostPort: 8083, ContainerPort: 80}}})
	evil := n.connect(overlaynet.Sandbox{ID: "evil", Attachments: on("front")})
	serve(t, web.NetNS, "web", "tcp", ":80")
	serve(t, web.NetNS, "web", "udp4", ":80")
	serve(t, "", "host", "tcp", "127.0.0.1:8085")
	attack := func(path, gateway, dev string) {
		for _, cmd := range []string{"ip link set lo down", "ip addr flush dev lo", "sysctl -qw net.ipv4.conf." + dev + ".route_localnet=1", "ip route add 127.0.0.1/32 via " + gateway, "ip route del local 127.0.0.0/8 table local || true"} {
			run(t, "nsenter", "--net="+path, "sh", "-c", cmd)
		}
	}
	attack(out, "192.0.2.1", "eth0")
	attack(evil.NetNS, "10.70.1.1", "eth0")
	for _, path := range []string{out, evil.NetNS} {
		wantNone(t, "127.0.0.1 from a neighbour", path, "tcp", "127.0.0.1:8081")
		wantNone(t, "127.0.0.1 from a neighbour", path, "udp", "127.0.0.1:8081")
		wantNone(t, "127.0.0.1 from a neighbour", path, "tcp", "127.0.0.1:8083")
		wantNone(t, "a daemon of the host", path, "tcp", "127.0.0.1:8085")
	}
	wantAsk(t, "from the host itself", "", "tcp", "127.0.0.1:8081", "web 10.70.1.1")

	run(t, "sysctl", "-qw", "net.ipv4.conf.uplink.route_localnet=1") // as some add-ons of Kubernetes do
	wantNone(t, "127.0.0.1 from a neighbour, without the kernel's guard", out, "tcp", "127.0.0.1:8081")
	wantNone(t, "127.0.0.1 from a neighbour, without the kernel's guard", out, "tcp", "127.0.0.1:8085")
	must(t, n.Set(context.Background(), overlaynet.Config{}))
	wantAsk(t, "without us the attack works", out, "tcp", "127.0.0.1:8085", "host 192.0.2.9")
}

func TestDriverOptions(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	run(t, "ip", "link", "set", "uplink", "mtu", "1420")
	run(t, "ip", "route", "add", "default", "via", "192.0.2.9")
	with := func(n int, name string, kv ...string) stack.Network {
		net := dualNet(name, n)
		net.DriverOpts = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			net.DriverOpts["com.docker.network."+kv[i]] = kv[i+1]
		}
		return net
	}
	n := newNode(t, t.TempDir(), newSource(
		with(1, "plain"),
		with(2, "icc", "bridge.enable_icc", "false"),
		with(3, "bare", "bridge.enable_ip_masquerade", "false"),
		with(4, "bound", "bridge.host_binding_ipv4", "127.0.0.1"),
		with(5, "named", "bridge.name", "br-shop", "container_iface_prefix", "net", "driver.mtu", "1300", "bridge.gateway_mode_ipv4", "nat"),
	))
	mtu := func(c *overlaynet.Connected, name string) (mtu int) {
		must(t, in(t, c.NetNS, func() error {
			i, err := net.InterfaceByName(name)
			if err == nil {
				mtu = i.MTU
			}
			return err
		}))
		return mtu
	}
	plain := n.connect(overlaynet.Sandbox{ID: "plain", Attachments: on("plain")})
	if got := mtu(plain, "eth0"); got != 1420 {
		t.Errorf("mtu %d, want the uplink's 1420", got)
	}

	a := n.connect(overlaynet.Sandbox{ID: "a", Attachments: on("icc")})
	b := n.connect(overlaynet.Sandbox{ID: "b", Attachments: on("icc"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	serve(t, b.NetNS, "b", "tcp", ":80")
	serve(t, out, "world", "tcp", ":80")
	wantNone(t, "enable_icc false", a.NetNS, "tcp", ip(b, 0)+":80")
	wantNone(t, "enable_icc false", a.NetNS, "tcp", "["+ip6(b, 0)+"]:80")
	wantAsk(t, "enable_icc false, to the world", a.NetNS, "tcp", "192.0.2.9:80", "world 192.0.2.1")
	wantAsk(t, "enable_icc false, published", out, "tcp", "192.0.2.1:8080", "b 192.0.2.9")

	must(t, in(t, out, func() error {
		return errors.Join(addRoute("10.70.3.0/24", "192.0.2.1"), addRoute("fd00:70:3::/64", "2001:db8::1"))
	}))
	bare := n.connect(overlaynet.Sandbox{ID: "bare", Attachments: on("bare"), Ports: []stack.Port{{HostPort: 8081, ContainerPort: 80}}})
	serve(t, bare.NetNS, "bare", "tcp", ":80")
	wantAsk(t, "no masquerade", bare.NetNS, "tcp", "192.0.2.9:80", "world "+ip(bare, 0))
	wantAsk(t, "no masquerade", bare.NetNS, "tcp", "[2001:db8::9]:80", "world "+ip6(bare, 0))
	wantAsk(t, "no masquerade, published", out, "tcp", "192.0.2.1:8081", "bare 192.0.2.9")
	wantNone(t, "no masquerade, not published", out, "tcp", ip(bare, 0)+":80")

	bound := n.connect(overlaynet.Sandbox{ID: "bound", Attachments: on("bound"), Ports: []stack.Port{{HostPort: 8082, ContainerPort: 80}}})
	serve(t, bound.NetNS, "bound", "tcp", ":80")
	wantAsk(t, "host_binding_ipv4", "", "tcp", "127.0.0.1:8082", "bound 10.70.4.1")
	for _, addr := range []string{"192.0.2.1:8082", "[2001:db8::1]:8082"} {
		wantNone(t, "host_binding_ipv4", out, "tcp", addr)
	}

	named := n.connect(overlaynet.Sandbox{ID: "named", Attachments: on("named")})
	if named.Endpoints[0].Interface != "net0" || mtu(named, "net0") != 1300 {
		t.Errorf("got %+v", named.Endpoints)
	}
	if _, err := net.InterfaceByName("br-shop"); err != nil {
		t.Error(err)
	}
	must(t, n.Set(context.Background(), overlaynet.Config{}))
	if _, err := net.InterfaceByName("br-shop"); err == nil {
		t.Error("br-shop is left")
	}
}

// ip_range, gateway, aux_addresses and a second subnet, used to the last address.
func TestIPAMConfig(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	serve(t, out, "world", "tcp", ":80")
	n := newNode(t, t.TempDir(), newSource(stack.Network{Name: "n", Subnets: []stack.Subnet{
		{CIDR: "10.70.1.0/24", Range: "10.70.1.16/29", Gateway: "10.70.1.200", Aux: map[string]string{"router": "10.70.1.17"}},
		{CIDR: "10.70.2.0/30"},
	}}))
	var got []string
	var last *overlaynet.Connected
	for i := range 8 {
		c := n.connect(overlaynet.Sandbox{ID: fmt.Sprint("c", i), Attachments: on("n")})
		if got = append(got, ip(c, 0)); i == 0 {
			serve(t, c.NetNS, "first", "tcp", ":80")
		}
		last = c
	}
	if want := "10.70.1.16 10.70.1.18 10.70.1.19 10.70.1.20 10.70.1.21 10.70.1.22 10.70.1.23 10.70.2.2"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	_, err := n.Connect(context.Background(), overlaynet.Sandbox{ID: "more", Name: "more", Attachments: on("n")})
	if err == nil || !strings.Contains(err.Error(), "network n: addresses 10.70.1.16 to 10.70.1.23 (8 taken), 10.70.2.1 to 10.70.2.2 (2 taken) exhausted") {
		t.Errorf("full: %v", err)
	}
	// Its second subnet has a gateway of its own, and both are one network.
	if last.Endpoints[0].Gateway != "10.70.2.1" || last.Nameservers[0] != "10.70.2.1" {
		t.Errorf("got %+v", last)
	}
	wantAsk(t, "out of the second subnet", last.NetNS, "tcp", "192.0.2.9:80", "world 192.0.2.1")
	wantAsk(t, "between the subnets", last.NetNS, "tcp", "10.70.1.16:80", "first "+ip(last, 0))

	_, err = n.Connect(context.Background(), overlaynet.Sandbox{ID: "x", Name: "x", Attachments: []stack.Attachment{{Network: "n", IPv4: "10.70.1.18"}}})
	if !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), "10.70.1.18: address is in use by c1") {
		t.Errorf("static address of another: %v", err)
	}
	_, err = n.Connect(context.Background(), overlaynet.Sandbox{ID: "x", Name: "x", Attachments: []stack.Attachment{{Network: "n", IPv4: "10.70.1.17"}}})
	if err == nil || !strings.Contains(err.Error(), "aux address router") {
		t.Errorf("reserved address: %v", err)
	}
}

// Bridges of a host on which br_netfilter works (Docker and Kubernetes load
// it) still tell containers apart and let them reach themselves.
func TestUnderBridgeNetfilter(t *testing.T) {
	if !inHost(t) {
		return
	}
	const knob = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(knob); err != nil {
		t.Skip("SKIPPED: this kernel has no br_netfilter")
	}
	must(t, os.WriteFile(knob, []byte("1"), 0))
	must(t, os.WriteFile(strings.Replace(knob, "iptables", "ip6tables", 1), []byte("1"), 0))
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(dualNet("front", 1)))
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	peer := n.connect(overlaynet.Sandbox{ID: "peer", Attachments: on("front")})
	serve(t, web.NetNS, "web", "tcp", ":80")
	wantAsk(t, "published, itself", web.NetNS, "tcp", "192.0.2.1:8080", "web 10.70.1.1")
	wantAsk(t, "published, itself", web.NetNS, "tcp", "[2001:db8::1]:8080", "web fd00:70:1::1")
	wantAsk(t, "published, a neighbour", peer.NetNS, "tcp", "192.0.2.1:8080", "web "+ip(peer, 0))
	wantAsk(t, "published, a neighbour", peer.NetNS, "tcp", "[2001:db8::1]:8080", "web "+ip6(peer, 0))
	wantAsk(t, "direct", peer.NetNS, "tcp", ip(web, 0)+":80", "web "+ip(peer, 0))
	wantAsk(t, "outside", out, "tcp", "192.0.2.1:8080", "web 192.0.2.9")
}
