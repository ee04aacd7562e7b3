package lb_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// Every node asked leads to the task, which sees the client's own address.
func TestMeshReachesTasksOfOtherNodes(t *testing.T) {
	if nettest.InHost(t) {
		reachesFromEverywhere(t, false)
	}
}

func TestMeshOverIPv6(t *testing.T) {
	if nettest.InHost(t) {
		reachesFromEverywhere(t, true)
	}
}

func reachesFromEverywhere(t *testing.T, v6 bool) {
	l := newMeshLab(t, 3)
	l.v6 = v6
	l.hosts[2].run(5, false)
	l.hosts[3].run(0x64, true) // no IPv6
	l.publish(5)
	for n := 1; n <= 3; n++ {
		for _, network := range []string{"tcp", "tcp", "udp"} {
			nettest.WantAsk(t, "from outside", l.near, network, fmt.Sprintf("192.0.2.%d:8080", n), "c5 192.0.2.9")
			nettest.WantAsk(t, "from outside", l.near, network, fmt.Sprintf("[2001:db8::%d]:8080", n), "c5 2001:db8::9")
		}
	}
	for _, network := range []string{"tcp", "udp"} { // whom the task's node does not know
		nettest.WantAsk(t, "from behind", l.behind, network, "192.0.2.1:8080", "c5 198.51.100.9")
		nettest.WantAsk(t, "from behind", l.behind, network, "[2001:db8::1]:8080", "c5 2001:db8:99::9")
	}
	for _, h := range l.hosts {
		want4, want6 := "c5 "+meshAddrs(h.n)[0].String(), "c5 "+meshAddrs(h.n)[1].String()
		if h.n == 2 {
			want4, want6 = "c5 10.20.0.1", "c5 2001:db8::2"
		}
		for _, network := range []string{"tcp", "udp"} {
			nettest.WantAsk(t, "localhost", h.path, network, "127.0.0.1:8080", want4)
			nettest.WantAsk(t, "own address", h.path, network, fmt.Sprintf("[2001:db8::%d]:8080", h.n), want6)
		}
	}
}

// Containers and nodes ask any node, for their own service too.
func TestMeshHairpins(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 3)
	l.hosts[2].run(5, false)
	asker := l.hosts[1].run(6, false)
	other := l.hosts[1].back(7)
	l.publish(5)
	all := func(what, path string, node int, want4, want6 string) {
		t.Helper()
		for _, network := range []string{"tcp", "udp"} {
			nettest.WantAsk(t, what, path, network, fmt.Sprintf("192.0.2.%d:8080", node), want4)
			nettest.WantAsk(t, what, path, network, fmt.Sprintf("[2001:db8::%d]:8080", node), want6)
		}
	}
	all("own node, own network", asker, 1, "c5 10.20.0.6", "c5 fd20::6")
	nettest.WantAsk(t, "its gateway", asker, "tcp", "10.20.0.1:8080", "c5 10.20.0.6")
	all("task's node", asker, 2, "c5 192.0.2.1", "c5 2001:db8::1")
	all("third node", asker, 3, "c5 10.255.0.3", "c5 fd55::3")
	all("own node, other network", other, 1, "c5 10.21.0.7", "c5 fd21::7")
	all("third node, other network", other, 3, "c5 10.255.0.3", "c5 fd55::3")
	all("the task's node itself asks another", l.hosts[2].path, 1, "c5 10.255.0.1", "c5 fd55::1")
	all("a third node asks another", l.hosts[3].path, 1, "c5 10.255.0.1", "c5 fd55::1")
	l.publish(6)
	all("itself by its own node", asker, 1, "c6 10.20.0.1", "c6 fd20::1")
	all("itself by another node", asker, 2, "c6 10.255.0.2", "c6 fd55::2")
	all("neighbour by another node", other, 2, "c6 10.255.0.2", "c6 fd55::2")
	l.publish(5, 6)
	for range 4 { // by turns, here and there
		if _, err := nettest.Ask(t, asker, "tcp", "192.0.2.1:8080"); err != nil {
			t.Error(err)
		}
	}
}

// What the kernel cannot translate the daemon forwards, to other nodes too.
func TestMeshIsUsedByReservedSockets(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 2)
	l.hosts[2].run(5, true)
	l.publish()
	ports := lb.NewPorts(nil)
	for _, proto := range []string{"tcp", "udp"} {
		r, err := ports.Reserve(overlaynet.Frontend{Protocol: proto, Addr: netip.IPv6Unspecified(), Port: 8080})
		nettest.Must(t, err)
		defer r.Close()
		r.Forward([]overlaynet.Backend{{Addr: netip.MustParseAddr("10.20.0.5"), Port: 80, Remote: true}})
		nettest.WantAsk(t, "IPv6 client of an IPv4 task", l.near, proto, "[2001:db8::1]:8080", "c5 10.255.0.1")
		nettest.WantAsk(t, "::1", "", proto, "[::1]:8080", "c5 10.255.0.1")
	}
}

// A client uses one port for connections to all nodes, which lead to one task.
func TestMeshKeepsConnectionsOfOnePortApart(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 4)
	serveMany(t, l.hosts[2].run(5, false), 90)
	l.publish(5)
	l.alsoPublish(90)
	for _, network := range []string{"tcp", "udp"} {
		for from, to := range map[string]string{"192.0.2.9": "192.0.2.%d:9090", "2001:db8::9": "[2001:db8::%d]:9090"} {
			nettest.Must(t, nettest.In(t, l.near, func() error { return askAllFrom(network, from, to) }))
		}
	}
}

// askAllFrom has connections from one port of a client to four nodes at once.
func askAllFrom(network, from, to string) error {
	const port = 40000
	d := net.Dialer{Timeout: 5 * time.Second, Control: reuse, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from), Port: port}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from), Port: port}
	}
	var conns []net.Conn
	for n := 1; n <= 4; n++ {
		c, err := d.Dial(network, fmt.Sprintf(to, n))
		if err != nil {
			return fmt.Errorf("%s to node %d: %w", network, n, err)
		}
		defer c.Close()
		conns = append(conns, c)
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
	}
	for i, c := range conns { // all are open by now
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || line != "c5 "+from+"\n" {
			return fmt.Errorf("%s from node %d: %q, %w", network, i+1, line, err)
		}
	}
	return nil
}

// serveMany answers as many at once as come, over TCP, each with "c5 ADDRESS".
func serveMany(t *testing.T, path string, port int) {
	t.Helper()
	nettest.Accept(t, path, "tcp", fmt.Sprint(":", port), func(c net.Conn) {
		fmt.Fprintf(c, "c5 %s\n", c.RemoteAddr().(*net.TCPAddr).IP)
		<-t.Context().Done()
	})
	nettest.Serve(t, path, "c5", "udp4", fmt.Sprint(":", port))
	nettest.Serve(t, path, "c5", "udp6", fmt.Sprint(":", port))
}

func reuse(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(cerr, err)
}

// Nothing but published ports is reached over the mesh.
func TestMeshLetsNothingElseThrough(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 3)
	task := l.hosts[2].run(5, false)
	other := l.hosts[1].back(7)
	l.publish(5)
	nettest.Serve(t, task, "secret", "tcp", ":81")
	nettest.Serve(t, l.hosts[2].path, "host", "tcp", ":82")
	l.hosts[3].sh("ip route replace 10.20.0.5/32 via 10.255.0.2 dev %s onlink", l.hosts[3].mesh().Device)
	nettest.WantAsk(t, "published, by a node", l.hosts[3].path, "tcp", "10.20.0.5:80", "c5 10.255.0.3")
	nettest.WantNone(t, "another port of the task, by a node", l.hosts[3].path, "tcp", "10.20.0.5:81")
	nettest.WantNone(t, "the node itself, by a node", l.hosts[3].path, "tcp", "10.255.0.2:82")
	sh(t, l.near, "ip route add 10.20.0.0/24 via 192.0.2.1; ip route add 10.255.0.0/24 via 192.0.2.1")
	nettest.WantNone(t, "a neighbour routes to the task", l.near, "tcp", "10.20.0.5:80")
	nettest.WantNone(t, "a neighbour routes to a node on the mesh", l.near, "tcp", "10.255.0.2:82")
	l.hosts[1].sh("ip route replace 10.20.0.5/32 via 10.255.0.2 dev %s onlink", l.hosts[1].mesh().Device)
	nettest.WantNone(t, "a container routes to the task", other, "tcp", "10.20.0.5:80")
	nettest.WantNone(t, "a neighbour routes to the task by the mesh", l.near, "tcp", "10.20.0.5:80")
	nettest.WantNone(t, "a container asks a node on the mesh", other, "tcp", "10.255.0.2:82")
	l.hosts[2].do(func() error { // not published any more, and not all have heard of it
		return l.hosts[2].rules.Apply(context.Background(), overlaynet.Change{Inlets: map[overlaynet.Frontend]bool{
			{Protocol: "tcp", Addr: netip.MustParseAddr("10.20.0.5"), Port: 80}: false}})
	})
	nettest.WantNone(t, "not published any more", l.near, "tcp", "192.0.2.1:8080")
}

// The virtual address of a service leads to the same task by the network's own tunnel.
func TestMeshIsNotForVirtualAddresses(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 2)
	l.hosts[2].run(5, false)
	asker := l.hosts[1].run(6, false)
	l.publish(5)
	vip := netip.MustParseAddr("10.30.0.1")
	h := l.hosts[1]
	s := h.segment()
	s.Virtual = []netip.Prefix{netip.PrefixFrom(vip, 24).Masked()}
	h.do(func() error {
		return h.rules.Apply(context.Background(), overlaynet.Change{
			Segments: map[string]*overlaynet.Segment{s.ID: &s},
			Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{{Network: s.ID, Addr: vip}: {Backends: []overlaynet.Backend{{Addr: netip.MustParseAddr("10.20.0.5")}}}},
		})
	})
	count := func() string { return h.sh("ip -s link show %s", h.mesh().Device) }
	before := count()
	nettest.WantAsk(t, "virtual address", asker, "tcp", "10.30.0.1:80", "c5 10.20.0.6")
	if after := count(); after != before {
		t.Errorf("the mesh had a part in it:\n%s\nbefore\n%s", after, before)
	}
	nettest.WantAsk(t, "published port", asker, "tcp", "192.0.2.1:8080", "c5 10.20.0.6")
	if after := count(); after == before {
		t.Errorf("the mesh has no part in published ports:\n%s", after)
	}
	nettest.WantAsk(t, "virtual address again", asker, "tcp", "10.30.0.1:80", "c5 10.20.0.6")
}

// A connection goes on when the daemons of both nodes are new processes, and
// after somebody has flushed all rules; nothing of the mesh stays in the end.
func TestMeshOutlivesItsDaemons(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := newMeshLab(t, 2)
	task := l.hosts[2].run(5, false)
	nettest.Accept(t, task, "tcp", ":90", func(c net.Conn) { _, _ = io.Copy(c, c) })
	l.publish(5)
	l.alsoPublish(90)
	var c net.Conn
	nettest.Must(t, nettest.In(t, l.near, func() (err error) {
		c, err = net.DialTimeout("tcp", "192.0.2.1:9090", 5*time.Second)
		return err
	}))
	defer c.Close()
	in := bufio.NewReader(c)
	say := func(what string) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintln(c, what); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != what+"\n" {
			t.Fatalf("%s: got %q, %v", what, line, err)
		}
	}
	say("at first")
	for _, h := range l.hosts {
		h.open()
		h.publish(5)
		say(fmt.Sprint("after a restart on node ", h.n))
	}
	for _, h := range l.hosts {
		h.sh("nft flush ruleset")
		h.do(func() error { _, err := h.rules.Check(context.Background()); return err })
		say(fmt.Sprint("after a flush on node ", h.n))
	}
	for _, h := range l.hosts {
		h.do(func() error {
			return errors.Join(h.links.SetMesh(context.Background(), nil), h.rules.Clear(context.Background()))
		})
		if got := h.sh("nft list ruleset; ip rule; ip -6 rule; ip link; ip route show table all"); strings.Contains(got, "mesh") || strings.Contains(got, "dhow_") || strings.Contains(got, "proto 68") {
			t.Errorf("node %d: left:\n%s", h.n, got)
		}
	}
}
