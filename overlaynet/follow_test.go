package overlaynet_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// shop is a network across three nodes with a service that has a virtual
// address, a task of it here and one elsewhere, and a published port.
func shop(t *testing.T) (*source, *kernel, *overlaynet.Manager) {
	src, k := newSource(span("front", 1)), newKernel()
	src.cluster(3)
	src.edit("front", func(d *stack.Directory) {
		d.Services = []stack.ServiceAddress{{Service: "shop/web", IPv4: "10.71.1.1", Names: []string{"web"}}}
		d.Endpoints = []stack.Endpoint{far("t2", "n2", "front", "shop/web", "10.70.1.22")}
	})
	src.edit("", func(d *stack.Directory) {
		d.Published = []stack.Published{{Service: "shop/web", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}}
		d.Endpoints = []stack.Endpoint{far("t2", "n2", "front", "shop/web", "10.70.1.22")}
	})
	m := k.manager(t, src)
	must(t, m.Restore(t.Context(), nil))
	_, err := m.Connect(t.Context(), task("c1", "10.70.1.21"))
	must(t, err)
	m.SetReady("c1", true)
	must(t, m.Round(t.Context()))
	k.counts()
	return src, k, m
}

// task is a container of the service that shop has.
func task(id, ip string) overlaynet.Sandbox {
	return overlaynet.Sandbox{
		ID: id, Name: id, DNSNames: []string{id}, PortGroup: "shop/web", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}},
		Attachments: []stack.Attachment{{Network: "front", Given4: ip, Aliases: []string{"web"}}},
	}
}

func wantShow(t *testing.T, k *kernel, what string, lines ...string) {
	t.Helper()
	got := k.show()
	for _, l := range lines {
		not := strings.HasPrefix(l, "!")
		if strings.Contains(got, strings.TrimPrefix(l, "!")) == not {
			t.Errorf("%s: want %s in\n%s", what, l, got)
		}
	}
}

func TestAServiceOverNodes(t *testing.T) {
	src, k, m := shop(t)
	wantShow(t, k, "at first",
		"segment front mtu 1450 keep false virtual [10.71.1.0/24] tunnel {Device:",
		"VNI:101 Port:4789 Local:192.0.2.1}",
		"remotes id-front: [{Addrs:[10.70.1.22] MAC:02:42:0a:46:01:16 Via:192.0.2.2}]",
		"virtual {Network:id-front Addr:10.71.1.1}: {Backends:[{Addr:10.70.1.21 Port:0 Remote:false} {Addr:10.70.1.22 Port:0 Remote:false}] Sticky:false}",
		"front 0.0.0.0:8080/tcp: [{Addr:10.70.1.21 Port:80 Remote:false} {Addr:10.70.1.22 Port:80 Remote:true}]",
		"local 10.70.1.21: true", "inlet 10.70.1.21:80/tcp: true", "!inlet 10.70.1.22",
		"Routes:map[10.70.1.22:2]", "Addrs:[10.255.0.1/16 fd00:255::1/64]", "2:{Via:192.0.2.2 Addrs:[10.255.0.2 fd00:255::2] MAC:02:42:0a:ff:00:02}",
		"inbound {Port:4789 Peers:map[192.0.2.2:true 192.0.2.3:true]",
		"host [id-front t2]: {Sandbox:t2 Network:id-front Addrs:[10.70.1.22] Service:shop/web Remote:true Names:[t2] Shared:[web] Ready:true DNS:[]}",
		"service [id-front shop/web]: {Network:id-front Service:shop/web Addrs:[10.71.1.1] Names:[web] Single:false}")

	m.SetReady("c1", false) // it drains
	wantShow(t, k, "draining", "virtual {Network:id-front Addr:10.71.1.1}: {Backends:[{Addr:10.70.1.22 Port:0 Remote:false}]", "front 0.0.0.0:8080/tcp: [{Addr:10.70.1.22 Port:80 Remote:true}]")
	k.ended = nil
	src.peer("n2", func(p *overlaynet.Peer) { p.Down = true })
	must(t, m.Round(t.Context()))
	wantShow(t, k, "n2 is down", "virtual {Network:id-front Addr:10.71.1.1}: {Backends:[{Addr:10.70.1.21 Port:0 Remote:false}]",
		"front 0.0.0.0:8080/tcp: [{Addr:10.70.1.21 Port:80 Remote:false}]", "!host [id-front t2]", "192.0.2.2:true",
		"remotes id-front: [{Addrs:[10.70.1.22]", "VNI:101", "Routes:map[10.70.1.22:2]") // the way stays until the address is given back
	if want := []string{"[c1] [10.70.1.22]", "[10.70.1.22]"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
	must(t, m.Disconnect(t.Context(), "c1"))
	must(t, m.Round(t.Context()))
	wantShow(t, k, "nobody is left", "!virtual {", "!front 0.0.0.0", "!service [", "!host [")
	if err := m.Set(t.Context(), overlaynet.Config{}); err != nil {
		t.Fatal(err)
	}
	wantShow(t, k, "nothing", "mesh none", "inbound {Port:0 Peers:map[]")
}

// The containers of a daemon that has died run on: its node is held to be down,
// and gets nothing new, but who has a connection keeps it for as long as the
// machine answers.
func TestADaemonThatDiesEndsNoConnections(t *testing.T) {
	src, k, m := shop(t)
	at := netip.MustParseAddrPort("192.0.2.2:2377")
	k.answers = map[netip.AddrPort]bool{at: true}
	k.ended = nil
	src.peer("n2", func(p *overlaynet.Peer) { p.Down, p.Control = true, at })
	src.edit("front", func(d *stack.Directory) { d.Endpoints[0].Up, d.Endpoints[0].Ready = false, false })
	must(t, m.Round(t.Context()))
	wantShow(t, k, "its daemon is dead", "virtual {Network:id-front Addr:10.71.1.1}: {Backends:[{Addr:10.70.1.21 Port:0 Remote:false}]", "remotes id-front: [{Addrs:[10.70.1.22]")
	if len(k.ended) > 0 {
		t.Errorf("ended %v", k.ended)
	}
	src.edit("front", func(d *stack.Directory) { d.Endpoints = nil })
	src.edit("", func(d *stack.Directory) { d.Endpoints = nil })
	must(t, m.Round(t.Context()))
	wantShow(t, k, "its task is gone", "!remotes", "tunnel none")
	if want := []string{"[c1] [10.70.1.22]", "[10.70.1.22]"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
}

// The last container of a network leaves the node, which hears nothing more of
// the network then: who is led to its tasks elsewhere through a published port stays connected.
func TestLeavingANetworkEndsNoConnectionsThroughPorts(t *testing.T) {
	src, k, m := shop(t)
	k.ended = nil
	must(t, m.Disconnect(t.Context(), "c1"))
	src.edit("front", func(d *stack.Directory) { *d = stack.Directory{} })
	must(t, m.Round(t.Context()))
	if want := []string{"[10.70.1.21]"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
	src.edit("", func(d *stack.Directory) { d.Endpoints = nil })
	must(t, m.Round(t.Context()))
	if want := []string{"[10.70.1.21]", "[10.70.1.22]"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
}

// Several nodes are held to be down at once: each is asked, and only who answers keeps its connections.
func TestLostNodesAreAskedEach(t *testing.T) {
	src, k, m := shop(t)
	here, gone := netip.MustParseAddrPort("192.0.2.2:2377"), netip.MustParseAddrPort("192.0.2.3:2377")
	k.answers = map[netip.AddrPort]bool{here: true}
	src.edit("front", func(d *stack.Directory) {
		for i := range 50 {
			d.Endpoints = append(d.Endpoints, far(fmt.Sprintf("u%02d", i), fmt.Sprintf("n%d", 2+i%2), "front", "", fmt.Sprintf("10.70.1.%d", 100+i)))
		}
	})
	must(t, m.Round(t.Context()))
	k.ended = nil
	src.peer("n2", func(p *overlaynet.Peer) { p.Down, p.Control = true, here })
	src.peer("n3", func(p *overlaynet.Peer) { p.Down, p.Control = true, gone })
	must(t, m.Round(t.Context()))
	if got := strings.Join(k.ended, " "); strings.Contains(got, "10.70.1.100") || !strings.Contains(got, "10.70.1.101") {
		t.Errorf("ended %s", got)
	}
}

// What could not be ended at once is ended when it can be.
func TestConnectionsAreEndedInTheEnd(t *testing.T) {
	src, k, m := shop(t)
	for _, call := range []string{"Reset", "Forget"} {
		k.failing(call, errors.New("no room"))
	}
	src.edit("front", func(d *stack.Directory) { d.Endpoints = nil })
	src.edit("", func(d *stack.Directory) { d.Endpoints = nil })
	if err := m.Round(t.Context()); err == nil {
		t.Error("the failure is not told")
	}
	for _, call := range []string{"Reset", "Forget"} {
		k.failing(call, nil)
	}
	k.ended = nil
	must(t, m.Round(t.Context()))
	if want := []string{"[c1] [10.70.1.22]", "[10.70.1.22]"}; !slices.Equal(k.ended, want) {
		t.Errorf("ended %v, want %v", k.ended, want)
	}
}

// A node behind a VPN with the smallest MTU that IPv6 allows leaves less in the
// tunnels: the kernel would take the IPv6 addresses of all containers away.
func TestSmallLinksLeaveIPv6(t *testing.T) {
	both := span("both", 2)
	both.EnableIPv6, both.Subnets = true, append(both.Subnets, stack.Subnet{CIDR: "fd00:70:2::/64"})
	src, k := newSource(span("front", 1), both), newKernel()
	src.cluster(3)
	src.fabric.MTU = 1230
	m := k.manager(t, src)
	must(t, m.Restore(t.Context(), nil))
	for name, net := range map[string]string{"c1": "front", "c2": "both"} {
		_, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: name, Attachments: on(net)})
		must(t, err)
	}
	must(t, m.Round(t.Context()))
	wantShow(t, k, "a link of 1280 bytes", "segment front mtu 1230", "segment both mtu 1280", "MTU:1280 Addrs:[10.255.0.1/16 fd00:255::1/64]")
	for i := 1; i <= 3; i++ { // what is too large for IPv6 beneath is not broken up
		src.peer(fmt.Sprint("n", i), func(p *overlaynet.Peer) { p.Addr = netip.MustParseAddr(fmt.Sprint("2001:db8::", i)) })
	}
	must(t, m.Round(t.Context()))
	wantShow(t, k, "over IPv6", "segment front mtu 1230", "segment both mtu 1230")
	if got := strings.Join(m.Problems(), "\n"); !strings.Contains(got, "leaves packets of 1230 bytes") {
		t.Errorf("problems: %s", got)
	}
}

// A change costs with the change: one endpoint, one of each call.
func TestOneEndpointOneCall(t *testing.T) {
	src, k, m := shop(t)
	for i := range 100 {
		src.put("front", far(fmt.Sprint("x", i), "n3", "front", fmt.Sprint("shop/s", i%10), fmt.Sprintf("10.70.1.%d", 100+i)))
	}
	must(t, m.Round(t.Context()))
	if c := k.counts(); c["SetHost"] != 100 || c["SetRemotes"] != 1 || c["Apply"] != 0 {
		t.Errorf("a hundred endpoints of services without addresses: %v", c)
	}
	add := far("t3", "n3", "front", "shop/web", "10.70.1.23")
	src.put("front", add)
	must(t, m.Round(t.Context()))
	want := map[string]int{"SetHost": 1, "SetRemotes": 1, "Apply": 1}
	if c := k.counts(); !reflect.DeepEqual(c, want) {
		t.Errorf("one endpoint comes: %v, want %v", c, want)
	}
	add.Ready = false
	src.put("front", add)
	must(t, m.Round(t.Context()))
	want = map[string]int{"SetHost": 1, "Apply": 1, "Forget": 0}
	if c := k.counts(); c["SetHost"] != 1 || c["Apply"] != 1 || c["SetRemotes"] != 0 {
		t.Errorf("it drains: %v, want %v", c, want)
	}
	src.take("front", "t3")
	must(t, m.Round(t.Context()))
	want = map[string]int{"RemoveHost": 1, "SetRemotes": 1, "Reset": 1, "Forget": 1}
	if c := k.counts(); !reflect.DeepEqual(c, want) {
		t.Errorf("it goes after draining: %v, want %v", c, want)
	}
	src.change()
	must(t, m.Round(t.Context()))
	if c := k.counts(); len(c) != 0 {
		t.Errorf("nothing changed: %v", c)
	}
}

// What is not known yet is not torn down; being alone is known.
func TestUnknownIsKept(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	src.fabric = overlaynet.Fabric{}
	m := k.manager(t, src)
	have := overlaynet.Restored{Sandbox: task("c1", "10.70.1.21"), Ready: true}
	must(t, m.Restore(t.Context(), []overlaynet.Restored{have}))
	wantShow(t, k, "nothing is known", "keep true", "tunnel none")
	if c := k.counts(); c["SetMesh"]+c["SetRemotes"] != 0 {
		t.Errorf("nothing is known: %v", c)
	}
	src.cluster(2)
	must(t, m.Round(t.Context()))
	wantShow(t, k, "no directory", "keep true", "mesh {Tunnel")
	if c := k.counts(); c["SetRemotes"] != 0 {
		t.Errorf("no directory: %v", c)
	}
	src.put("front", far("t2", "n2", "front", "shop/web", "10.70.1.22"))
	must(t, m.Round(t.Context()))
	wantShow(t, k, "known", "keep false", "remotes id-front")
	shown := k.show()
	src.fabric = overlaynet.Fabric{}
	src.edit("front", func(*stack.Directory) {})
	src.dirs["front"] = nil
	must(t, m.Round(t.Context()))
	if got := k.show(); got != shown {
		t.Errorf("after what was known was lost:\n%s\nwant\n%s", got, shown)
	}
	src.fabric = overlaynet.Fabric{Known: true, Node: "n1"}
	src.edit("front", func(*stack.Directory) {})
	must(t, m.Round(t.Context()))
	wantShow(t, k, "alone", "keep false", "tunnel none", "!remotes", "mesh none", "inbound {Port:0")
}

// A restart that knows what was known before sends all of it in one transaction.
func TestRestoreWithDirectories(t *testing.T) {
	src, k, m := shop(t)
	c, _ := m.Connected("c1")
	want := k.show()
	k2 := newKernel()
	next := k2.manager(t, src)
	must(t, next.Restore(t.Context(), []overlaynet.Restored{{Sandbox: task("c1", "10.70.1.21"), Connected: *c, Ready: true}}))
	if got := k2.show(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n := k2.counts(); n["Apply"] != 1 || n["SetSegment"] != 1 || n["SetRemotes"] != 1 || n["SetMesh"] != 1 {
		t.Errorf("calls: %v", n)
	}
}

// What fails is tried again by the next round, and said meanwhile.
func TestRoundsRepeatWhatFails(t *testing.T) {
	no := errors.New("no such device")
	for _, call := range []string{"SetSegment", "SetRemotes", "SetMesh", "Apply"} {
		src, k, m := shop(t)
		src.put("front", far("t3", "n3", "front", "shop/web", "10.70.1.23"))
		src.put("", far("t3", "n3", "front", "shop/web", "10.70.1.23"))
		src.fabric.MTU = 1400
		k.failing(call, no)
		if err := m.Round(t.Context()); !errors.Is(err, no) {
			t.Errorf("%s: %v", call, err)
		}
		k.failing(call, nil)
		must(t, m.Round(t.Context()))
		wantShow(t, k, call, "mtu 1400", "front1400", "Via:192.0.2.3}", "10.70.1.23:3", "{Addr:10.70.1.23 Port:0", "{Addr:10.70.1.23 Port:80 Remote:true}")
	}
}

// A host port that a foreign process has is said; the others are published.
func TestTakenPublishedPort(t *testing.T) {
	src, k, m := shop(t)
	k.taken[8443] = true
	publish := func(ports ...stack.Port) {
		src.edit("", func(d *stack.Directory) { d.Published[0].Ports = ports })
		must(t, m.Round(t.Context()))
	}
	publish(stack.Port{HostPort: 8443, ContainerPort: 443}, stack.Port{HostPort: 8081, ContainerPort: 80})
	wantShow(t, k, "taken", "front 0.0.0.0:8081/tcp: [{Addr:10.70.1.22", "!:8443")
	said := strings.Join(m.Problems(), "\n")
	if !strings.Contains(said, "port 0.0.0.0:8443/tcp of service shop/web is not published on this node") || !strings.Contains(said, "nginx (pid 812)") {
		t.Errorf("problems: %s", said)
	}
	second := task("c2", "10.70.1.24")
	second.Ports = []stack.Port{{HostPort: 8443, ContainerPort: 443}}
	_, err := m.Connect(t.Context(), second)
	must(t, err)
	k.taken[8443] = false
	must(t, m.Set(t.Context(), overlaynet.Config{Sandboxes: []overlaynet.Restored{{Sandbox: task("c1", "10.70.1.21"), Ready: true}, {Sandbox: second, Ready: true}}}))
	wantShow(t, k, "free again", "front 0.0.0.0:8443/tcp: [{Addr:10.70.1.22 Port:443 Remote:true} {Addr:10.70.1.24 Port:443 Remote:false}]", "inlet 10.70.1.24:443/tcp: true")
	if said := m.Problems(); len(said) != 0 {
		t.Errorf("problems: %v", said)
	}
	publish()
	wantShow(t, k, "withdrawn: this node's containers go on", "front 0.0.0.0:8443/tcp: [{Addr:10.70.1.24 Port:443 Remote:false}]", "!inlet 10.70.1.24")
}

// A port that a plain container has is published when it is free.
// A container has the host ports that the cluster has chosen for its service,
// in whatever order it names them and whatever ranges they are from, also when
// both are news.
func TestChosenPortsAreShared(t *testing.T) {
	src, _, m := shop(t)
	src.edit("", func(d *stack.Directory) {
		d.Published[0].Ports = []stack.Port{
			{HostPort: 30000, ContainerPort: 80}, {HostPort: 9104, ContainerPort: 80}, {HostPort: 9103, ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80},
		}
	})
	for i := range 20 { // nobody has looked at what is published since
		sb := task(fmt.Sprint("x", i), fmt.Sprint("10.70.1.", 100+i))
		sb.Ports = []stack.Port{{ContainerPort: 80}, {HostPort: 9103, HostPortEnd: 9108, ContainerPort: 80}, {HostPort: 9100, HostPortEnd: 9105, ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80}}
		c, err := m.Connect(t.Context(), sb)
		must(t, err)
		var got []int
		for _, p := range c.Ports {
			if p.HostIP == "0.0.0.0" {
				got = append(got, int(p.HostPort))
			}
		}
		if want := []int{30000, 9104, 9103, 8080}; !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", sb.ID, got, want)
		}
	}
}

// A port that a container names is not taken by its range that ends there.
func TestNamedPortsComeBeforeRanges(t *testing.T) {
	_, _, m := shop(t)
	sb := task("x", "10.70.1.100")
	sb.Ports = []stack.Port{{HostPort: 8079, HostPortEnd: 8080, ContainerPort: 80}, {HostPort: 8080, ContainerPort: 80}}
	c, err := m.Connect(t.Context(), sb)
	must(t, err)
	if len(c.Ports) != 4 || c.Ports[0].HostPort != 8079 || c.Ports[2].HostPort != 8080 {
		t.Errorf("it has %v", c.Ports)
	}
}

func TestPublishedPortWaitsForAContainer(t *testing.T) {
	src, k, m := shop(t)
	src.set(bridgeNet("bridge", "10.70.9.0/24"))
	_, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "p", Name: "p", Attachments: on("bridge"), Ports: []stack.Port{{HostPort: 9000, ContainerPort: 1}}})
	must(t, err)
	src.edit("", func(d *stack.Directory) { d.Published[0].Ports = []stack.Port{{HostPort: 9000, ContainerPort: 80}} })
	must(t, m.Round(t.Context()))
	if said := strings.Join(m.Problems(), "\n"); !strings.Contains(said, "container p") {
		t.Errorf("problems: %s", said)
	}
	must(t, m.Disconnect(t.Context(), "p"))
	wantShow(t, k, "free", "front 0.0.0.0:9000/tcp: [{Addr:10.70.1.22 Port:80 Remote:true}]")
	if _, err := m.Connect(t.Context(), overlaynet.Sandbox{ID: "q", Attachments: on("bridge"), Ports: []stack.Port{{HostPort: 9000, ContainerPort: 1}}}); err == nil || !strings.Contains(err.Error(), "service shop/web") {
		t.Errorf("a port that all nodes publish was given to a container: %v", err)
	}
}

// The cluster's choice of a host port is taken over; a choice to prefer the
// tasks of the node that was asked is honoured while there are any.
func TestChosenPortAndLocalTasks(t *testing.T) {
	src, k, m := shop(t)
	src.edit("", func(d *stack.Directory) {
		d.Published[0] = stack.Published{Service: "shop/web", Local: true, Sticky: true, Ports: []stack.Port{{HostPort: 30001, ContainerPort: 80}}}
	})
	must(t, m.Round(t.Context()))
	sb := task("c2", "10.70.1.24")
	sb.Ports = []stack.Port{{ContainerPort: 80}}
	c, err := m.Connect(t.Context(), sb)
	must(t, err)
	if len(c.Ports) != 2 || c.Ports[0].HostPort != 30001 {
		t.Errorf("ports: %+v", c.Ports)
	}
	wantShow(t, k, "not ready", "front 0.0.0.0:30001/tcp: [{Addr:10.70.1.22 Port:80 Remote:true}]", "sticky 0.0.0.0:30001/tcp: true")
	m.SetReady("c2", true)
	wantShow(t, k, "ready", "front 0.0.0.0:30001/tcp: [{Addr:10.70.1.24 Port:80 Remote:false}]")
}

// Without br_netfilter names lead to containers.
func TestWithoutBridgeFilter(t *testing.T) {
	src, k := newSource(span("front", 1)), newKernel()
	k.unbridged = true
	src.edit("front", func(d *stack.Directory) {
		d.Services = []stack.ServiceAddress{{Service: "shop/web", IPv4: "10.71.1.1", Names: []string{"web"}}}
	})
	m := k.manager(t, src)
	_, err := m.Connect(t.Context(), task("c1", "10.70.1.21"))
	must(t, err)
	wantShow(t, k, "unbridged", "service [id-front shop/web]: {Network:id-front Service:shop/web Addrs:[] Names:[web]", "!virtual {")
	if said := strings.Join(m.Problems(), "\n"); !strings.Contains(said, "br_netfilter") {
		t.Errorf("problems: %s", said)
	}
}

// Nodes that cannot be reached are named.
func TestPeersWithoutAddress(t *testing.T) {
	src, _, m := shop(t)
	src.peer("n2", func(p *overlaynet.Peer) { p.Addr = netip.Addr{} })
	src.peer("n3", func(p *overlaynet.Peer) { p.Addr = netip.MustParseAddr("2001:db8::3") })
	must(t, m.Round(t.Context()))
	said := strings.Join(m.Problems(), "\n")
	for _, want := range []string{"node n2 has no address", "node n3 has 2001:db8::3"} {
		if !strings.Contains(said, want) {
			t.Errorf("want %s in: %s", want, said)
		}
	}
}
