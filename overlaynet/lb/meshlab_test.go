package lb_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// meshLab is hosts on one LAN, 192.0.2.N and 2001:db8::N, each with a bridge of
// the network "front"; the first is the process's own namespace. Its last
// machine, 192.0.2.9, is a client and no host; another client, 198.51.100.9, is
// known to host 1 alone.
type meshLab struct {
	t      testing.TB
	wire   string
	hosts  map[int]*meshHost
	near   string // namespaces of the clients
	behind string
	v6     bool                  // the underlay
	tasks  map[netip.Addr]uint16 // all, by the number of their host
}

type meshHost struct {
	lab    *meshLab
	n      int
	path   string // "": the process's own
	dir    string
	links  *link.Links
	rules  *lb.Rules
	change overlaynet.Change // what the rules were told last of published ports
}

func newNamespace(t testing.TB) string {
	t.Helper()
	var h netns.NsHandle
	nettest.Must(t, nettest.In(t, "/proc/self/ns/net", func() (err error) { h, err = netns.New(); return err }))
	defer h.Close()
	path := filepath.Join(t.TempDir(), "ns")
	nettest.Must(t, os.WriteFile(path, nil, 0o600))
	nettest.Must(t, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", int(h)), path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	nettest.Must(t, nettest.In(t, path, func() error { return up("lo") }))
	return path
}

func up(name string, addrs ...string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
		return err
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// sh runs a command in the namespace.
func sh(t testing.TB, path, command string) string {
	t.Helper()
	if path == "" {
		return nettest.Run(t, "sh", "-c", command)
	}
	return nettest.Run(t, "nsenter", "--net="+path, "sh", "-c", command)
}

// attach gives a namespace an interface in the LAN.
func (l *meshLab) attach(path, name string, addrs ...string) {
	l.t.Helper()
	port := "p" + name
	to := path
	if to == "" {
		to = "/proc/self/ns/net"
	}
	h, err := netns.GetFromPath(to)
	nettest.Must(l.t, err)
	defer h.Close()
	nettest.Must(l.t, nettest.In(l.t, l.wire, func() error {
		la := netlink.NewLinkAttrs()
		la.Name = port
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: name, PeerNamespace: netlink.NsFd(h)}); err != nil {
			return err
		}
		br, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		p, err := netlink.LinkByName(port)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(p, br); err != nil {
			return err
		}
		return netlink.LinkSetUp(p)
	}))
	nettest.Must(l.t, nettest.In(l.t, path, func() error { return up(name, addrs...) }))
	_ = sh(l.t, l.wire, "ip link show "+port) // makes the kernel finish the change of carrier
}

func newMeshLab(t testing.TB, hosts int) *meshLab {
	t.Helper()
	l := &meshLab{t: t, wire: newNamespace(t), hosts: map[int]*meshHost{}, tasks: map[netip.Addr]uint16{}}
	sh(t, l.wire, "ip link add lan type bridge forward_delay 0 && ip link set lan up")
	for n := 1; n <= hosts; n++ {
		h := &meshHost{lab: l, n: n, dir: t.TempDir()}
		if n > 1 {
			h.path = newNamespace(t)
		}
		l.attach(h.path, fmt.Sprint("up", n), fmt.Sprintf("192.0.2.%d/24", n), fmt.Sprintf("2001:db8::%d/64", n))
		h.open()
		l.hosts[n] = h
	}
	l.near = newNamespace(t)
	l.attach(l.near, "near", "192.0.2.9/24", "2001:db8::9/64")
	l.behind = newNamespace(t)
	nettest.Must(t, nettest.In(t, "", func() error {
		h, err := netns.GetFromPath(l.behind)
		if err != nil {
			return err
		}
		defer h.Close()
		la := netlink.NewLinkAttrs()
		la.Name = "far"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(h)})
	}))
	nettest.Must(t, up("far", "198.51.100.1/24", "2001:db8:99::1/64"))
	nettest.Must(t, nettest.In(t, l.behind, func() error { return up("eth0", "198.51.100.9/24", "2001:db8:99::9/64") }))
	sh(t, l.behind, "ip route add default via 198.51.100.1 && ip -6 route add default via 2001:db8:99::1")
	return l
}

// open makes the host's links and rules as a new process would.
func (h *meshHost) open() {
	h.lab.t.Helper()
	h.do(func() (err error) {
		h.links, err = link.New(link.Config{RunDir: h.dir, Spare: -1})
		h.rules = lb.New(lb.Config{RunDir: h.dir})
		return err
	})
	l := h.links
	h.lab.t.Cleanup(func() { l.Close() })
}

func (h *meshHost) do(f func() error) {
	h.lab.t.Helper()
	nettest.Must(h.lab.t, nettest.In(h.lab.t, h.path, f))
}

func (h *meshHost) sh(format string, args ...any) string {
	h.lab.t.Helper()
	return sh(h.lab.t, h.path, fmt.Sprintf(format, args...))
}

func (h *meshHost) segment() overlaynet.Segment {
	return overlaynet.Segment{
		ID: "front", Name: "front", Bridge: overlaynet.Mark(h.dir) + "bfront", MTU: 1430, Masquerade: true,
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.20.0.1/24"), netip.MustParsePrefix("fd20::1/64")},
		Tunnel:   &overlaynet.Tunnel{Device: overlaynet.Mark(h.dir) + "xfront", VNI: 4097, Port: 4789, Local: h.lab.underlay(h.n)},
	}
}

// remotes are the containers of "front" on other hosts.
func (h *meshHost) remotes() (out []overlaynet.Remote) {
	for a, n := range h.lab.tasks {
		if int(n) != h.n {
			b := a.AsSlice()
			out = append(out, overlaynet.Remote{Addrs: []netip.Addr{a}, MAC: frontMAC(int(b[len(b)-1])), Via: h.lab.underlay(int(n))})
		}
	}
	return out
}

func frontMAC(c int) string { return fmt.Sprintf("02:42:0a:14:00:%02x", c) }

// run starts a task with the server NAME REMOTE-ADDRESS on port 80; its
// addresses are 10.20.0.C and fd20::C. only4: it has no IPv6 address.
func (h *meshHost) run(c int, only4 bool) (path string) {
	h.lab.t.Helper()
	s := h.segment()
	h.do(func() error { return h.links.SetSegment(context.Background(), s) })
	p := overlaynet.Plug{
		Segment: s, Host: fmt.Sprintf("%sv%d", overlaynet.Mark(h.dir), c), Interface: "eth0", MAC: frontMAC(c),
		Addrs:    []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.20.0.%d/24", c))},
		Gateway4: s.Gateways[0].Addr(),
	}
	if !only4 {
		p.Addrs, p.Gateway6 = append(p.Addrs, netip.MustParsePrefix(fmt.Sprintf("fd20::%x/64", c))), s.Gateways[1].Addr()
	}
	h.do(func() (err error) {
		path, err = h.links.SetSandbox(context.Background(), fmt.Sprint("c", c), []overlaynet.Plug{p})
		return err
	})
	h.lab.t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	for _, a := range p.Addrs {
		h.lab.tasks[a.Addr()] = uint16(h.n)
	}
	for _, network := range []string{"tcp", "udp4", "udp6"} {
		if network != "udp6" || !only4 {
			nettest.Serve(h.lab.t, path, fmt.Sprint("c", c), network, ":80")
		}
	}
	return path
}

// back starts a container in another network of the host; its addresses are
// 10.21.0.C and fd21::C.
func (h *meshHost) back(c int) (path string) {
	h.lab.t.Helper()
	s := overlaynet.Segment{
		ID: "back", Name: "back", Bridge: overlaynet.Mark(h.dir) + "bback", MTU: 1430, Masquerade: true,
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.21.0.1/24"), netip.MustParsePrefix("fd21::1/64")},
	}
	p := overlaynet.Plug{
		Segment: s, Host: fmt.Sprintf("%sv%d", overlaynet.Mark(h.dir), c), Interface: "eth0", MAC: fmt.Sprintf("02:42:0a:15:00:%02x", c),
		Addrs:    []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.21.0.%d/24", c)), netip.MustParsePrefix(fmt.Sprintf("fd21::%x/64", c))},
		Gateway4: s.Gateways[0].Addr(), Gateway6: s.Gateways[1].Addr(),
	}
	h.do(func() (err error) {
		if err = h.links.SetSegment(context.Background(), s); err != nil {
			return err
		}
		if path, err = h.links.SetSandbox(context.Background(), fmt.Sprint("c", c), []overlaynet.Plug{p}); err != nil {
			return err
		}
		return h.rules.Apply(context.Background(), overlaynet.Change{Segments: map[string]*overlaynet.Segment{s.ID: &s}})
	})
	h.lab.t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// mesh is what the host is to know of the others.
func (h *meshHost) mesh() *overlaynet.Mesh {
	m := &overlaynet.Mesh{
		Tunnel: overlaynet.Tunnel{Device: overlaynet.MeshDevice(overlaynet.Mark(h.dir)), VNI: 4096, Port: 4789, Local: h.lab.underlay(h.n)},
		MTU:    1430, Peers: map[uint16]overlaynet.MeshPeer{}, Routes: map[netip.Addr]uint16{},
	}
	for _, a := range meshAddrs(h.n) {
		m.Addrs = append(m.Addrs, netip.PrefixFrom(a, map[bool]int{true: 24, false: 64}[a.Is4()]))
	}
	for n := range h.lab.hosts {
		if n != h.n {
			a := meshAddrs(n)
			m.Peers[uint16(n)] = overlaynet.MeshPeer{Via: h.lab.underlay(n), Addrs: a, MAC: overlaynet.MAC(a[0])}
		}
	}
	for a, n := range h.lab.tasks {
		if int(n) != h.n {
			m.Routes[a] = n
		}
	}
	return m
}

func (l *meshLab) underlay(n int) netip.Addr {
	if l.v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))
}

func meshAddrs(n int) []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.255.0.%d", n)), netip.MustParseAddr(fmt.Sprintf("fd55::%d", n))}
}

// publish makes port 8080 of every host lead to the tasks, or to those that
// only lists.
func (l *meshLab) publish(only ...int) {
	l.t.Helper()
	for _, h := range l.hosts {
		h.publish(only...)
	}
}

func (h *meshHost) publish(only ...int) {
	h.lab.t.Helper()
	m := h.mesh()
	in := &overlaynet.Inbound{Port: m.Port, Mesh: m.Device, Peers: map[netip.Addr]bool{}, Nodes: map[netip.Addr]bool{}, Marks: map[string]uint16{}}
	for n, p := range m.Peers {
		in.Peers[p.Via], in.Nodes[p.Via], in.Marks[p.MAC] = true, true, n
		in.Nodes[netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))], in.Nodes[netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))] = true, true
	}
	s := h.segment()
	c := overlaynet.Change{
		Segments: map[string]*overlaynet.Segment{s.ID: &s}, Frontends: map[overlaynet.Frontend][]overlaynet.Backend{},
		Inlets: map[overlaynet.Frontend]bool{}, Locals: map[netip.Addr]bool{}, Inbound: in,
	}
	wanted := map[netip.Addr]bool{}
	for _, x := range only {
		wanted[netip.MustParseAddr(fmt.Sprintf("10.20.0.%d", x))], wanted[netip.MustParseAddr(fmt.Sprintf("fd20::%x", x))] = true, true
	}
	for a, n := range h.lab.tasks {
		for _, proto := range []string{"tcp", "udp"} {
			if int(n) == h.n {
				c.Inlets[overlaynet.Frontend{Protocol: proto, Addr: a, Port: 80}], c.Locals[a] = true, true
			}
			if only != nil && !wanted[a] {
				continue
			}
			f := overlaynet.Frontend{Protocol: proto, Addr: netip.IPv4Unspecified(), Port: 8080}
			if a.Is6() {
				f.Addr = netip.IPv6Unspecified()
			}
			c.Frontends[f] = append(c.Frontends[f], overlaynet.Backend{Addr: a, Port: 80, Remote: int(n) != h.n})
		}
	}
	h.change = c
	h.do(func() error {
		if err := h.links.SetSegment(context.Background(), s); err != nil {
			return err
		}
		if err := h.links.SetRemotes(context.Background(), s, h.remotes()); err != nil {
			return err
		}
		if err := h.links.SetMesh(context.Background(), m); err != nil {
			return err
		}
		return h.rules.Apply(context.Background(), c)
	})
}

// alsoPublish makes port 9090 of every host lead to another port of task 5.
func (l *meshLab) alsoPublish(port uint16) {
	l.t.Helper()
	for _, h := range l.hosts {
		h.publishMore(port)
	}
}

func (h *meshHost) publishMore(port uint16) {
	h.lab.t.Helper()
	c := overlaynet.Change{Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}, Inlets: map[overlaynet.Frontend]bool{}}
	for _, a := range []netip.Addr{netip.MustParseAddr("10.20.0.5"), netip.MustParseAddr("fd20::5")} {
		n := int(h.lab.tasks[a])
		for _, proto := range []string{"tcp", "udp"} {
			c.Frontends[overlaynet.Frontend{Protocol: proto, Addr: zeroOf(a), Port: 9090}] = []overlaynet.Backend{{Addr: a, Port: port, Remote: n != h.n}}
			if n == h.n {
				c.Inlets[overlaynet.Frontend{Protocol: proto, Addr: a, Port: port}] = true
			}
		}
	}
	h.do(func() error { return h.rules.Apply(context.Background(), c) })
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
