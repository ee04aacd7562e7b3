package overlaynet_test

import (
	"context"
	"net"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// Names over real sockets from inside containers; also when another resolver
// has port 53 of every address, and when a container publishes port 53.
func TestNamesFromContainers(t *testing.T) {
	if !inHost(t) {
		return
	}
	taken, err := net.ListenPacket("udp", "0.0.0.0:53") // as dnsmasq would
	must(t, err)
	n := newNode(t, t.TempDir(), newSource(bridgeNet("front", "10.70.1.0/24"), bridgeNet("back", "10.70.2.0/24")))
	web := func(id string) *overlaynet.Connected {
		return n.connect(overlaynet.Sandbox{ID: id, DNSNames: []string{id}, Attachments: []stack.Attachment{{Network: "front", Aliases: []string{"web"}}}})
	}
	w1, w2 := web("w1"), web("w2")
	lookup := func(c *overlaynet.Connected, network, name string) string {
		t.Helper()
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			var conn net.Conn
			err := in(t, c.NetNS, func() (err error) { conn, err = d.DialContext(ctx, network, c.Nameservers[0]+":53"); return err })
			return conn, err
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		got, err := r.LookupHost(ctx, name+".")
		if err != nil {
			return err.Error()
		}
		sort.Strings(got)
		return strings.Join(got, " ")
	}
	both := ip(w1, 0) + " " + ip(w2, 0)
	check := func(what string, c *overlaynet.Connected, name, want string) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			if got := lookup(c, network, name); !strings.Contains(got, want) {
				t.Errorf("%s: %s %s: got %q, want %q", what, network, name, got, want)
			}
		}
	}
	check("port 53 taken", w1, "web", both)
	taken.Close()

	back := n.connect(overlaynet.Sandbox{ID: "b", Attachments: on("back"), Ports: []stack.Port{{HostPort: 53, ContainerPort: 5353, Protocol: "udp"}, {HostPort: 53, ContainerPort: 5353}}})
	check("a container publishes port 53", w1, "web", both)
	check("other network", back, "web", "no such host")
	n.SetReady("w2", true)
	check("ready", w1, "web", ip(w2, 0))
	must(t, n.Disconnect(context.Background(), "w2"))
	check("gone", w1, "web", ip(w1, 0))
}
