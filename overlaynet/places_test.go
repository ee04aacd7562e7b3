package overlaynet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Everything that an attachment may say is done, or refused.
func TestAttachments(t *testing.T) {
	if !inHost(t) {
		return
	}
	inner := dualNet("inner", 4)
	inner.Internal = true
	n := newNode(t, t.TempDir(), newSource(dualNet("a", 1), dualNet("b", 2), dualNet("c", 3), inner))
	c := n.connect(overlaynet.Sandbox{ID: "web", Name: "web", Attachments: []stack.Attachment{
		{Network: "inner", GwPriority: 9}, // never the way out
		{Network: "a"},
		{Network: "b", Priority: 100, LinkLocalIPs: []string{"169.254.8.8", "fe80::8"}, MacAddress: "02:00:00:00:00:b0",
			DriverOpts: map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.arp_notify=1,net.ipv4.conf.IFNAME.log_martians=1"}},
		{Network: "c", GwPriority: 1, InterfaceName: "uplink0"},
	}})
	var got []string
	for _, e := range c.Endpoints {
		got = append(got, e.Network+"="+e.Interface)
	}
	if want := "b=eth0 inner=eth1 a=eth2 c=uplink0"; strings.Join(got, " ") != want { // by priority, then as written
		t.Errorf("got %v, want %s", got, want)
	}
	inside := func(want string, args ...string) {
		t.Helper()
		if out := run(t, "nsenter", append([]string{"--net=" + c.NetNS}, args...)...); !strings.Contains(out, want) {
			t.Errorf("%v: got\n%s\nwant %q", args, out, want)
		}
	}
	inside("default via 10.70.3.1 dev uplink0", "ip", "route")
	inside("default via fd00:70:3::1 dev uplink0", "ip", "-6", "route")
	inside("169.254.8.8/16", "ip", "addr", "show", "eth0")
	inside("fe80::8/64", "ip", "addr", "show", "eth0")
	inside("02:00:00:00:00:b0", "ip", "link", "show", "eth0")
	inside("= 1", "sysctl", "net.ipv4.conf.eth0.log_martians")
	if c.Nameservers[0] != "10.70.3.1" {
		t.Errorf("nameserver %v", c.Nameservers)
	}

	n.connect(overlaynet.Sandbox{ID: "fix", Name: "fix", Attachments: []stack.Attachment{{Network: "a", IPv4: "10.70.1.50", IPv6: "fd00:70:1::50"}}})
	ctx := context.Background()
	for name, x := range map[string]struct {
		at   stack.Attachment
		want string
		is   error
	}{
		"IPv4 of another": {stack.Attachment{Network: "a", IPv4: "10.70.1.50"}, "in use by fix", runtime.ErrConflict},
		"IPv6 of another": {stack.Attachment{Network: "a", IPv6: "fd00:70:1::50"}, "in use by fix", runtime.ErrConflict},
		"the gateway's":   {stack.Attachment{Network: "a", IPv4: "10.70.1.1"}, "in use by gateway", runtime.ErrConflict},
		"broadcast":       {stack.Attachment{Network: "a", IPv4: "10.70.1.255"}, "is not an address for a container", nil},
		"elsewhere":       {stack.Attachment{Network: "a", IPv4: "10.70.2.50"}, "is in none of its subnets", nil},
		"no address":      {stack.Attachment{Network: "a", IPv4: "ten"}, "is not an address", runtime.ErrInvalid},
		"wrong family":    {stack.Attachment{Network: "a", IPv4: "fd00:70:1::51"}, "family", runtime.ErrInvalid},
		"link-local":      {stack.Attachment{Network: "a", LinkLocalIPs: []string{"10.1.1.1"}}, "is not a link-local address", runtime.ErrInvalid},
		"interface name":  {stack.Attachment{Network: "a", InterfaceName: "not/this"}, "is not an interface name", runtime.ErrInvalid},
		"driver option":   {stack.Attachment{Network: "a", DriverOpts: map[string]string{"speed": "fast"}}, "speed of the attachment is not honoured", runtime.ErrInvalid},
		"sysctl":          {stack.Attachment{Network: "a", DriverOpts: map[string]string{"com.docker.network.endpoint.sysctls": "x"}}, "is not KEY=VALUE", runtime.ErrInvalid},
		"mac":             {stack.Attachment{Network: "a", MacAddress: "zz"}, "address zz", nil},
		"no network":      {stack.Attachment{Network: "nowhere"}, "nowhere", runtime.ErrNotFound},
	} {
		_, err := n.Connect(ctx, overlaynet.Sandbox{ID: "x", Name: "x", Attachments: []stack.Attachment{x.at}})
		if err == nil || !strings.Contains(err.Error(), x.want) || x.is != nil && !errors.Is(err, x.is) {
			t.Errorf("%s: got %v, want %q", name, err, x.want)
		}
		_, err = n.ConnectNetwork(ctx, "fix", x.at)
		if err == nil {
			t.Errorf("%s: a running container was connected", name)
		}
	}
	if c, _ := n.Connected("fix"); len(c.Endpoints) != 1 || ip(c, 0) != "10.70.1.50" {
		t.Errorf("after refusals: %+v", c)
	}
	none := n.connect(overlaynet.Sandbox{ID: "none", None: true})
	if _, err := n.ConnectNetwork(ctx, "none", stack.Attachment{Network: "a"}); !errors.Is(err, runtime.ErrForbidden) {
		t.Errorf("network mode none: %v, %v", none, err)
	}
	if _, err := n.DisconnectNetwork(ctx, "fix", "b"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a network that it is not in: %v", err)
	}
}

// A connection goes on while other networks of the container come and go, and
// what another network says is heard at once.
func TestConnectAndDisconnectWhileTalking(t *testing.T) {
	if !inHost(t) {
		return
	}
	n := newNode(t, t.TempDir(), newSource(dualNet("a", 1), dualNet("b", 2)))
	ctx := context.Background()
	web := n.connect(overlaynet.Sandbox{ID: "web", Attachments: on("a")})
	peer := n.connect(overlaynet.Sandbox{ID: "peer", Attachments: on("a")})
	far := n.connect(overlaynet.Sandbox{ID: "far", Attachments: on("b")})
	serve(t, web.NetNS, "web", "tcp", ":80")
	before := run(t, "nsenter", "--net="+web.NetNS, "ip", "-o", "link", "show", "eth0")
	for i := range 5 {
		c, err := n.ConnectNetwork(ctx, "web", stack.Attachment{Network: "b", Aliases: []string{"web"}})
		must(t, err)
		wantAsk(t, fmt.Sprint("round ", i), far.NetNS, "tcp", ip(c, 1)+":80", "web "+ip(far, 0))
		wantAsk(t, fmt.Sprint("round ", i), far.NetNS, "tcp", "["+ip6(c, 1)+"]:80", "web "+ip6(far, 0))
		wantAsk(t, fmt.Sprint("round ", i), peer.NetNS, "tcp", ip(web, 0)+":80", "web "+ip(peer, 0))
		_, err = n.DisconnectNetwork(ctx, "web", "b")
		must(t, err)
		wantNone(t, fmt.Sprint("round ", i), far.NetNS, "tcp", ip(c, 1)+":80")
	}
	if after := run(t, "nsenter", "--net="+web.NetNS, "ip", "-o", "link", "show", "eth0"); after != before {
		t.Errorf("its first interface became\n%s\nfrom\n%s", after, before)
	}
}
