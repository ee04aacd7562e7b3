package dns

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// crowd is a network with n containers in n/perService services.
func crowd(s *Server, n, perService int) func(i int, ready bool) overlaynet.Host {
	s.records.setZone(overlaynet.Zone{Network: "net", Name: "net"})
	host := func(i int, ready bool) overlaynet.Host {
		k := i / perService
		return overlaynet.Host{
			Sandbox: fmt.Sprint("far", i), Network: "net", Service: fmt.Sprintf("s%d/web", k), Ready: ready,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 70, byte(i >> 8), byte(i)})},
			Names: []string{fmt.Sprint("far-", i), fmt.Sprintf("%012x", i)}, Shared: []string{fmt.Sprint("web", k)},
		}
	}
	for i := range n / perService {
		s.SetService(overlaynet.Service{
			Network: "net", Service: fmt.Sprintf("s%d/web", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})},
			Names: []string{fmt.Sprint("web", i), fmt.Sprintf("web%d.s%d", i, i)},
		})
	}
	for i := range n {
		s.SetHost(host(i, true))
	}
	return host
}

// One container's readiness changes among 5,000: of a service of five, of one
// of 500, of the only one.
func BenchmarkSetHost(b *testing.B) {
	for _, size := range []int{5, 500, 5000} {
		b.Run(fmt.Sprint("service of ", size), func(b *testing.B) {
			s := fixture(b)
			host := crowd(s, 5000, size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.SetHost(host(i%5000, i%2 == 0))
			}
		})
	}
}

func BenchmarkSetService(b *testing.B) {
	s := fixture(b)
	crowd(s, 5000, 5)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := i % 1000
		s.SetService(overlaynet.Service{
			Network: "net", Service: fmt.Sprintf("s%d/web", k), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 201, byte(i >> 8), byte(i)})},
			Names: []string{fmt.Sprint("web", k), fmt.Sprintf("web%d.s%d", k, k)},
		})
	}
}

// A whole network comes at once.
func BenchmarkLoad(b *testing.B) {
	for _, size := range []int{5, 5000} {
		b.Run(fmt.Sprint("services of ", size), func(b *testing.B) {
			for b.Loop() {
				crowd(fixture(b), 5000, size)
			}
		})
	}
}

// An answer without the sockets.
func BenchmarkAnswer(b *testing.B) {
	s := fixture(b)
	crowd(s, 5000, 5)
	from, out := netip.MustParseAddr("10.70.0.7"), make([]byte, 0, plainSize)
	for _, name := range []string{"web7", "web7.s7", "tasks.web7", "far-7.net", "7.0.70.10.in-addr.arpa"} {
		b.Run(name, func(b *testing.B) {
			kind := dns.TypeA
			if name[0] == '7' {
				kind = dns.TypePTR
			}
			q, err := newQuestion(name, kind).Pack()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if r, _ := s.answer(q, from, netip.Addr{}, false, out); r == nil || r[7] == 0 {
					b.Fatalf("%x", r)
				}
			}
		})
	}
}
