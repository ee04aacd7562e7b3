package overlaynet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

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

// A network that is removed and made again at once gets its subnet again, before
// what was left of the old one has gone.
func TestNamesInANetworkThatIsMadeAgain(t *testing.T) {
	if !inHost(t) {
		return
	}
	src := newSource(bridgeNet("front", "10.70.1.0/24"))
	n := idleNode(t, t.TempDir(), src) // nothing is removed before Set says so
	n.connect(overlaynet.Sandbox{ID: "before", Attachments: on("front")})
	must(t, n.Disconnect(t.Context(), "before"))
	again := bridgeNet("front", "10.70.1.0/24")
	again.ID = "id-again"
	src.set(again)
	sb := overlaynet.Sandbox{ID: "web", Name: "web", DNSNames: []string{"web"}, Attachments: on("front")}
	c := n.connect(sb)
	must(t, n.Set(t.Context(), overlaynet.Config{Sandboxes: []overlaynet.Restored{{Sandbox: sb}}}))
	q := new(mdns.Msg)
	q.SetQuestion("web.", mdns.TypeA)
	for _, network := range []string{"udp", "tcp"} {
		must(t, in(t, c.NetNS, func() error {
			m, _, err := (&mdns.Client{Net: network}).Exchange(q, c.Nameservers[0]+":53")
			if err == nil && (len(m.Answer) != 1 || !strings.HasSuffix(m.Answer[0].String(), "\t"+ip(c, 0))) {
				err = fmt.Errorf("answer %v", m)
			}
			return err
		}))
	}
}

// Upstream names: through a resolver on the host's 127.0.0.53, as
// systemd-resolved has it; through the container's own server, also one that
// runs in itself; AAAA and PTR; nothing but its own names in an internal network.
func TestForwardingFromContainers(t *testing.T) {
	if !inHost(t) {
		return
	}
	inner := dualNet("inner", 3)
	inner.Internal = true
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"), 0o600))
	n := newNode(t, dir, newSource(dualNet("front", 1), inner))
	answering(t, "", "127.0.0.53:53", "192.0.2.53")
	plain := n.connect(overlaynet.Sandbox{ID: "plain", DNSNames: []string{"plain"}, Attachments: []stack.Attachment{{Network: "front", Aliases: []string{"web"}}}})
	own := n.connect(overlaynet.Sandbox{ID: "own", Attachments: on("front"), DNS: []string{"127.0.0.1"}})
	answering(t, own.NetNS, ":53", "192.0.2.77")
	lonely := n.connect(overlaynet.Sandbox{ID: "lonely", DNSNames: []string{"lonely"}, Attachments: on("inner")})

	question := func(c *overlaynet.Connected, name string, kind uint16) (out string) {
		t.Helper()
		q := new(mdns.Msg)
		q.SetQuestion(name, kind)
		start := time.Now()
		must(t, in(t, c.NetNS, func() error {
			m, _, err := new(mdns.Client).Exchange(q, c.Nameservers[0]+":53")
			if err != nil {
				return err
			}
			out = mdns.RcodeToString[m.Rcode]
			for _, rr := range m.Answer {
				out += " " + strings.Fields(rr.String())[4]
			}
			return nil
		}))
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s took %v", name, took)
		}
		return out
	}
	arpa, err := mdns.ReverseAddr(ip6(plain, 0))
	must(t, err)
	for _, c := range []struct {
		who  *overlaynet.Connected
		name string
		kind uint16
		want string
	}{
		{plain, "example.com.", mdns.TypeA, "NOERROR 192.0.2.53"},
		{plain, "com.", mdns.TypeA, "NXDOMAIN"},
		{own, "example.com.", mdns.TypeA, "NOERROR 192.0.2.77"},
		{own, "web.", mdns.TypeA, "NOERROR " + ip(plain, 0)},
		{own, "web.", mdns.TypeAAAA, "NOERROR " + ip6(plain, 0)},
		{own, arpa, mdns.TypePTR, "NOERROR plain.front."},
		{lonely, "example.com.", mdns.TypeA, "NXDOMAIN"},
		{lonely, "lonely.", mdns.TypeAAAA, "NOERROR " + ip6(lonely, 0)},
		{lonely, "web.", mdns.TypeA, "NXDOMAIN"},
	} {
		if got := question(c.who, c.name, c.kind); got != c.want {
			t.Errorf("%s asks for %s %s: got %q, want %q", ip(c.who, 0), c.name, mdns.TypeToString[c.kind], got, c.want)
		}
	}
}

// answering is a server that answers every A question alike.
func answering(t testing.TB, path, addr, with string) {
	t.Helper()
	must(t, in(t, path, func() error {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		srv := &mdns.Server{PacketConn: pc, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := new(mdns.Msg)
			m.SetReply(q)
			m.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: net.ParseIP(with)}}
			_ = w.WriteMsg(m)
		})}
		go srv.ActivateAndServe()
		t.Cleanup(func() { pc.Close() })
		return nil
	}))
}
