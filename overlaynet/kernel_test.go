package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func TestContainersTalkAndNetworksAreIsolated(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	internal := bridgeNet("inner", "10.70.3.0/24")
	internal.Internal = true
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24"), internal))
	a := n.connect(overlaynet.Sandbox{ID: "a", Attachments: on("front")})
	b := n.connect(overlaynet.Sandbox{ID: "b", Attachments: on("front", "back", "inner")})
	c := n.connect(overlaynet.Sandbox{ID: "c", Attachments: on("back")})
	d := n.connect(overlaynet.Sandbox{ID: "d", Attachments: on("inner")})
	for name, x := range map[string]*overlaynet.Connected{"a": a, "b": b, "c": c, "d": d} {
		serve(t, x.NetNS, name, "tcp", ":80")
	}
	serve(t, out, "world", "tcp", ":80")
	serve(t, "", "host", "tcp", "192.0.2.1:81")

	wantAsk(t, "same network", a.NetNS, "tcp", ip(b, 0)+":80", "b "+ip(a, 0))
	wantAsk(t, "second network", c.NetNS, "tcp", ip(b, 1)+":80", "b "+ip(c, 0))
	wantNone(t, "other network", a.NetNS, "tcp", ip(c, 0)+":80")
	wantNone(t, "other network", c.NetNS, "tcp", ip(a, 0)+":80")
	wantAsk(t, "outgoing is masqueraded", a.NetNS, "tcp", "192.0.2.9:80", "world 192.0.2.1")
	wantAsk(t, "the host", a.NetNS, "tcp", "192.0.2.1:81", "host "+ip(a, 0))
	wantNone(t, "internal has no way out", d.NetNS, "tcp", "192.0.2.9:80")
	wantNone(t, "internal does not reach other networks", d.NetNS, "tcp", ip(a, 0)+":80")
	wantAsk(t, "internal inside", b.NetNS, "tcp", ip(d, 0)+":80", "d "+ip(b, 2))
	wantAsk(t, "host to container", "", "tcp", ip(a, 0)+":80", "a 10.70.1.1")
	must(t, in(t, out, func() error { // a neighbour routes to the containers directly
		return addRoute("10.70.0.0/16", "192.0.2.1")
	}))
	wantNone(t, "routed from outside without a published port", out, "tcp", ip(a, 0)+":80")
	wantAsk(t, "loopback", a.NetNS, "tcp", "127.0.0.1:80", "a 127.0.0.1")

	none := n.connect(overlaynet.Sandbox{ID: "lonely", None: true})
	serve(t, none.NetNS, "lonely", "tcp", ":80")
	wantAsk(t, "none has a loopback", none.NetNS, "tcp", "127.0.0.1:80", "lonely 127.0.0.1")
	wantNone(t, "none has nothing else", none.NetNS, "tcp", ip(a, 0)+":80")
}

func TestPublishedPorts(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24")))
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{
		{HostPort: 8080, ContainerPort: 80},
		{HostPort: 8080, ContainerPort: 80, Protocol: "udp"},
		{HostIP: "127.0.0.1", HostPort: 8081, ContainerPort: 80},
		{HostIP: "192.0.2.1", HostPort: 8082, ContainerPort: 80},
		{ContainerPort: 80}, // a free one
		{HostPort: 9000, HostPortEnd: 9001, ContainerPort: 80},
	}})
	peer := n.connect(overlaynet.Sandbox{ID: "peer", Attachments: on("front")})
	other := n.connect(overlaynet.Sandbox{ID: "other", Attachments: on("back")})
	serve(t, web.NetNS, "web", "tcp", ":80")
	serve(t, web.NetNS, "web", "udp4", ":80")

	wantAsk(t, "from outside, client address kept", out, "tcp", "192.0.2.1:8080", "web 192.0.2.9")
	wantAsk(t, "udp from outside", out, "udp", "192.0.2.1:8080", "web 192.0.2.9")
	wantAsk(t, "localhost", "", "tcp", "127.0.0.1:8080", "web 10.70.1.1")
	wantAsk(t, "localhost udp", "", "udp", "127.0.0.1:8080", "web 10.70.1.1")
	wantAsk(t, "::1", "", "tcp", "[::1]:8080", "web 10.70.1.1")
	wantAsk(t, "::1 udp", "", "udp", "[::1]:8080", "web 10.70.1.1")
	wantAsk(t, "IPv6 to an IPv4 container", out, "tcp", "[2001:db8::1]:8080", "web 10.70.1.1")
	wantAsk(t, "the host's own address", "", "tcp", "192.0.2.1:8080", "web 192.0.2.1")
	wantAsk(t, "other network, address kept", other.NetNS, "tcp", "192.0.2.1:8080", "web "+ip(other, 0))
	wantAsk(t, "same network, through the host", peer.NetNS, "tcp", "192.0.2.1:8080", "web "+ip(peer, 0))
	wantAsk(t, "same network, through the gateway", peer.NetNS, "tcp", "10.70.1.1:8080", "web "+ip(peer, 0))
	wantAsk(t, "itself", web.NetNS, "tcp", "192.0.2.1:8080", "web 10.70.1.1")
	wantAsk(t, "127.0.0.1 only, from there", "", "tcp", "127.0.0.1:8081", "web 10.70.1.1")
	wantNone(t, "127.0.0.1 only, from outside", out, "tcp", "192.0.2.1:8081")
	must(t, in(t, out, func() error { return addRoute("127.0.0.1/32", "192.0.2.1") }))
	wantNone(t, "127.0.0.1 only, routed from outside", out, "tcp", "127.0.0.1:8081")
	wantNone(t, "127.0.0.1 only, from a container", peer.NetNS, "tcp", "10.70.1.1:8081")
	wantAsk(t, "host IP", out, "tcp", "192.0.2.1:8082", "web 192.0.2.9")
	wantNone(t, "host IP only", "", "tcp", "127.0.0.1:8082")
	free := web.Ports[len(web.Ports)-4]
	wantAsk(t, "free port", out, "tcp", fmt.Sprintf("192.0.2.1:%d", free.HostPort), "web 192.0.2.9")

	clash := func(sb overlaynet.Sandbox, holder string) {
		t.Helper()
		sb.Attachments = on("front")
		_, err := n.Connect(context.Background(), sb)
		var taken *overlaynet.PortTaken
		if !errors.As(err, &taken) || !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), holder) {
			t.Errorf("%+v: got %v; want a conflict naming %s", sb.Ports, err, holder)
		}
	}
	clash(overlaynet.Sandbox{ID: "x1", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 1}}}, "container web")
	clash(overlaynet.Sandbox{ID: "x2", Ports: []stack.Port{{HostIP: "127.0.0.1", HostPort: 8080, ContainerPort: 1}}}, "container web")
	clash(overlaynet.Sandbox{ID: "x3", Ports: []stack.Port{{HostPort: 8081, ContainerPort: 1}}}, "container web")
	ln, err := net.Listen("tcp", "127.0.0.1:8090")
	must(t, err)
	defer ln.Close()
	clash(overlaynet.Sandbox{ID: "x4", Ports: []stack.Port{{HostPort: 8091, ContainerPort: 1}, {HostPort: 8090, ContainerPort: 1}}}, fmt.Sprintf("(pid %d)", os.Getpid()))
	if _, err := net.Listen("tcp", ":8080"); err == nil {
		t.Error("a published port can be bound by others")
	}
	second := n.connect(overlaynet.Sandbox{ID: "second", Attachments: on("front"), Ports: []stack.Port{{HostPort: 9000, HostPortEnd: 9001, ContainerPort: 80}, {HostPort: 8091, ContainerPort: 80}}})
	if second.Ports[0].HostPort != 9001 {
		t.Errorf("got %+v, want the second of the range", second.Ports)
	}
	must(t, n.Disconnect(context.Background(), "web"))
	wantNone(t, "gone", out, "tcp", "192.0.2.1:8080")
	l2, err := net.Listen("tcp", "0.0.0.0:8080")
	must(t, err)
	l2.Close()
}

func TestBalancing(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	for i := range 3 {
		id := fmt.Sprint("web", i)
		c := n.connect(overlaynet.Sandbox{ID: id, Attachments: on("front"), PortGroup: "shop/web", Ports: []stack.Port{
			{HostPort: 8080, ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80, Protocol: "udp"}}})
		serve(t, c.NetNS, id, "tcp", ":80")
		serve(t, c.NetNS, id, "udp4", ":80")
	}
	count := func(network string) map[string]int {
		got := map[string]int{}
		for range 30 {
			s, err := ask(t, out, network, "192.0.2.1:8080")
			must(t, err)
			got[strings.Fields(s)[0]]++
		}
		return got
	}
	if got := count("tcp"); got["web0"] != 10 || got["web1"] != 10 || got["web2"] != 10 {
		t.Errorf("not spread evenly: %v", got)
	}
	n.SetReady("web0", true)
	n.SetReady("web1", true)
	if got := count("tcp"); got["web2"] != 0 || got["web0"] != 15 {
		t.Errorf("only the ready ones: %v", got)
	}
	n.SetReady("web0", false)
	if got := count("udp"); got["web1"] != 30 {
		t.Errorf("udp: only the ready one: %v", got)
	}
	must(t, n.Disconnect(context.Background(), "web1"))
	if got := count("tcp"); got["web0"]+got["web2"] != 30 {
		t.Errorf("none is ready: all that are left: %v", got)
	}

	// One long-lived UDP client must leave a backend that went away.
	must(t, in(t, out, func() error {
		c, err := net.Dial("udp", "192.0.2.1:8080")
		if err != nil {
			return err
		}
		defer c.Close()
		first := udpAsk(c)
		if err := n.Disconnect(context.Background(), strings.Fields(first)[0]); err != nil {
			return err
		}
		until(t, "another backend answers", func() bool { s := udpAsk(c); return s != "" && s != first })
		return nil
	}))
}

func TestIPv6AndStatic(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	dual := stack.Network{Name: "dual", EnableIPv6: true, Subnets: []stack.Subnet{
		{CIDR: "10.70.1.0/24", Gateway: "10.70.1.254", Range: "10.70.1.128/26"}, {CIDR: "fd00:70::/64"}}}
	dual.DriverOpts = map[string]string{"com.docker.network.driver.mtu": "1400"}
	n := newNode(t, t.TempDir(), newSource(dual))
	a := n.connect(overlaynet.Sandbox{ID: "a", Attachments: []stack.Attachment{{Network: "dual", IPv4: "10.70.1.7", IPv6: "fd00:70::77", MacAddress: "02:00:00:00:00:77"}},
		Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	b := n.connect(overlaynet.Sandbox{ID: "b", Attachments: on("dual")})
	if ip(a, 0) != "10.70.1.7" || ip6(a, 0) != "fd00:70::77" || a.Endpoints[0].MacAddress != "02:00:00:00:00:77" || a.Endpoints[0].Gateway != "10.70.1.254" {
		t.Errorf("got %+v", a.Endpoints)
	}
	if !strings.HasPrefix(ip(b, 0), "10.70.1.12") {
		t.Errorf("%s is not in the range", ip(b, 0))
	}
	if _, err := n.Connect(context.Background(), overlaynet.Sandbox{ID: "c", Attachments: []stack.Attachment{{Network: "dual", IPv4: "10.70.1.7"}}}); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("static address twice: %v", err)
	}
	serve(t, a.NetNS, "a", "tcp", ":80")
	serve(t, out, "world", "tcp", ":80")
	wantAsk(t, "IPv6 inside", b.NetNS, "tcp", "[fd00:70::77]:80", "a "+ip6(b, 0))
	wantAsk(t, "IPv6 outgoing", b.NetNS, "tcp", "[2001:db8::9]:80", "world 2001:db8::1")
	wantAsk(t, "IPv6 published, client address kept", out, "tcp", "[2001:db8::1]:8080", "a 2001:db8::9")
	wantAsk(t, "::1", "", "tcp", "[::1]:8080", "a fd00:70::1")
	wantAsk(t, "IPv6 hairpin", a.NetNS, "tcp", "[2001:db8::1]:8080", "a fd00:70::1")
	must(t, in(t, b.NetNS, func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil && i.MTU != 1400 {
			err = fmt.Errorf("mtu %d", i.MTU)
		}
		return err
	}))
}

func TestNetworksOfARunningSandbox(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	ctx := context.Background()
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24")))
	a := n.connect(overlaynet.Sandbox{ID: "a", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	serve(t, a.NetNS, "a", "tcp", ":80")
	c, err := n.ConnectNetwork(ctx, "a", stack.Attachment{Network: "back", GwPriority: 1})
	must(t, err)
	if len(c.Endpoints) != 2 || c.Endpoints[1].Interface != "eth1" || c.Nameservers[0] != "10.70.2.1" {
		t.Errorf("got %+v", c)
	}
	wantAsk(t, "published, over the new gateway", out, "tcp", "192.0.2.1:8080", "a 192.0.2.9")
	if got := len(n.Endpoints("back")); got != 1 {
		t.Errorf("%d endpoints in back", got)
	}
	if _, err = n.ConnectNetwork(ctx, "a", stack.Attachment{Network: "back"}); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	c, err = n.DisconnectNetwork(ctx, "a", "back")
	must(t, err)
	if len(c.Endpoints) != 1 || c.Nameservers[0] != "10.70.1.1" {
		t.Errorf("got %+v", c)
	}
	wantAsk(t, "published, over the old gateway", out, "tcp", "192.0.2.1:8080", "a 192.0.2.9")
	n.src.remove("back")
	until(t, "the bridge of a removed network is gone", func() bool { return strings.Count(run(t, "ip", "-o", "link"), "bridge") == 0 && bridges(t, n) == 1 })
}

func bridges(t *testing.T, n *node) (count int) {
	is, err := net.Interfaces()
	must(t, err)
	for _, i := range is {
		if strings.HasPrefix(i.Name, overlaynet.Mark(n.dir)+"b") {
			count++
		}
	}
	return count
}

// trace is everything that a node may leave in the kernel.
func trace(t testing.TB, dir string) string {
	var netnsFiles []string
	if es, err := os.ReadDir(dir + "/netns"); err == nil {
		for _, e := range es {
			netnsFiles = append(netnsFiles, e.Name())
		}
	}
	links := strings.Split(run(t, "ip", "-o", "link"), "\n")
	for i, l := range links { // numbers of links differ from run to run
		if _, rest, ok := strings.Cut(l, ": "); ok {
			links[i] = rest
		}
	}
	sort.Strings(links)
	return strings.Join([]string{run(t, "nft", "list", "ruleset"), strings.Join(links, "\n"), run(t, "ip", "route"), run(t, "ip", "-6", "route"), run(t, "ip", "-o", "addr"), fmt.Sprint(netnsFiles)}, "\n--\n")
}
