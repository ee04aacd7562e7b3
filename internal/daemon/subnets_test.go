package daemon

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func avoiding(list ...string) func() ([]netip.Prefix, error) {
	return func() (out []netip.Prefix, err error) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out, nil
	}
}

func TestSubnetsAskedFor(t *testing.T) {
	s := subnets{avoid: avoiding("10.0.0.0/8", "192.168.1.0/24", "192.168.1.7/32")}
	used := []stack.Network{{Name: "shop_front", Subnets: []stack.Subnet{{CIDR: "172.30.0.0/24"}}}}
	off := false
	for name, c := range map[string]struct {
		net  stack.Network
		want string // "CIDR gateway, ..." or part of the error
		is   error
	}{
		"as asked":           {stack.Network{Subnets: []stack.Subnet{{CIDR: "10.5.0.9/24"}}}, "10.5.0.0/24 10.5.0.1", nil}, // inside a wide route
		"own gateway":        {stack.Network{Subnets: []stack.Subnet{{CIDR: "172.31.0.0/24", Gateway: "172.31.0.254"}}}, "172.31.0.0/24 172.31.0.254", nil},
		"host":               {stack.Network{Driver: "host"}, "", nil},
		"overlap":            {stack.Network{Subnets: []stack.Subnet{{CIDR: "172.30.0.128/25"}}}, "overlaps 172.30.0.0/24 of network shop_front", runtime.ErrConflict},
		"the host's LAN":     {stack.Network{Subnets: []stack.Subnet{{CIDR: "192.168.0.0/16"}}}, "would hide 192.168.1.0/24", runtime.ErrConflict},
		"range alone":        {stack.Network{Subnets: []stack.Subnet{{Range: "172.31.0.0/25"}}}, "need a subnet", runtime.ErrInvalid},
		"nonsense":           {stack.Network{Subnets: []stack.Subnet{{CIDR: "front"}}}, `subnet "front"`, runtime.ErrInvalid},
		"gateway elsewhere":  {stack.Network{Subnets: []stack.Subnet{{CIDR: "172.31.0.0/24", Gateway: "172.32.0.1"}}}, "gateway 172.32.0.1 is not inside", runtime.ErrInvalid},
		"aux is the gateway": {stack.Network{Subnets: []stack.Subnet{{CIDR: "172.31.0.0/24", Aux: map[string]string{"r": "172.31.0.1"}}}}, "gateway", runtime.ErrInvalid},
		"v6 not enabled":     {stack.Network{Subnets: []stack.Subnet{{CIDR: "fd00:5::/64"}}}, "add enable_ipv6: true", runtime.ErrInvalid},
		"v4 disabled":        {stack.Network{EnableIPv4: &off, EnableIPv6: true, Subnets: []stack.Subnet{{CIDR: "172.31.0.0/24"}}}, "enable_ipv4", runtime.ErrInvalid},
		"no family":          {stack.Network{EnableIPv4: &off}, "neither IPv4 nor IPv6", runtime.ErrInvalid},
		"ipam option":        {stack.Network{IPAMOpts: map[string]string{"foo": "bar"}}, "ipam option foo", runtime.ErrInvalid},
		"ipam driver":        {stack.Network{IPAMDriver: "dhcp"}, `ipam driver "dhcp"`, runtime.ErrInvalid},
		"driver option":      {stack.Network{DriverOpts: map[string]string{"parent": "eth0"}}, "driver option parent is not honoured", runtime.ErrInvalid},
		"mode":               {stack.Network{DriverOpts: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "routed"}}, "routed is not honoured", runtime.ErrInvalid},
		"mtu":                {stack.Network{DriverOpts: map[string]string{"com.docker.network.driver.mtu": "many"}}, "is not an MTU", runtime.ErrInvalid},
		"bridge name":        {stack.Network{DriverOpts: map[string]string{"com.docker.network.bridge.name": "much-too-long-name"}}, "is not an interface name", runtime.ErrInvalid},
		"macvlan":            {stack.Network{Driver: "macvlan"}, `driver "macvlan"`, runtime.ErrInvalid},
	} {
		got, err := s.Pick(c.net, cluster.Beside{Networks: used})
		if c.is != nil {
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, %v; want an error with %q", name, got, err, c.want)
			}
			continue
		}
		var text []string
		for _, sn := range got.Subnets {
			text = append(text, sn.CIDR+" "+sn.Gateway)
		}
		if err != nil || strings.Join(text, ", ") != c.want {
			t.Errorf("%s: got %v, %v; want %s", name, text, err, c.want)
		}
	}
}

// IPv6 without a subnet gets a /64 of the machine's own unique local range.
func TestIPv6ByItself(t *testing.T) {
	off := false
	got, err := subnets{avoid: avoiding()}.Pick(stack.Network{Name: "n", EnableIPv6: true, EnableIPv4: &off}, cluster.Beside{})
	if err != nil || len(got.Subnets) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	p := netip.MustParsePrefix(got.Subnets[0].CIDR)
	if p.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(p.Addr()) {
		t.Errorf("%s is not a /64 of fd00::/8", p)
	}
	both, err := subnets{avoid: avoiding()}.Pick(stack.Network{Name: "n", EnableIPv6: true}, cluster.Beside{Networks: []stack.Network{{Name: "o", Subnets: got.Subnets, Virtual: got.Virtual}}})
	if err != nil || len(both.Subnets) != 2 || netip.MustParsePrefix(both.Subnets[1].CIDR).Overlaps(p) {
		t.Errorf("got %v, %v", both, err)
	}
}

// Whatever is in use and on the host, no chosen subnet meets any of it.
func TestPickedSubnetsMeetNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			base := rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("172.16.0.0"), netip.MustParseAddr("192.168.0.0"), netip.MustParseAddr("10.0.0.0")}).Draw(t, "base").As4()
			base[1] += byte(rapid.IntRange(0, 15).Draw(t, "second"))
			base[2] = byte(rapid.IntRange(0, 255).Draw(t, "third"))
			return netip.PrefixFrom(netip.AddrFrom4(base), rapid.IntRange(8, 32).Draw(t, "bits")).Masked()
		})
		avoid := rapid.SliceOfN(prefix, 0, 20).Draw(t, "avoid")
		s := subnets{avoid: func() ([]netip.Prefix, error) { return avoid, nil }}
		var used []stack.Network
		for range rapid.IntRange(1, 20).Draw(t, "networks") {
			got, err := s.Pick(stack.Network{Name: "n"}, cluster.Beside{Networks: used})
			if errors.Is(err, ipam.ErrExhausted) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p := netip.MustParsePrefix(got.Subnets[0].CIDR)
			for _, a := range avoid {
				if p.Overlaps(a) {
					t.Fatalf("%s meets %s of the host", p, a)
				}
			}
			for _, u := range used {
				if o := netip.MustParsePrefix(u.Subnets[0].CIDR); p.Overlaps(o) {
					t.Fatalf("%s meets %s", p, o)
				}
			}
			used = append(used, stack.Network{Name: "n", Subnets: got.Subnets, Virtual: got.Virtual})
		}
	})
}

// The real host: its own addresses, a VPN's table of routes, another daemon's
// bridge; not what a VPN says of the whole world, and not our own bridges.
func TestSubnetsAvoidTheHost(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	nettest.Outside(t)
	for _, args := range []string{
		"addr add 172.17.0.9/16 dev uplink",
		"route add 172.18.0.0/16 via 192.0.2.9",
		"route add 172.19.0.0/16 via 192.0.2.9 table 51820", // as wg-quick does
		"route add 0.0.0.0/1 via 192.0.2.9",                 // as OpenVPN does
		"route add 128.0.0.0/1 via 192.0.2.9",
		"link add docker0 type bridge",
		"addr add 172.20.0.1/16 dev docker0",
	} {
		nettest.Run(t, "ip", strings.Fields(args)...)
	}
	ours, theirs := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for i, dir := range []string{ours, theirs} {
		name := overlaynet.Mark(dir) + "bxyz"
		nettest.Run(t, "ip", "link", "add", name, "type", "bridge")
		nettest.Run(t, "ip", "addr", "add", []string{"172.22.0.1/16", "172.21.0.1/16"}[i], "dev", name)
	}
	l, err := link.New(link.Config{RunDir: ours, Spare: -1})
	nettest.Must(t, err)
	defer l.Close()
	got, err := subnets{avoid: l.Avoid}.Pick(stack.Network{Name: "n"}, cluster.Beside{})
	nettest.Must(t, err)
	if got.Subnets[0].CIDR != "172.22.0.0/22" {
		t.Errorf("got %s, want the first that is free: 172.22.0.0/22", got.Subnets[0].CIDR)
	}
}

// The cluster's pools count before the machine's own, and each network takes a
// range for virtual addresses from them too.
func TestTheClustersPools(t *testing.T) {
	configured, err := ipam.ParsePool("10.99.0.0/24,26")
	nettest.Must(t, err)
	s := subnets{pools: ipam.DefaultPools(), avoid: avoiding()}
	beside := cluster.Beside{Pools: []string{"10.50.0.0/22"}, Size: 24, Nodes: map[string][]string{"n2": {"10.50.1.7/32"}}}
	a, err := s.Pick(stack.Network{Name: "a"}, beside)
	nettest.Must(t, err)
	if a.Subnets[0].CIDR != "10.50.0.0/24" || len(a.Virtual) != 1 || a.Virtual[0] != "10.50.2.0/24" {
		t.Errorf("got %+v, want what n2 does not use", a)
	}
	_, err = s.Pick(stack.Network{Name: "x", Subnets: []stack.Subnet{{CIDR: "10.50.1.0/24"}}}, beside)
	if !errors.Is(err, runtime.ErrConflict) || !strings.Contains(err.Error(), "would hide 10.50.1.7/32, which node n2 uses itself") {
		t.Errorf("got %v", err)
	}
	beside.Networks = []stack.Network{{Name: "a", Subnets: a.Subnets, Virtual: a.Virtual}}
	_, err = s.Pick(stack.Network{Name: "b"}, beside)
	if !errors.Is(err, ipam.ErrExhausted) || !strings.Contains(err.Error(), "range of virtual addresses: address pools (10.50.0.0/22 in /24) exhausted") || !strings.Contains(err.Error(), "--address-pool") {
		t.Errorf("got %v", err)
	}
	s.pools = []ipam.Pool{configured}
	b, err := s.Pick(stack.Network{Name: "b"}, beside)
	if err != nil || b.Virtual[0] != "10.99.0.0/26" {
		t.Errorf("got %+v, %v", b, err)
	}
	local, err := s.Pick(stack.Network{Name: "bridge"}, beside)
	if err != nil || len(local.Virtual) != 0 {
		t.Errorf("the default network has %+v, %v", local, err)
	}
	mesh, err := s.Pick(stack.Network{Name: "ingress"}, cluster.Beside{Pools: []string{"10.0.0.0/8"}})
	if err != nil || mesh.Subnets[0].CIDR != "10.0.0.0/18" || len(mesh.Virtual) != 0 {
		t.Errorf("got %+v, %v, want room for many nodes", mesh, err)
	}
}
