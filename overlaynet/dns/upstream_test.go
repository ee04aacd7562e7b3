package dns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
)

// rawServer answers each packet with those that answer returns.
func rawServer(t testing.TB, answer func(q []byte) [][]byte) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	wg.Go(func() {
		b := make([]byte, messageSize)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			for _, p := range answer(slices.Clone(b[:n])) {
				_, _ = pc.WriteTo(p, from)
			}
		}
	})
	return pc.LocalAddr().String()
}

// saying answers every A question with this address.
func saying(addr string) func([]byte) [][]byte {
	return func(b []byte) [][]byte {
		q, m := new(dns.Msg), new(dns.Msg)
		if q.Unpack(b) != nil {
			return nil
		}
		m.SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(addr)}}
		out, _ := m.Pack()
		return [][]byte{out}
	}
}

func TestForwardedDomains(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+rawServer(t, saying("192.0.2.1"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node, net, deep, inner := rawServer(t, saying("192.0.2.2")), rawServer(t, saying("192.0.2.3")), rawServer(t, saying("192.0.2.4")), rawServer(t, saying("192.0.2.5"))
	b := book{t, New(Config{ResolvConf: conf, Forward: map[string][]string{"Corp.example.": {node}, "lan": {node}, "deep.corp.example": {node}}})}
	zone := func(name, gateway string, internal bool, forward map[string][]string) {
		if _, err := b.SetZone(overlaynet.Zone{Network: name, Name: name, Internal: internal, Forward: forward}); err != nil {
			t.Fatal(err)
		}
	}
	zone("plain", "", false, nil)
	zone("net", "", false, map[string][]string{"corp.example": {net}, "deep.corp.EXAMPLE": {deep}, "10.in-addr.arpa": {net}})
	zone("inner", "", true, map[string][]string{"inside.example": {inner}})
	b.plain("plain", "a", "10.1.0.2")
	b.plain("net", "b", "10.2.0.2")
	b.plain("inner", "c", "10.3.0.2")
	b.plain("net", "web", "10.2.0.3", "web.corp.example")
	b.SetHost(overlaynet.Host{Sandbox: "own", Network: "plain", Addrs: addrList("10.1.0.3"), DNS: []string{inner}})
	b.want(`
		10.1.0.2 A example: NXDOMAIN
		10.1.0.2 A notcorp.example: NOERROR 192.0.2.1
		10.1.0.2 A corp.example: NOERROR 192.0.2.2
		10.1.0.2 A www.CORP.example: NOERROR 192.0.2.2
		10.1.0.2 A lan: NOERROR 192.0.2.2
		10.1.0.2 A printer.lan: NOERROR 192.0.2.2
		10.1.0.3 A printer.lan: NOERROR 192.0.2.2
		10.1.0.3 A example.org: NOERROR 192.0.2.5
		10.2.0.2 A www.corp.example: NOERROR 192.0.2.3
		10.2.0.2 A www.deep.corp.example: NOERROR 192.0.2.4
		10.2.0.2 A printer.lan: NOERROR 192.0.2.2
		10.2.0.2 A web.corp.example: NOERROR 10.2.0.3
		10.2.0.2 A 9.0.0.10.in-addr.arpa: NOERROR 192.0.2.3
		10.2.0.2 PTR 3.0.2.10.in-addr.arpa: NOERROR web.net.
		10.3.0.2 A www.corp.example: NXDOMAIN
		10.3.0.2 A printer.lan: NXDOMAIN
		10.3.0.2 A www.inside.example: NOERROR 192.0.2.5
	`)
	zone("net", "", false, map[string][]string{"deep.corp.example": {net}})
	b.want(`
		10.2.0.2 A www.corp.example: NOERROR 192.0.2.2
		10.2.0.2 A www.deep.corp.example: NOERROR 192.0.2.3
		10.2.0.2 A b: NOERROR 10.2.0.2
	`)
}

// What a server says beside the answer, before it and instead of it: packets of
// others are not taken for it, and what passes is what came.
func TestPacketsThatAreNoAnswer(t *testing.T) {
	truth := saying("192.0.2.1")
	other := func(name string, kind uint16) []byte {
		m := new(dns.Msg).SetQuestion(name, kind)
		m.Response = true
		b, _ := m.Pack()
		return b
	}
	s := fixture(t, rawServer(t, func(q []byte) [][]byte {
		good := truth(q)[0]
		late, spoofed, kind, echo, short := slices.Clone(good), other("evil.example.", dns.TypeA), other("example.com.", dns.TypeAAAA), slices.Clone(q), good[:5]
		late[0]++
		copy(spoofed, q[:2])
		copy(kind, q[:2])
		shouting := slices.Clone(good)
		copy(shouting[headerSize:], bytes.ToUpper(good[headerSize:headerSize+13]))
		return [][]byte{late, spoofed, kind, echo, short, nil, {0}, shouting, saying("192.0.2.66")(q)[0]}
	}))
	m := asked(t, s, newQuestion("eXaMple.cOm", dns.TypeA), "10.0.1.2", "", false)
	if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.1" || m.Question[0].Name != "eXaMple.cOm." {
		t.Errorf("got %v", m)
	}
	for code, answer := range map[int][]byte{dns.RcodeFormatError: {0, 0, 0x80, dns.RcodeFormatError, 0, 0, 0, 0, 0, 0, 0, 0}} {
		s := fixture(t, rawServer(t, func(q []byte) [][]byte { return [][]byte{append(q[:2:2], answer[2:]...)} }))
		if m := asked(t, s, newQuestion("example.com", dns.TypeA), "10.0.1.2", "", false); m.Rcode != code || len(m.Question) != 1 {
			t.Errorf("a server that understands nothing: %v", m)
		}
	}
}

// A truncated answer is passed on to one who asks over UDP, and made whole for
// one who asks over TCP.
func TestTruncatedUpstream(t *testing.T) {
	s := fixture(t, upstreamServer(t, 100))
	for _, tcp := range []bool{false, true} {
		m := asked(t, s, newQuestion("example.com", dns.TypeA), "10.0.1.2", "", tcp)
		if m.Truncated == tcp || tcp && len(m.Answer) != 100 {
			t.Errorf("tcp %v: truncated %v, %d answers", tcp, m.Truncated, len(m.Answer))
		}
	}
	long := fixture(t, rawServer(t, func(b []byte) [][]byte { // more than was asked for
		q, m := new(dns.Msg), new(dns.Msg)
		if q.Unpack(b) != nil {
			return nil
		}
		m.SetReply(q)
		for i := range 200 {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, byte(i))})
		}
		out, _ := m.Pack()
		return [][]byte{out}
	}))
	for _, size := range []uint16{0, 1232, 4096, 65535} {
		q := newQuestion("example.com", dns.TypeA)
		if size > 0 {
			q.SetEdns0(size, true)
		}
		m := asked(t, long, q, "10.0.1.2", "", false)
		if !m.Truncated || m.Question[0] != q.Question[0] || (m.IsEdns0() != nil) != (size > 0) {
			t.Errorf("size %d: %v", size, m)
		}
	}
}

// One container with a slow server keeps nobody else from asking.
func TestOneAskerCannotTakeAllPlaces(t *testing.T) {
	release := make(chan struct{})
	truth := saying("192.0.2.1")
	slow := rawServer(t, func(q []byte) [][]byte { <-release; return truth(q) })
	s := fixture(t, rawServer(t, truth))
	s.SetHost(overlaynet.Host{Sandbox: "greedy", Network: "id-front", Addrs: addrList("10.0.1.9"), DNS: []string{slow}})
	done := make(chan []byte, askOne+1)
	for i := range askOne + 1 {
		b, _ := newQuestion(fmt.Sprintf("n%d.example", i), dns.TypeA).Pack()
		_, e := s.answer(b, netip.MustParseAddr("10.0.1.9"), netip.Addr{}, false, nil)
		if r := s.upstream.start(t.Context(), e, func(r []byte) { done <- r }); (r != nil) != (i == askOne) {
			t.Fatalf("question %d: %x", i, r)
		}
	}
	if got := lookup(t, s, "10.0.1.2", "example.com", dns.TypeA); got != "NOERROR 192.0.2.1" {
		t.Errorf("got %q", got)
	}
	close(release)
	for range askOne {
		<-done
	}
}

func TestWhatIsRefused(t *testing.T) {
	s := fixture(t, upstreamServer(t, 1))
	chaos := newQuestion("version.bind", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	update := newQuestion("web", dns.TypeA)
	update.Opcode = dns.OpcodeUpdate
	two := newQuestion("web", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	later := newQuestion("web", dns.TypeA).SetEdns0(1232, false)
	later.IsEdns0().SetVersion(1)
	for what, c := range map[string]struct {
		q    *dns.Msg
		code int
	}{
		"chaos":            {chaos, dns.RcodeRefused},
		"transfer":         {newQuestion("example.com", dns.TypeAXFR), dns.RcodeRefused},
		"transfer of ours": {newQuestion("web", dns.TypeIXFR), dns.RcodeRefused},
		"update":           {update, dns.RcodeNotImplemented},
		"two questions":    {two, dns.RcodeFormatError},
		"EDNS 1":           {later, dns.RcodeBadVers},
	} {
		if m := asked(t, s, c.q, "10.0.1.2", "", true); m.Rcode != c.code || len(m.Answer) != 0 {
			t.Errorf("%s: %v", what, m)
		}
	}
	response := newQuestion("web", dns.TypeA)
	response.Response = true
	if m := asked(t, s, response, "10.0.1.2", "", false); m != nil {
		t.Errorf("an answer to an answer: %v", m)
	}
	odd := newQuestion("wEb", dns.TypeA)
	if m := asked(t, s, odd, "10.0.1.2", "", false); m.Question[0].Name != "wEb." || m.Answer[0].Header().Name != "wEb." {
		t.Errorf("letters: %v", m)
	}
}

// Five hundred tasks without a virtual address: as many as fit over UDP, others
// every time, and all of them over TCP.
func TestBigService(t *testing.T) {
	s, addr := served(t, 1)
	const tasks = 500
	s.SetService(overlaynet.Service{Network: "lo", Service: "shop/big", Names: []string{"big"}})
	for i := range tasks {
		s.SetHost(overlaynet.Host{Sandbox: fmt.Sprint("big", i), Network: "lo", Service: "shop/big", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)})}, Ready: true})
	}
	q := newQuestion("big", dns.TypeA)
	seen := map[string]bool{}
	for range 300 {
		m, _, err := (&dns.Client{}).Exchange(q, addr)
		if err != nil || !m.Truncated || len(m.Answer) < 28 {
			t.Fatalf("%d answers, %v", len(m.Answer), err)
		}
		for _, rr := range m.Answer {
			seen[rr.(*dns.A).A.String()] = true
		}
	}
	if len(seen) != tasks {
		t.Errorf("%d of %d were seen over UDP", len(seen), tasks)
	}
	m, _, err := (&dns.Client{Net: "tcp"}).Exchange(q, addr)
	if err != nil || m.Truncated || len(m.Answer) != tasks {
		t.Errorf("tcp: %d answers, %v", len(m.Answer), err)
	}
}

// Several questions in one connection and several connections of one container;
// beyond that, new ones are closed.
func TestConnections(t *testing.T) {
	_, addr := served(t, 3, upstreamServer(t, 2))
	one, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	var all []byte
	names := []string{"many", "example.com", "many-1", "nope"}
	for i, n := range names {
		q := newQuestion(n, dns.TypeA)
		q.Id = uint16(i)
		b, _ := q.Pack()
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(b))), b...)
	}
	if _, err := one.Write(all); err != nil { // together, as pipelining clients do
		t.Fatal(err)
	}
	for i, n := range names {
		b, err := readTCP(one, nil)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b) != nil || int(m.Id) != i || !strings.HasPrefix(m.Question[0].Name, n) {
			t.Fatalf("%s: %v, %v", n, m, err)
		}
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range connsOne + 5 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if n, err := conns[len(conns)-1].Read(make([]byte, 1)); err == nil {
		t.Errorf("one too many: %d bytes", n)
	}
	if m, _, err := new(dns.Client).Exchange(newQuestion("many", dns.TypeA), addr); err != nil || len(m.Answer) != 4 {
		t.Errorf("over UDP meanwhile: %v", err)
	}
}

// Whatever a server sends, the container gets its own question answered or
// nothing, and nothing breaks.
func FuzzUpstream(f *testing.F) {
	good := saying("192.0.2.1")(func() []byte { b, _ := newQuestion("example.com", dns.TypeA).Pack(); return b }())[0]
	f.Add(good)
	f.Add(good[:20])
	f.Add(append(slices.Clone(good), 0xc0, 0x0c))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xc0}, 600))
	ask, _ := newQuestion("example.com", dns.TypeA).Pack()
	f.Fuzz(func(t *testing.T, b []byte) {
		q, code := readQuestion(ask)
		if code != codeOK {
			t.Fatal(code)
		}
		for _, tcp := range []bool{false, true} {
			e := &errand{question: q, tcp: tcp}
			m := e.accept(b, ask)
			if m == nil {
				continue
			}
			out := e.fit(e.own(m))
			if len(out) < headerSize || !bytes.Equal(out[:2], ask[:2]) || out[2]&0x80 == 0 || !tcp && len(out) > plainSize {
				t.Errorf("%x made of %x", out, b)
			}
		}
	})
}

// When its network goes, nobody waits for what a container has asked the world,
// and the server that had no time to answer is not taken for a bad one.
func TestCloseWaitsForNobody(t *testing.T) {
	came := make(chan struct{}, 1)
	silent := rawServer(t, func([]byte) [][]byte {
		select {
		case came <- struct{}{}:
		default:
		}
		return nil
	})
	s, addr := served(t, 1, silent)
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, _ := newQuestion("example.com", dns.TypeA).Pack()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	<-came
	start := time.Now()
	s.upstream.mu.Lock() // no errand ends
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
		t.Errorf("closed, but %d questions are under way", s.upstream.total)
	case <-time.After(50 * time.Millisecond):
	}
	s.upstream.mu.Unlock()
	<-closed
	if took := time.Since(start); took > askTime*9/10 {
		t.Errorf("closing took %s: the world was waited for", took)
	}
	s.upstream.mu.Lock()
	defer s.upstream.mu.Unlock()
	if s.upstream.total != 0 {
		t.Errorf("closed, but %d questions are under way", s.upstream.total)
	}
	if len(s.upstream.bad) != 0 {
		t.Errorf("blamed: %v", s.upstream.bad)
	}
}
