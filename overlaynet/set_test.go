package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/stack"
)

// Every config is reached from every other, twice the same changes nothing,
// and the zero Config leaves no trace.
func TestSetInRandomOrder(t *testing.T) {
	if !inHost(t) {
		return
	}
	dir := t.TempDir()
	internal := bridgeNet("inner", "10.70.3.0/24")
	internal.Internal = true
	dual := stack.Network{Name: "dual", EnableIPv6: true, Subnets: []stack.Subnet{{CIDR: "10.70.4.0/24"}, {CIDR: "fd00:70::/64"}}}
	src := newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24"), internal, dual)
	before := trace(t, dir)
	n := newNode(t, dir, src)
	must(t, n.Restore(context.Background(), nil))
	ctx := context.Background()
	names := []string{"front", "back", "inner", "dual"}
	rapid.Check(t, func(rt *rapid.T) {
		var c overlaynet.Config
		for i := range rapid.IntRange(0, 4).Draw(rt, "sandboxes") {
			id := fmt.Sprint("s", i)
			r := overlaynet.Restored{Sandbox: overlaynet.Sandbox{ID: id, Name: id, PortGroup: "g"}, Ready: rapid.Bool().Draw(rt, "ready")}
			from := rapid.IntRange(0, 3).Draw(rt, "from")
			r.Attachments = on(names[from:rapid.IntRange(from, 4).Draw(rt, "to")]...)
			if rapid.Bool().Draw(rt, "published") {
				r.Sandbox.Ports = []stack.Port{{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 81, Protocol: "udp"}}
			}
			c.Sandboxes = append(c.Sandboxes, r)
		}
		if err := n.Set(ctx, c); err != nil {
			rt.Fatal(err)
		}
		first, writes := trace(t, dir), n.writes()
		if err := n.Set(ctx, c); err != nil {
			rt.Fatal(err)
		}
		if again := trace(t, dir); again != first {
			rt.Fatalf("the same config again changed\n%s\nto\n%s", first, again)
		}
		if k := n.writes() - writes; k != 0 && len(c.Sandboxes) > 0 {
			rt.Fatalf("the same config again wrote %d times", k)
		}
		for _, r := range c.Sandboxes {
			got, ok := n.Connected(r.ID)
			if !ok || len(got.Endpoints) != len(r.Attachments) {
				rt.Fatalf("%s: got %+v", r.ID, got)
			}
			for i, e := range got.Endpoints {
				if gw := e.Gateway; gw != "" && i == 0 {
					if err := in(t, got.NetNS, func() error { c, err := net.DialTimeout("tcp", gw+":53", time.Second); closeConn(c); return err }); err != nil {
						rt.Fatalf("%s does not reach its gateway: %v", r.ID, err)
					}
				}
			}
		}
	})
	must(t, n.Set(ctx, overlaynet.Config{}))
	until(t, "no trace", func() bool { return trace(t, dir) == before })
}

func closeConn(c io.Closer) {
	if c != nil && c != net.Conn(nil) {
		c.Close()
	}
}

// A daemon that dies and comes back finds its containers as they were: a
// connection goes on; what no container uses is swept.
func TestRestore(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	dir := t.TempDir()
	src := newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24"))
	before := trace(t, dir)
	n := newNode(t, dir, src)
	sb := overlaynet.Sandbox{ID: "web", Name: "web", DNSNames: []string{"web"}, Attachments: on("front"), PortGroup: "g", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}, {ContainerPort: 80}}}
	web := n.connect(sb)
	n.connect(overlaynet.Sandbox{ID: "lost", Attachments: on("back"), Ports: []stack.Port{{HostPort: 8081, ContainerPort: 80}}})
	var conn net.Conn
	nettest.Accept(t, web.NetNS, "tcp", ":80", func(c net.Conn) { _, _ = io.Copy(c, c) })
	must(t, in(t, out, func() (err error) { conn, err = net.Dial("tcp", "192.0.2.1:8080"); return err }))
	defer conn.Close()
	echo := func(what string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(what, err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Fatal(what, err)
		}
	}
	echo("before")
	n.stop()
	echo("no daemon")

	m := newNode(t, dir, src)
	must(t, m.Restore(context.Background(), []overlaynet.Restored{{Sandbox: sb, Connected: *web, Ready: true}}))
	echo("restored")
	got, _ := m.Connected("web")
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", web) {
		t.Errorf("got\n%+v\nwant\n%+v", got, web)
	}
	if s := trace(t, dir); strings.Contains(s, "8081") || strings.Contains(s, "10.70.2.1") || strings.Contains(s, "lost") {
		t.Errorf("what is lost was not swept:\n%s", s)
	}
	if _, err := m.Connect(context.Background(), overlaynet.Sandbox{ID: "x", Attachments: []stack.Attachment{{Network: "front", IPv4: ip(web, 0)}}}); err == nil {
		t.Error("a restored address was given again")
	}
	next := m.connect(overlaynet.Sandbox{ID: "next", Attachments: on("front")})
	if ip(next, 0) == ip(web, 0) {
		t.Error("address given twice")
	}
	must(t, m.Set(context.Background(), overlaynet.Config{}))
	until(t, "no trace", func() bool { return trace(t, dir) == before })
}

// What somebody deletes by hand comes back.
func TestRepair(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	serve(t, web.NetNS, "web", "tcp", ":80")
	good := func(what string) {
		t.Helper()
		until(t, what, func() bool {
			got, err := ask(t, out, "tcp", "192.0.2.1:8080")
			return err == nil && got == "web 192.0.2.9"
		})
	}
	good("at first")
	mark := overlaynet.Mark(n.dir)
	run(t, "nft", "flush", "ruleset")
	good("ruleset flushed")
	run(t, "nft", "flush", "chain", "inet", "dhow_"+mark[2:], "postrouting")
	until(t, "rules of a chain return", func() bool {
		return strings.Contains(run(t, "nft", "list", "chain", "inet", "dhow_"+mark[2:], "postrouting"), "masquerade")
	})
	var veth, bridge string
	is, err := net.Interfaces()
	must(t, err)
	for _, i := range is {
		switch {
		case strings.HasPrefix(i.Name, mark+"v"):
			veth = i.Name
		case strings.HasPrefix(i.Name, mark+"b"):
			bridge = i.Name
		}
	}
	run(t, "ip", "link", "del", veth)
	good("link deleted")
	run(t, "ip", "link", "del", bridge)
	good("bridge deleted")
	run(t, "ip", "addr", "flush", "dev", bridge)
	good("gateway deleted")
}

// A bridge that waits for its next container is repaired as well: that container
// would start in a broken network, or not at all.
func TestIdleNetworksAreRepaired(t *testing.T) {
	if !inHost(t) {
		return
	}
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	n.connect(overlaynet.Sandbox{ID: "first", Attachments: on("front")})
	must(t, n.Disconnect(context.Background(), "first"))
	gateway := func() (bridge string) {
		is, err := net.Interfaces()
		must(t, err)
		for _, i := range is {
			addrs, _ := i.Addrs() // of one that has gone meanwhile: none
			for _, a := range addrs {
				if a.String() == "10.70.1.1/24" {
					bridge = i.Name
				}
			}
		}
		return bridge
	}
	bridge := gateway()
	if bridge == "" {
		t.Fatal("the bridge does not wait for its next container: there is nothing to damage")
	}
	for _, damage := range [][]string{{"addr", "flush", "dev"}, {"link", "del"}} {
		run(t, "ip", append(damage, bridge)...)
		until(t, "the bridge is back after "+strings.Join(damage, " "), func() bool { return gateway() == bridge })
	}
	a, b := n.connect(overlaynet.Sandbox{ID: "a", Attachments: on("front")}), n.connect(overlaynet.Sandbox{ID: "b", Attachments: on("front")})
	serve(t, a.NetNS, "a", "tcp", ":80")
	wantAsk(t, "the next containers", b.NetNS, "tcp", ip(a, 0)+":80", "a "+ip(b, 0))
}

// Set alone, without the loop that watches, puts right what somebody deleted;
// and says nothing to the kernel when nothing is wrong.
func TestSetRepairs(t *testing.T) {
	if !inHost(t) {
		return
	}
	out := outside(t)
	dual := stack.Network{Name: "dual", EnableIPv6: true, Subnets: []stack.Subnet{{CIDR: "10.70.1.0/24"}, {CIDR: "fd00:70::/64"}}}
	n := idleNode(t, t.TempDir(), newSource(dual))
	ctx := context.Background()
	c := overlaynet.Config{Sandboxes: []overlaynet.Restored{{Ready: true, Sandbox: overlaynet.Sandbox{
		ID: "web", Name: "web", DNSNames: []string{"web"}, Attachments: on("dual"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}}}}
	must(t, n.Set(ctx, c))
	web, _ := n.Connected("web")
	serve(t, web.NetNS, "web", "tcp", ":80")
	bridge, veth, table := "", "", "inet dhow_"+overlaynet.Mark(n.dir)[2:]
	is, err := net.Interfaces()
	must(t, err)
	for _, i := range is {
		if strings.HasPrefix(i.Name, overlaynet.Mark(n.dir)+"v") {
			veth = i.Name
		} else if strings.HasPrefix(i.Name, overlaynet.Mark(n.dir)) {
			bridge = i.Name
		}
	}
	for _, damage := range []string{
		"", // none
		"nft flush ruleset",
		"nft delete table TABLE",
		"nft flush chain TABLE postrouting",
		"nft flush chain TABLE tcp_0.0.0.0_8080",
		"nft delete element TABLE any4 { tcp . 8080 }",
		"nft insert rule TABLE forward drop",
		"ip route flush dev BRIDGE",
		"ip addr flush dev BRIDGE",
		"ip link set VETH nomaster",
		"ip link del BRIDGE",
	} {
		if damage != "" {
			run(t, "sh", "-c", strings.NewReplacer("TABLE", "'"+table+"'", "BRIDGE", bridge, "VETH", veth, "{", "'{", "}", "}'").Replace(damage))
			must(t, n.Set(ctx, c))
		}
		wantAsk(t, damage, out, "tcp", "192.0.2.1:8080", "web 192.0.2.9")
		wantAsk(t, damage, out, "tcp", "[2001:db8::1]:8080", "web 2001:db8::9")
		wantAsk(t, damage, "", "tcp", "127.0.0.1:8080", "web 10.70.1.1")
		before := n.writes()
		must(t, n.Set(ctx, c))
		if k := n.writes() - before; k != 0 {
			t.Errorf("%s: the same config again wrote %d times", damage, k)
		}
	}
}

// The last network of the node takes the table with it.
func TestNoTableWithoutNetworks(t *testing.T) {
	if !inHost(t) {
		return
	}
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24")))
	n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	must(t, n.Disconnect(context.Background(), "web"))
	n.src.remove("front")
	until(t, "no table", func() bool { return run(t, "nft", "list", "ruleset") == "" })
}

func TestErrorsChangeNothing(t *testing.T) {
	if !inHost(t) {
		return
	}
	dir := t.TempDir()
	n := newNode(t, dir, newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("tiny", "10.70.9.0/30")))
	ctx := context.Background()
	n.connect(overlaynet.Sandbox{ID: "a", Attachments: on("front", "tiny"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
	before := trace(t, dir)
	for _, sb := range []overlaynet.Sandbox{
		{ID: "b", Attachments: on("nowhere")},
		{ID: "b", Attachments: on("front", "tiny")}, // tiny is full
		{ID: "b", Attachments: on("front", "front")},
		{ID: "b", Attachments: on("front"), Ports: []stack.Port{{HostPort: 9000, ContainerPort: 1}, {HostPort: 8080, ContainerPort: 80}}},
		{ID: "b", Attachments: on("front"), Ports: []stack.Port{{HostIP: "203.0.113.7", HostPort: 9000, ContainerPort: 1}}},
		{ID: "b", Attachments: []stack.Attachment{{Network: "front", IPv4: "10.9.9.9"}}},
		{ID: "b", Attachments: []stack.Attachment{{Network: "front", MacAddress: "nonsense"}}},
		{ID: "b", Attachments: []stack.Attachment{{Network: "front", DriverOpts: map[string]string{"what": "ever"}}}},
		{ID: "", Attachments: on("front")},
	} {
		c, err := n.Connect(ctx, sb)
		if err == nil {
			t.Errorf("%+v: got %+v", sb, c)
		}
		t.Log(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Connect(cancelled, overlaynet.Sandbox{ID: "b", Attachments: on("front")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if after := trace(t, dir); after != before {
		t.Errorf("changed\n%s\nto\n%s", before, after)
	}
	if _, err := os.Stat(dir + "/netns/b"); err == nil {
		t.Error("namespace left")
	}
}
