package link

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

func openMesh(t testing.TB, dir string) *Links {
	t.Helper()
	l, err := New(Config{RunDir: dir, Spare: -1})
	nettest.Must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// meshOf is the mesh of node 1 of n+1, with so many tasks elsewhere.
func meshOf(l *Links, peers, tasks int) *overlaynet.Mesh {
	m := &overlaynet.Mesh{
		Tunnel: overlaynet.Tunnel{Device: overlaynet.MeshDevice(l.mark), VNI: 4096, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")},
		MTU:    1430,
		Addrs:  []netip.Prefix{netip.MustParsePrefix("10.255.0.1/16"), netip.MustParsePrefix("fd55::1/64")},
		Peers:  map[uint16]overlaynet.MeshPeer{}, Routes: map[netip.Addr]uint16{},
	}
	for n := 2; n < peers+2; n++ {
		a := []netip.Addr{netip.AddrFrom4([4]byte{10, 255, byte(n >> 8), byte(n)}), netip.MustParseAddr(fmt.Sprintf("fd55::%x", n))}
		m.Peers[uint16(n)] = overlaynet.MeshPeer{Via: netip.AddrFrom4([4]byte{192, 0, 3, byte(n)}), Addrs: a, MAC: overlaynet.MAC(a[0])}
	}
	for i := range tasks {
		m.Routes[taskAddr(i)] = uint16(2 + i%peers)
	}
	return m
}

// taskAddr is an IPv4 address for even numbers, IPv6 for odd ones.
func taskAddr(i int) netip.Addr {
	if i%2 == 0 {
		return netip.AddrFrom4([4]byte{10, 20, byte(i >> 8), byte(i)})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd20::%x", i+1))
}

// wantMesh compares the kernel with what m asks for.
func wantMesh(t *testing.T, l *Links, m *overlaynet.Mesh, when string) {
	t.Helper()
	want, err := l.meshWant(m)
	nettest.Must(t, err)
	index := l.host.index(m.Device)
	have, err := l.meshHave(index)
	nettest.Must(t, err)
	for r, hop := range want.routes {
		hop.index = index
		want.routes[r] = hop
	}
	if !reflect.DeepEqual(have, want) {
		t.Fatalf("%s: the kernel has\n%+v\nwant\n%+v", when, have, want)
	}
	st := l.host.link(m.Device)
	if !st.up || st.mtu != m.MTU || !st.vxlan.matches(m.Tunnel) {
		t.Fatalf("%s: device %+v", when, st)
	}
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + m.Device + "/rp_filter")
	nettest.Must(t, err)
	if strings.TrimSpace(string(b)) != "0" {
		t.Fatalf("%s: rp_filter %s", when, b)
	}
}

func setMesh(t *testing.T, l *Links, m *overlaynet.Mesh) (writes uint64) {
	t.Helper()
	before := l.Writes()
	nettest.Must(t, l.SetMesh(context.Background(), m))
	return l.Writes() - before
}

// all is everything that policy routing and links are about.
func allRouting(t *testing.T) string {
	t.Helper()
	return nettest.Run(t, "sh", "-c", "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip -br link; ip neigh; ip -6 neigh")
}

// A change costs what it changes, with a hundred peers and thousands of tasks.
func TestMeshChangesCostTheDifference(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := openMesh(t, t.TempDir())
	m := meshOf(l, 100, 5000)
	begin := time.Now()
	setMesh(t, l, m)
	t.Logf("100 peers, 5000 tasks: %v", time.Since(begin).Round(time.Millisecond))
	wantMesh(t, l, m, "at first")
	begin = time.Now()
	if n := setMesh(t, l, m); n != 0 {
		t.Errorf("the same again: %d writes", n)
	}
	t.Logf("looked at: %v", time.Since(begin).Round(100*time.Microsecond))
	for _, c := range []struct {
		what   string
		writes uint64
		change func(*overlaynet.Mesh)
	}{
		{"a task more", 1, func(m *overlaynet.Mesh) { m.Routes[taskAddr(6000)] = 7 }},
		{"a task moves", 1, func(m *overlaynet.Mesh) { m.Routes[taskAddr(6000)] = 8 }},
		{"a task less", 1, func(m *overlaynet.Mesh) { delete(m.Routes, taskAddr(6000)) }},
		{"a peer's address", 2, func(m *overlaynet.Mesh) {
			p := m.Peers[9]
			p.Via = netip.MustParseAddr("192.0.9.9")
			m.Peers[9] = p
		}},
		{"an IPv6 address of a task", 1, func(m *overlaynet.Mesh) { m.Routes[taskAddr(6001)] = 7 }},
	} {
		next := *m
		next.Routes, next.Peers = maps.Clone(m.Routes), maps.Clone(m.Peers)
		c.change(&next)
		begin := time.Now()
		n := setMesh(t, l, &next)
		took := time.Since(begin)
		if n != c.writes {
			t.Errorf("%s: %d writes, want %d", c.what, n, c.writes)
		}
		t.Logf("%s: %v", c.what, took.Round(10*time.Microsecond))
		wantMesh(t, l, &next, c.what)
		m = &next
	}
	next := *m
	next.Peers = maps.Clone(m.Peers)
	delete(next.Peers, 9) // its tasks have no way any more
	setMesh(t, l, &next)
	wantMesh(t, l, &next, "a peer less")
}

// Whatever somebody does to it by hand is noticed, and put right by the next call.
func TestMeshIsRepaired(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := openMesh(t, t.TempDir())
	m := meshOf(l, 3, 6)
	setMesh(t, l, m)
	woken := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx, func() { woken <- struct{}{} }) }()
	defer func() { cancel(); <-done }()
	first, tasks, peer := meshPriority(l.mark), meshTable(l.mark, 0), meshTable(l.mark, 2)
	dev := m.Device
	for _, c := range []struct {
		damage string
		silent bool // nobody is told; the slow timer finds it
	}{
		{fmt.Sprintf("ip link del %s", dev), false},
		{fmt.Sprintf("ip link set %s down", dev), false},
		{fmt.Sprintf("ip link set %s mtu 1200", dev), true},
		{fmt.Sprintf("ip rule del pref %d", first), false},
		{fmt.Sprintf("ip -6 rule del pref %d", first+1), false},
		{fmt.Sprintf("ip rule del pref %d fwmark 0x1002/0x1fff", first+2), false},
		{fmt.Sprintf("ip rule del pref %d", first+3), false},
		{"ip rule flush", false},
		{fmt.Sprintf("ip route flush table %d", tasks), false},
		{fmt.Sprintf("ip -6 route flush table %d", peer), false},
		{fmt.Sprintf("ip route replace 10.20.0.2 via 10.255.0.3 dev %s table %d proto 68 onlink", dev, tasks), false},
		{fmt.Sprintf("ip route replace blackhole 10.20.0.2 table %d", tasks), false},
		{fmt.Sprintf("ip neigh del 10.255.0.2 dev %s", dev), false},
		{fmt.Sprintf("ip neigh replace 10.255.0.3 lladdr 02:00:00:00:00:01 dev %s nud permanent", dev), false},
		{fmt.Sprintf("bridge fdb del %s dev %s dst 192.0.3.3 self", m.Peers[3].MAC, dev), false},
		{fmt.Sprintf("bridge fdb replace %s dev %s dst 192.0.3.99 self permanent", m.Peers[3].MAC, dev), false},
		{fmt.Sprintf("ip addr del 10.255.0.1/16 dev %s", dev), false},
		{fmt.Sprintf("echo 1 > /proc/sys/net/ipv4/conf/%s/rp_filter", dev), true},
		{fmt.Sprintf("ip rule add pref %d fwmark 0x1009/0x1fff lookup %d proto 68", first+2, meshTable(l.mark, 9)), true},
		{fmt.Sprintf("ip route add 10.20.0.77 via 10.255.0.4 dev %s table %d proto 68 onlink", dev, tasks), true},
		{fmt.Sprintf("ip addr add 10.77.0.1/24 dev %s", dev), true},
	} {
		for len(woken) > 0 {
			<-woken
		}
		nettest.Run(t, "sh", "-ec", c.damage)
		if !c.silent {
			nettest.Until(t, "waking after "+c.damage, func() bool { return len(woken) > 0 })
		}
		setMesh(t, l, m)
		wantMesh(t, l, m, c.damage)
		if c.damage == "ip rule flush" { // it took the system's too
			nettest.Run(t, "sh", "-c", "ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
		}
	}
	if n := setMesh(t, l, m); n != 0 {
		t.Errorf("in the end %d writes", n)
	}
}

// Rules and routes of others, and of another node's mesh, are left alone, and
// nothing of ours stays.
func TestMeshLeavesNoTrace(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	nettest.Run(t, "sh", "-ec", `
		ip link set lo up
		for v in -4 -6; do
			ip $v rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
			ip $v rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
			ip $v rule add pref 5270 lookup 52
			ip $v rule add pref 4500 fwmark 0x1001/0x1fff lookup 4501 protocol 68
		done
		ip route add 100.64.0.0/10 dev lo table 52
		ip route add 10.99.0.0/16 dev lo table 4501 proto 68`)
	other := openMesh(t, t.TempDir())
	theirs := meshOf(other, 2, 4)
	theirs.VNI = 5000
	setMesh(t, other, theirs)
	nettest.Until(t, "the kernel takes up the address, which it does on the side", func() bool {
		r := allRouting(t)
		return strings.Contains(r, "local fd55::1 ") && strings.Contains(r, "anycast fd55:: ")
	})
	before := allRouting(t)
	l := openMesh(t, t.TempDir())
	if meshPriority(l.mark) == meshPriority(other.mark) || meshTable(l.mark, 0) == meshTable(other.mark, 0) {
		t.Skip("SKIPPED: the two directories fall into the same place, one time in 256")
	}
	setMesh(t, l, meshOf(l, 3, 10))
	wantMesh(t, l, meshOf(l, 3, 10), "set")
	wantMesh(t, other, theirs, "the other's")
	again := openMesh(t, l.cfg.RunDir) // a process that knows nothing of it
	nettest.Must(t, again.SetMesh(context.Background(), nil))
	if after := allRouting(t); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
	if n := setMesh(t, again, nil); n != 0 {
		t.Errorf("nothing to do: %d writes", n)
	}
}

// A process may be killed between any two steps: the next one goes on from there.
func TestMeshAfterEveryPartialSet(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l := openMesh(t, dir)
	m := meshOf(l, 2, 4)
	moved := meshOf(l, 3, 5)
	moved.Addrs[0] = netip.MustParsePrefix("10.255.0.1/24")
	moved.Routes[taskAddr(0)] = 3
	setMesh(t, l, m)
	want, err := l.meshWant(moved)
	nettest.Must(t, err)
	for k := 0; ; k++ {
		l := openMesh(t, dir)
		setMesh(t, l, m)
		steps := l.mesh.have.towards(want, l.mesh.index)
		if k > len(steps) {
			break
		}
		nettest.Must(t, l.host.do(steps[:k]...))
		next := openMesh(t, dir)
		if k%2 == 0 {
			setMesh(t, next, moved)
			wantMesh(t, next, moved, fmt.Sprintf("after %d steps", k))
		} else {
			setMesh(t, next, m)
			wantMesh(t, next, m, fmt.Sprintf("back after %d steps", k))
		}
	}
	setMesh(t, openMesh(t, dir), nil)
	if s := allRouting(t); strings.Contains(s, l.mark) || strings.Contains(s, "proto 68") {
		t.Errorf("left:\n%s", s)
	}
}

// What cannot be done is said, and the rest is done.
func TestMeshWithBadPeers(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l := openMesh(t, t.TempDir())
	m := meshOf(l, 2, 2)
	m.Peers[5000] = overlaynet.MeshPeer{Via: netip.MustParseAddr("192.0.2.50"), Addrs: []netip.Addr{netip.MustParseAddr("10.255.19.136")}, MAC: "02:42:0a:ff:13:88"}
	err := l.SetMesh(context.Background(), m)
	if err == nil || !strings.Contains(err.Error(), "numbers 1 to 4095") {
		t.Errorf("got %v", err)
	}
	delete(m.Peers, 5000)
	wantMesh(t, l, m, "without it")
}
