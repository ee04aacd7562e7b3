package dns

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl is how many seconds an answer may be remembered: names move at once.
const ttl = 1

// answer returns the reply to q; nil to say nothing.
func (s *Server) answer(q *dns.Msg, from, at netip.Addr, tcp bool) *dns.Msg {
	if q.Response {
		return nil
	}
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 {
		return fail(q, dns.RcodeNotImplemented)
	}
	s.mu.RLock()
	c, ok := s.records.ask(from, at)
	var local *dns.Msg
	if ok {
		local = s.local(q, c)
	}
	s.mu.RUnlock()
	switch {
	case !ok:
		return fail(q, dns.RcodeRefused) // not a container of ours
	case local != nil:
		return fit(q, local, tcp)
	case !c.outside():
		// Not REFUSED: musl waits for a better answer then, five seconds long.
		return fail(q, dns.RcodeNameError)
	}
	return fit(q, s.upstream.exchange(q, c.dns, tcp), tcp)
}

func fail(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg)
	if len(q.Question) > 0 {
		m.SetRcode(q, code)
		return m
	}
	m.SetRcodeFormatError(q)
	m.Rcode = code
	return m
}

// fit truncates the reply to what the asker takes, and answers EDNS with EDNS.
func fit(q, m *dns.Msg, tcp bool) *dns.Msg {
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = max(size, int(o.UDPSize()))
		if m.IsEdns0() == nil {
			m.SetEdns0(4096, false)
		}
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	return m
}

// local answers from our records; nil when the name is for the world.
func (s *Server) local(q *dns.Msg, c client) *dns.Msg {
	ask := q.Question[0]
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if ask.Qclass != dns.ClassINET && ask.Qclass != dns.ClassANY {
		m.Rcode = dns.RcodeRefused
		return m
	}
	name := fold(ask.Name)
	if a, ok := reverseAddr(name); ok {
		target, known := s.records.reverse(c, a)
		if !known {
			return nil
		}
		if ask.Qtype == dns.TypePTR || ask.Qtype == dns.TypeANY {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: header(ask.Name, dns.TypePTR), Ptr: target})
		}
		return m
	}
	addrs, known := c.lookup(name)
	if !known {
		if strings.Contains(name, ".") || name == "" || ofZones[ask.Qtype] {
			return nil
		}
		m.Rcode = dns.RcodeNameError
		return m
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs {
		switch {
		case a.Is4() && (ask.Qtype == dns.TypeA || ask.Qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.A{Hdr: header(ask.Name, dns.TypeA), A: net.IP(a.AsSlice())})
		case a.Is6() && !a.IsLinkLocalUnicast() && (ask.Qtype == dns.TypeAAAA || ask.Qtype == dns.TypeANY):
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(ask.Name, dns.TypeAAAA), AAAA: net.IP(a.AsSlice())})
		}
	}
	return m
}

// ofZones are questions that validating resolvers ask of top-level domains,
// whose names have one label too.
var ofZones = map[uint16]bool{dns.TypeNS: true, dns.TypeSOA: true, dns.TypeDS: true, dns.TypeDNSKEY: true, dns.TypeNSEC: true, dns.TypeNSEC3PARAM: true}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// reverseAddr reads "5.0.18.172.in-addr.arpa" and its IPv6 sister.
func reverseAddr(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(v4, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 0; i < 32; i++ {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteByte(v6[62-2*i])
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
