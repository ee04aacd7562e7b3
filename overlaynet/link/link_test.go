package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/runtime"
)

var ctx = context.Background()

func open(t testing.TB, dir string) *link.Links {
	t.Helper()
	l, err := link.New(link.Config{RunDir: dir, Spare: -1})
	nettest.Must(t, err)
	t.Cleanup(func() {
		l.Close()
		files, _ := filepath.Glob(filepath.Join(dir, "netns", "*"))
		for _, f := range files {
			_ = unix.Unmount(f, unix.MNT_DETACH)
		}
	})
	return l
}

// onSegment opens links of a node that is in one network, and returns them with
// the mark of their names.
func onSegment(t testing.TB, gateways ...string) (l *link.Links, mark string, seg overlaynet.Segment) {
	t.Helper()
	dir := t.TempDir()
	l, mark = open(t, dir), overlaynet.Mark(dir)
	seg = segment(mark+"b", gateways...)
	nettest.Must(t, l.SetSegment(ctx, seg))
	return l, mark, seg
}

func segment(l string, gateways ...string) overlaynet.Segment {
	s := overlaynet.Segment{ID: "net", Name: "net", Bridge: l}
	for _, g := range gateways {
		s.Gateways = append(s.Gateways, netip.MustParsePrefix(g))
	}
	return s
}

func plug(s overlaynet.Segment, mark string, n int) overlaynet.Plug {
	return overlaynet.Plug{
		Segment: s, Host: fmt.Sprintf("%sv%d", mark, n), Interface: "eth0", MAC: fmt.Sprintf("02:42:0a:00:00:%02x", n),
		Addrs:    []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.1.0.%d/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd01::%x/64", n))},
		Gateway4: netip.MustParseAddr("10.1.0.1"), Gateway6: netip.MustParseAddr("fd01::1"),
	}
}

func inside(t testing.TB, path string, args ...string) string {
	t.Helper()
	return nettest.Run(t, "nsenter", append([]string{"--net=" + path}, args...)...)
}

// What a sandbox gets is what was asked for.
func TestSandbox(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "fd01::1/64")
	seg.MTU = 1400
	nettest.Must(t, l.SetSegment(ctx, seg))
	p := plug(seg, mark, 7)
	p.Addrs = append(p.Addrs, netip.MustParsePrefix("169.254.3.4/16"))
	p.Sysctls = map[string]string{"net.ipv4.conf.eth0.arp_notify": "1"}
	path, err := l.SetSandbox(ctx, "c7", []overlaynet.Plug{p})
	nettest.Must(t, err)
	for _, c := range []struct{ cmd, want string }{
		{"ip addr show eth0", "inet 10.1.0.7/24"},
		{"ip addr show eth0", "inet6 fd01::7/64"},
		{"ip addr show eth0", "inet 169.254.3.4/16"},
		{"ip link show eth0", "mtu 1400"},
		{"ip link show eth0", "link/ether 02:42:0a:00:00:07"},
		{"ip link show eth0", "state UP"},
		{"ip link show lo", "UP"},
		{"ip route", "default via 10.1.0.1 dev eth0"},
		{"ip -6 route", "default via fd01::1 dev eth0"},
		{"sysctl net.ipv4.conf.eth0.arp_notify", "= 1"},
		{"sysctl net.ipv4.ip_unprivileged_port_start", "= 0"},
	} {
		if got := inside(t, path, strings.Fields(c.cmd)...); !strings.Contains(got, c.want) {
			t.Errorf("%s: got\n%s\nwant %q", c.cmd, got, c.want)
		}
	}
	if got := nettest.Run(t, "ip", "link", "show", "master", seg.Bridge); !strings.Contains(got, p.Host) {
		t.Errorf("%s is not in the bridge:\n%s", p.Host, got)
	}
	nettest.Serve(t, path, "c7", "tcp", ":80")
	nettest.WantAsk(t, "over the bridge", "", "tcp", "10.1.0.7:80", "c7 10.1.0.1")
	nettest.WantAsk(t, "over the bridge", "", "tcp", "[fd01::7]:80", "c7 fd01::1")

	nettest.Must(t, l.Unplug(ctx, "c7", p))
	if got := inside(t, path, "ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("unplugged, but there is\n%s", got)
	}
	nettest.Must(t, l.RemoveSandbox(ctx, "c7", nil))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace left: %v", err)
	}
}

// A container's default routes follow its networks; other routes stay.
func TestReroute(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	a, b := segment(mark+"b1", "10.1.0.1/24"), segment(mark+"b2", "10.2.0.1/24")
	nettest.Must(t, errors.Join(l.SetSegment(ctx, a), l.SetSegment(ctx, b)))
	pa := overlaynet.Plug{Segment: a, Host: mark + "va", Interface: "eth0", MAC: "02:00:00:00:00:01", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}, Gateway4: netip.MustParseAddr("10.1.0.1")}
	pb := overlaynet.Plug{Segment: b, Host: mark + "vb", Interface: "eth1", MAC: "02:00:00:00:00:02", Addrs: []netip.Prefix{netip.MustParsePrefix("10.2.0.2/24")}}
	path, err := l.SetSandbox(ctx, "c", []overlaynet.Plug{pa, pb})
	nettest.Must(t, err)
	inside(t, path, "ip", "route", "add", "198.51.100.0/24", "via", "10.1.0.1")
	pa.Gateway4, pb.Gateway4 = netip.Addr{}, netip.MustParseAddr("10.2.0.1")
	nettest.Must(t, l.Reroute(ctx, "c", []overlaynet.Plug{pa, pb}))
	got := inside(t, path, "ip", "route")
	if !strings.Contains(got, "default via 10.2.0.1 dev eth1") || strings.Count(got, "default") != 1 || !strings.Contains(got, "198.51.100.0/24") {
		t.Errorf("got\n%s", got)
	}
}

// What somebody changes by hand on the host's side comes back, and setting
// what is right writes nothing.
func TestSetRepairsAndOtherwiseWritesNothing(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "10.9.0.1/24", "fd01::1/64")
	plugs := []overlaynet.Plug{plug(seg, mark, 7)}
	set := func() {
		t.Helper()
		nettest.Must(t, l.SetSegment(ctx, seg))
		_, err := l.SetSandbox(ctx, "c7", plugs)
		nettest.Must(t, err)
	}
	see := func() string {
		out := nettest.Run(t, "sh", "-c", `ip -o addr show scope global | awk '{print $2, $4}'; ip -br link show master $0 | awk '{print $1, $2}' | sed s/@.*UP/UP/
			ip route show dev $0 | awk '{print $1, "via", $0}' | sed s/linkdown//; ip -6 route show dev $0 | grep -v fe80 | awk '{print $1}'
			sysctl net.ipv4.ip_forward net.ipv4.conf.$0.route_localnet; ip -br link show $0 | awk '{print $1, $2}'`, seg.Bridge)
		lines := strings.Split(out, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	set()
	path := filepath.Join(dir, "netns", "c7")
	nettest.Serve(t, path, "c7", "tcp", ":80")
	good := see()
	for _, damage := range []string{
		"", // none
		"ip addr del 10.1.0.1/24 dev BRIDGE",
		"ip -6 addr del fd01::1/64 dev BRIDGE",
		"ip addr flush dev BRIDGE",
		"ip route del 10.1.0.0/24 dev BRIDGE",
		"ip -6 route del fd01::/64 dev BRIDGE",
		"ip link set VETH nomaster",
		"ip link set VETH down",
		"ip link set BRIDGE down",
		"sysctl -w net.ipv4.ip_forward=0",
		"sysctl -w net.ipv4.conf.BRIDGE.route_localnet=0",
		"ip link del BRIDGE",
		"ip link del VETH",
	} {
		if damage != "" {
			nettest.Run(t, "sh", "-c", strings.NewReplacer("BRIDGE", seg.Bridge, "VETH", plugs[0].Host).Replace(damage))
			set()
		}
		nettest.Until(t, damage+": repaired to "+see()+" want "+good, func() bool { return see() == good })
		nettest.WantAsk(t, damage, "", "tcp", "10.1.0.7:80", "c7 10.1.0.1")
		nettest.WantAsk(t, damage, "", "tcp", "[fd01::7]:80", "c7 fd01::1")
		before := l.Writes()
		set()
		if n := l.Writes() - before; n != 0 {
			t.Errorf("%s: %d writes to set what is right", damage, n)
		}
	}
}

// A container's own changes inside its namespace are its own business: a VPN
// client sets its default route there.
func TestInsideIsLeftAlone(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l, mark, seg := onSegment(t, "10.1.0.1/24", "fd01::1/64")
	plugs := []overlaynet.Plug{plug(seg, mark, 7)}
	path, err := l.SetSandbox(ctx, "c7", plugs)
	nettest.Must(t, err)
	inside(t, path, "ip", "route", "replace", "default", "via", "10.1.0.99")
	_, err = l.SetSandbox(ctx, "c7", plugs)
	nettest.Must(t, err)
	if got := inside(t, path, "ip", "route"); !strings.Contains(got, "default via 10.1.0.99") {
		t.Errorf("got\n%s", got)
	}
}

// A bridge with a name of the user's choice is ours by its mark; somebody
// else's interface of that name is neither used nor removed.
func TestNamedBridges(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l := open(t, dir)
	seg := segment("br-shop", "10.1.0.1/24")
	nettest.Must(t, l.SetSegment(ctx, seg))
	nettest.Must(t, open(t, dir).SetSegment(ctx, seg)) // the next daemon
	if err := open(t, t.TempDir()).SetSegment(ctx, seg); !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), "br-shop") {
		t.Errorf("another daemon: %v", err)
	}
	nettest.Run(t, "ip", "link", "add", "docker0", "type", "bridge")
	theirs := segment("docker0", "10.2.0.1/24")
	if err := l.SetSegment(ctx, theirs); !errors.Is(err, runtime.ErrConflict) {
		t.Errorf("docker0: %v", err)
	}
	nettest.Must(t, l.RemoveSegment(ctx, theirs))
	if _, err := net.InterfaceByName("docker0"); err != nil {
		t.Error("docker0 was removed")
	}
	nettest.Must(t, l.Sweep(ctx, nil, nil))
	if _, err := net.InterfaceByName("br-shop"); err == nil {
		t.Error("br-shop was not swept")
	}
	if _, err := net.InterfaceByName("docker0"); err != nil {
		t.Error("docker0 was swept")
	}
}

func linksOf(t testing.TB) string {
	return nettest.Run(t, "sh", "-c", "ip -br link | awk '{print $1}' | sort")
}

// A sandbox that cannot be made whole leaves nothing.
func TestBadPlugLeavesNothing(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "fd01::1/64")
	nettest.Must(t, l.SetSegment(ctx, seg))
	before := linksOf(t)
	bad := map[string]func(*overlaynet.Plug){
		"mac":     func(p *overlaynet.Plug) { p.MAC = "01:00:00:00:00:01" }, // multicast
		"gateway": func(p *overlaynet.Plug) { p.Gateway4 = netip.MustParseAddr("203.0.113.1") },
		"bridge":  func(p *overlaynet.Plug) { p.Segment.Bridge = "none" },
		"sysctl":  func(p *overlaynet.Plug) { p.Sysctls = map[string]string{"net.ipv4.conf.eth0.nonsense": "1"} },
		"machine": func(p *overlaynet.Plug) { p.Sysctls = map[string]string{"kernel.printk_ratelimit": "5"} }, // as it is
	}
	for name, spoil := range bad {
		good, p := plug(seg, mark, 7), plug(seg, mark, 8)
		p.Interface = "eth1"
		spoil(&p)
		if path, err := l.SetSandbox(ctx, name, []overlaynet.Plug{good, p}); err == nil {
			t.Errorf("%s: got %s", name, path)
		}
		if after := linksOf(t); after != before {
			t.Errorf("%s: left\n%s", name, after)
		}
		if _, err := os.Stat(filepath.Join(dir, "netns", name)); err == nil {
			t.Errorf("%s: namespace left", name)
		}
	}
}

// Many at once, in and out.
func TestManyAtOnce(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "fd01::1/64")
	nettest.Must(t, l.SetSegment(ctx, seg))
	before := linksOf(t)
	each := func(f func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		errs := make([]error, 40)
		for i := range errs {
			wg.Go(func() { errs[i] = f(i + 2) })
		}
		wg.Wait()
		nettest.Must(t, errors.Join(errs...))
	}
	each(func(i int) error {
		_, err := l.SetSandbox(ctx, fmt.Sprint("c", i), []overlaynet.Plug{plug(seg, mark, i)})
		return err
	})
	for i := range 40 {
		inside(t, filepath.Join(dir, "netns", fmt.Sprint("c", i+2)), "ip", "link", "show", "eth0")
	}
	each(func(i int) error {
		return l.RemoveSandbox(ctx, fmt.Sprint("c", i), []overlaynet.Plug{plug(seg, mark, i)})
	})
	if after := linksOf(t); after != before {
		t.Errorf("left\n%s", after)
	}
}

// Links are removed together; one that cannot go is an error of its own
// caller, and of nobody else.
func TestOneThatStaysHoldsUpNobody(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l, mark, seg := onSegment(t, "10.1.0.1/24", "fd01::1/64")
	const many, bad = 20, 12
	plugs := map[int][]overlaynet.Plug{}
	for n := range many {
		if n == bad { // the kernel removes no loopback interface
			plugs[n] = []overlaynet.Plug{{Segment: seg, Host: "lo"}}
			continue
		}
		plugs[n] = []overlaynet.Plug{plug(seg, mark, n+2)}
		_, err := l.SetSandbox(ctx, fmt.Sprint("c", n), plugs[n])
		nettest.Must(t, err)
	}
	errs := make([]error, many)
	var wg sync.WaitGroup
	for n := range many {
		wg.Go(func() { errs[n] = l.RemoveSandbox(ctx, fmt.Sprint("c", n), plugs[n]) })
	}
	wg.Wait()
	for n, err := range errs {
		if (err != nil) != (n == bad) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if got := linksOf(t); strings.Contains(got, mark+"v") {
		t.Errorf("left: %s", got)
	}
}
