package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// fixture: web1, web2 (shared name web) and db in front; db and cache in back; lone in inner.
func fixture(t testing.TB, upstreams ...string) *Server {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := ""
	for _, u := range upstreams {
		text += "nameserver " + u + "\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{ResolvConf: conf})
	for i, n := range []string{"front", "back", "inner"} {
		s.records.setZone(overlaynet.Zone{Network: "id-" + n, Name: "shop_" + n, Internal: n == "inner", Gateways: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", i+1))}})
	}
	host := func(id, network, shared string, addrs ...string) {
		h := overlaynet.Host{Sandbox: id, Network: "id-" + network, Names: []string{"shop-" + id + "-1", id + "abc"}}
		if shared != "" {
			h.Shared = []string{shared}
		}
		for _, a := range addrs {
			h.Addrs = append(h.Addrs, netip.MustParseAddr(a))
		}
		s.SetHost(h)
	}
	host("web1", "front", "web", "10.0.1.2", "fd00::2")
	host("web2", "front", "web", "10.0.1.3")
	host("db", "front", "DB", "10.0.1.4")
	host("db", "back", "DB", "10.0.2.4")
	host("cache", "back", "cache", "10.0.2.5")
	host("lone", "inner", "lone", "10.0.3.2")
	return s
}

// asked asks as a container does, without the sockets; nil: no reply. At is
// the address that is asked; "": any.
func asked(t testing.TB, s *Server, q *dns.Msg, from, at string, tcp bool) *dns.Msg {
	t.Helper()
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var gateway netip.Addr
	if at != "" {
		gateway = netip.MustParseAddr(at)
	}
	out, e := s.answer(packet, netip.MustParseAddr(from), gateway, tcp, nil)
	if e != nil {
		done := make(chan []byte, 1)
		if out = s.upstream.start(t.Context(), e, func(r []byte) { done <- r }); out == nil {
			out = <-done
		}
	}
	if out == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%v: %v: %x", q, err, out)
	}
	if m.Id != q.Id || !m.Response {
		t.Fatalf("%v: %v", q, m)
	}
	return m
}

// lookup returns "RCODE answer answer", sorted.
func lookup(t testing.TB, s *Server, from, name string, kind uint16) string {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	m := asked(t, s, q, from, "", false)
	var out []string
	for _, rr := range m.Answer {
		out = append(out, strings.Fields(rr.String())[4])
	}
	sort.Strings(out)
	return strings.Join(append([]string{dns.RcodeToString[m.Rcode]}, out...), " ")
}

func TestViews(t *testing.T) {
	s := fixture(t)
	for _, c := range []struct {
		from, name string
		kind       uint16
		want       string
	}{
		{"10.0.1.4", "web", dns.TypeA, "NOERROR 10.0.1.2 10.0.1.3"},
		{"10.0.1.4", "WEB.", dns.TypeA, "NOERROR 10.0.1.2 10.0.1.3"},
		{"10.0.1.4", "tasks.web", dns.TypeA, "NOERROR 10.0.1.2 10.0.1.3"},
		{"10.0.1.4", "web.shop_front", dns.TypeA, "NOERROR 10.0.1.2 10.0.1.3"},
		{"10.0.1.4", "web", dns.TypeAAAA, "NOERROR fd00::2"},
		{"10.0.1.4", "web", dns.TypeMX, "NOERROR"},
		{"10.0.1.4", "shop-web2-1", dns.TypeA, "NOERROR 10.0.1.3"},
		{"10.0.1.4", "shop-web2-1", dns.TypeAAAA, "NOERROR"},
		{"10.0.1.4", "web1abc", dns.TypeA, "NOERROR 10.0.1.2"},
		{"fd00::2", "db", dns.TypeA, "NOERROR 10.0.1.4"},
		{"10.0.2.5", "db", dns.TypeA, "NOERROR 10.0.2.4"},          // in its own network only
		{"10.0.2.4", "db", dns.TypeA, "NOERROR 10.0.1.4 10.0.2.4"}, // in both
		{"10.0.2.5", "web", dns.TypeA, "NXDOMAIN"},                 // not its network
		{"10.0.1.2", "cache", dns.TypeA, "NXDOMAIN"},               //
		{"10.0.3.2", "lone", dns.TypeA, "NOERROR 10.0.3.2"},        //
		{"10.0.3.2", "example.com", dns.TypeA, "NXDOMAIN"},         // internal
		{"10.0.3.2", "com", dns.TypeNS, "NXDOMAIN"},                //
		{"10.0.9.9", "web", dns.TypeA, "REFUSED"},                  // a stranger
		{"10.0.1.2", "4.1.0.10.in-addr.arpa", dns.TypePTR, "NOERROR shop-db-1.shop_front."},
		{"10.0.1.2", "2" + strings.Repeat(".0", 29) + ".d.f.ip6.arpa", dns.TypePTR, "NOERROR shop-web1-1.shop_front."},
		{"10.0.3.2", "4.1.0.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
	} {
		if got := lookup(t, s, c.from, c.name, c.kind); got != c.want {
			t.Errorf("%s asks %s %s: got %q, want %q", c.from, dns.TypeToString[c.kind], c.name, got, c.want)
		}
	}
	s.SetHost(overlaynet.Host{Sandbox: "web2", Network: "id-front", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.3")}, Names: []string{"shop-web2-1"}, Shared: []string{"web"}, Ready: true})
	if got := lookup(t, s, "10.0.1.4", "web", dns.TypeA); got != "NOERROR 10.0.1.3" {
		t.Errorf("only the ready one: %q", got)
	}
	if got := lookup(t, s, "10.0.1.4", "shop-web1-1", dns.TypeA); got != "NOERROR 10.0.1.2" {
		t.Errorf("its own name works always: %q", got)
	}
	s.RemoveHost("web2", "id-front")
	s.RemoveHost("web1", "id-front")
	if got := lookup(t, s, "10.0.1.4", "web", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("gone: %q", got)
	}
	s.RemoveZone("id-front")
	s.RemoveZone("id-back")
	s.RemoveZone("id-inner")
	if r := s.records; len(r.zones)+len(r.boxes)+r.of.size() != 0 {
		t.Errorf("left over: %+v", r)
	}
}

// upstreamServer answers everything with n A records, TCP and UDP on one port.
func upstreamServer(t testing.TB, n int) string {
	var pc net.PacketConn
	var ln net.Listener
	for try := 0; ; try++ { // a port that is free for UDP may be taken for TCP
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		if pc.Close(); try > 20 {
			t.Fatal(err)
		}
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for i := range n {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: ln, Handler: h}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
	return pc.LocalAddr().String()
}

func TestForwarding(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deadAddr := dead.LocalAddr().String()
	dead.Close()
	s := fixture(t, deadAddr, upstreamServer(t, 2))
	if got := lookup(t, s, "10.0.1.2", "example.com", dns.TypeA); got != "NOERROR 192.0.2.0 192.0.2.1" {
		t.Errorf("second server: %q", got)
	}
	s.SetHost(overlaynet.Host{Sandbox: "own", Network: "id-front", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.9")}, DNS: []string{upstreamServer(t, 1)}})
	if got := lookup(t, s, "10.0.1.9", "example.com", dns.TypeA); got != "NOERROR 192.0.2.0" {
		t.Errorf("the container's own server: %q", got)
	}
	none := fixture(t)
	if got := lookup(t, none, "10.0.1.2", "example.com", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("no server: %q", got)
	}
}

// Over real sockets: truncated over UDP, whole over TCP, both ours and forwarded.
func TestServeUDPAndTCP(t *testing.T) {
	s := fixture(t, upstreamServer(t, 100))
	defer s.Close()
	self := netip.MustParseAddr("127.0.0.1")
	ports, err := s.SetZone(overlaynet.Zone{Network: "lo", Name: "lo", Gateways: []netip.Addr{self}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		h := overlaynet.Host{Sandbox: fmt.Sprint("m", i), Network: "lo", Shared: []string{"many"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(i)})}}
		if i == 0 {
			h.Addrs = append(h.Addrs, self)
		}
		s.SetHost(h)
	}
	addr := netip.AddrPortFrom(self, ports[self]).String()
	for _, name := range []string{"many.", "example.com."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		m, _, err := (&dns.Client{Net: "udp"}).Exchange(q, addr)
		if err != nil || !m.Truncated {
			t.Errorf("%s udp: %v", name, err)
		}
		m, _, err = (&dns.Client{Net: "tcp"}).Exchange(q, addr)
		if err != nil || m.Truncated || len(m.Answer) < 100 {
			t.Errorf("%s tcp: %v", name, err)
		}
	}
}
