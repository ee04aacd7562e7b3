package dns

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// served is a fixture that answers 127.0.0.1 over real sockets; it returns
// where. The asker is in a network with replicas of "many".
func served(t testing.TB, replicas int, upstreams ...string) (*Server, string) {
	s := fixture(t, upstreams...)
	t.Cleanup(func() { s.Close() })
	self := netip.MustParseAddr("127.0.0.1")
	ports, err := s.SetZone(overlaynet.Zone{Network: "lo", Name: "lo", Gateways: []netip.Addr{self}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range replicas {
		h := overlaynet.Host{Sandbox: fmt.Sprint("m", i), Network: "lo", Names: []string{fmt.Sprint("many-", i)}, Shared: []string{"many"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})}}
		if i == 0 {
			h.Addrs = append(h.Addrs, self)
		}
		s.SetHost(h)
	}
	return s, netip.AddrPortFrom(self, ports[self]).String()
}

func newQuestion(name string, kind uint16) *dns.Msg {
	q := new(dns.Msg)
	return q.SetQuestion(dns.Fqdn(name), kind)
}

func TestReplicasComeInRandomOrder(t *testing.T) {
	s, _ := served(t, 4)
	first := map[string]int{}
	for range 400 {
		m := asked(t, s, newQuestion("many", dns.TypeA), "127.0.0.1", "", true)
		first[m.Answer[0].(*dns.A).A.String()]++
	}
	for a, n := range first {
		if n < 30 {
			t.Errorf("%s is first %d times of 400", a, n)
		}
	}
	if len(first) != 5 {
		t.Errorf("got %v", first)
	}
}

// A missing service may come at any moment: nothing tells askers to remember
// that it was missing, nor for long where one is.
func TestNothingIsRememberedForLong(t *testing.T) {
	s, addr := served(t, 1)
	for name, code := range map[string]int{"soon.": dns.RcodeNameError, "many.": dns.RcodeSuccess} {
		m, _, err := new(dns.Client).Exchange(newQuestion(name, dns.TypeA), addr)
		if err != nil || m.Rcode != code || len(m.Ns) != 0 {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		for _, rr := range m.Answer {
			if rr.Header().Ttl > 1 {
				t.Errorf("%s", rr)
			}
		}
	}
	s.SetHost(overlaynet.Host{Sandbox: "s", Network: "lo", Shared: []string{"soon"}, Addrs: []netip.Addr{netip.MustParseAddr("10.9.9.9")}})
	if m, _, err := new(dns.Client).Exchange(newQuestion("soon.", dns.TypeA), addr); err != nil || len(m.Answer) != 1 {
		t.Errorf("there now: %v, %v", m, err)
	}
}

func TestEDNS(t *testing.T) {
	_, addr := served(t, 60)
	q := newQuestion("many", dns.TypeA)
	m, _, err := new(dns.Client).Exchange(q.Copy(), addr)
	if err != nil || !m.Truncated || m.IsEdns0() != nil {
		t.Errorf("512 bytes: %v, %v", m, err)
	}
	q.SetEdns0(4096, false)
	m, _, err = (&dns.Client{UDPSize: 4096}).Exchange(q, addr)
	if err != nil || m.Truncated || len(m.Answer) != 61 || m.IsEdns0() == nil {
		t.Errorf("4096 bytes: %v, %v", m, err)
	}
}

// A server that is silent costs its timeout once; one that fails or refuses,
// nothing.
func TestFailover(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := fixture(t, silent.LocalAddr().String(), failing(t, dns.RcodeServerFailure), failing(t, dns.RcodeRefused), upstreamServer(t, 1))
	for i := range 3 {
		start := time.Now()
		if got := lookup(t, s, "10.0.1.2", "example.com", dns.TypeA); got != "NOERROR 192.0.2.0" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(start); i > 0 && took > askTime/2 {
			t.Errorf("question %d took %v", i, took)
		}
	}
	all := fixture(t, failing(t, dns.RcodeServerFailure), failing(t, dns.RcodeRefused))
	if got := lookup(t, all, "10.0.1.2", "example.com", dns.TypeA); got != "REFUSED" {
		t.Errorf("got %q", got)
	}
	if got := lookup(t, s, "10.0.1.2", "com", dns.TypeDS); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("a question about a top-level domain: %q", got)
	}
}

func failing(t testing.TB, code int) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, code)) })}
	go srv.ActivateAndServe()
	<-up
	t.Cleanup(func() { _ = srv.Shutdown() })
	return pc.LocalAddr().String()
}

// A container's own server on its loopback is asked at the container.
func TestOwnServerOnLoopback(t *testing.T) {
	h := &host{Host: overlaynet.Host{DNS: []string{"127.0.0.1", "::1", "9.9.9.9"}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.9")}}}
	if got := h.servers(); !slices.Equal(got, []string{"10.0.1.9", "10.0.1.9", "9.9.9.9"}) || h.DNS[0] != "127.0.0.1" {
		t.Errorf("got %v of %v", got, h.DNS)
	}
}

// Whatever comes in, over UDP or TCP, the next question is answered.
func FuzzPackets(f *testing.F) {
	good, _ := newQuestion("many", dns.TypeA).Pack()
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(append(bytes.Clone(good), 0xc0, 0x0c, 0xc0, 0x0c)) // trailing pointers
	f.Add(bytes.Replace(good, []byte("many"), []byte{0xc0, 0x0c, 0xc0, 0x0c}, 1))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 1400))
	_, addr := served(f, 3)
	c := new(dns.Client)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, network := range []string{"udp", "tcp"} {
			conn, err := net.Dial(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			if network == "tcp" && len(b) < 1<<16 {
				b = append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
			}
			_, _ = conn.Write(b)
			conn.Close()
		}
		if m, _, err := c.Exchange(newQuestion("many", dns.TypeA), addr); err != nil || len(m.Answer) != 4 {
			t.Fatalf("after %x: %v, %v", b, m, err)
		}
	})
}

// One in a thousand may take longer than the reported p99: eight askers at
// once, as many as the sockets let through.
func BenchmarkAnswers(b *testing.B) {
	for _, replicas := range []int{3, 200} {
		b.Run(fmt.Sprint(replicas, " replicas"), func(b *testing.B) {
			_, addr := served(b, replicas)
			name := "many-1"
			if replicas == 3 {
				name = "many"
			}
			var mu sync.Mutex
			var took []time.Duration
			var wg sync.WaitGroup
			const askers = 8
			b.ResetTimer()
			for range askers {
				wg.Go(func() {
					c := new(dns.Client)
					conn, err := c.Dial(addr)
					if err != nil {
						b.Error(err)
						return
					}
					defer conn.Close()
					var own []time.Duration
					for range b.N/askers + 1 {
						_, d, err := c.ExchangeWithConn(newQuestion(name, dns.TypeA), conn)
						if err != nil {
							b.Error(err)
							return
						}
						own = append(own, d)
					}
					mu.Lock()
					took = append(took, own...)
					mu.Unlock()
				})
			}
			wg.Wait()
			slices.Sort(took)
			if n := len(took); n > 0 {
				b.ReportMetric(float64(took[n/2].Microseconds()), "us-p50")
				b.ReportMetric(float64(took[n*99/100].Microseconds()), "us-p99")
			}
		})
	}
}

// What the other implementation reads of a question and what we read of it are
// the same, and it can read every answer.
func FuzzAnswer(f *testing.F) {
	for _, q := range []*dns.Msg{newQuestion("web", dns.TypeA), newQuestion("web.shop_front", dns.TypeAAAA), newQuestion("4.1.0.10.in-addr.arpa", dns.TypePTR), newQuestion("web", dns.TypeANY).SetEdns0(4096, true)} {
		b, _ := q.Pack()
		f.Add(b)
	}
	f.Add([]byte{0, 1, 2})
	s := fixture(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var want dns.Msg
		readable := want.Unpack(b) == nil
		for _, from := range []string{"10.0.1.2", "10.0.3.2", "10.0.9.9"} {
			out, e := s.answer(bytes.Clone(b), netip.MustParseAddr(from), netip.MustParseAddr("10.0.1.1"), len(b)%2 == 0, nil)
			if e != nil {
				if !readable && e.kind == want.Question[0].Qtype {
					t.Errorf("an errand of %x", b)
				}
				continue
			}
			if out == nil {
				continue
			}
			var m dns.Msg
			if err := m.Unpack(out); err != nil {
				t.Errorf("%x answered %x: %v", b, out, err)
			}
			if readable && m.Rcode == dns.RcodeSuccess && (m.Id != want.Id || len(m.Question) != 1 || m.Question[0] != want.Question[0]) {
				t.Errorf("%v answered %v", &want, &m)
			}
		}
	})
}
