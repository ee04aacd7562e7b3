package lb_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

func front(proto, addr string) overlaynet.Frontend {
	ap := netip.MustParseAddrPort(addr)
	return overlaynet.Frontend{Protocol: proto, Addr: ap.Addr(), Port: ap.Port()}
}

func backs(addrs ...string) (out []overlaynet.Backend) {
	for _, a := range addrs {
		ap := netip.MustParseAddrPort(a)
		out = append(out, overlaynet.Backend{Addr: ap.Addr(), Port: ap.Port()})
	}
	return out
}

func segment(id string, gateways ...string) *overlaynet.Segment {
	s := &overlaynet.Segment{ID: id, Bridge: "br-" + id, Masquerade: true}
	for _, g := range gateways {
		s.Gateways = append(s.Gateways, netip.MustParsePrefix(g))
	}
	return s
}

// full is a change that uses every kind of rule.
func full() overlaynet.Change {
	inner := segment("inner", "10.3.0.1/24", "fd03::1/64")
	inner.Internal = true
	a := segment("a", "10.1.0.1/24", "fd01::1/64")
	a.Virtual = []netip.Prefix{netip.MustParsePrefix("10.1.9.0/24"), netip.MustParsePrefix("fd01:0:0:9::/112")}
	return overlaynet.Change{
		Segments: map[string]*overlaynet.Segment{"a": a, "inner": inner},
		Frontends: map[overlaynet.Frontend][]overlaynet.Backend{
			front("tcp", "0.0.0.0:80"):    backs("10.1.0.2:8080", "10.1.0.3:8080"),
			front("tcp", "[::]:80"):       backs("[fd01::2]:8080"),
			front("udp", "192.0.2.1:53"):  backs("10.1.0.2:53"),
			front("tcp", "[fd09::1]:443"): backs("[fd01::2]:443", "[fd01::3]:443"),
			front("sctp", "0.0.0.0:99"):   backs("10.1.0.2:99"),
		},
		Sticky:    map[overlaynet.Frontend]bool{front("tcp", "[fd09::1]:443"): true},
		Resolvers: map[netip.Addr]uint16{netip.MustParseAddr("10.1.0.1"): 53, netip.MustParseAddr("10.3.0.1"): 5353},
		Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{
			{Network: "a", Addr: netip.MustParseAddr("10.1.9.1")}:         {Backends: anyPort("10.1.0.2", "10.1.0.3")},
			{Network: "a", Addr: netip.MustParseAddr("fd01:0:0:9::1")}:    {Backends: anyPort("fd01::2", "fd01::3"), Sticky: true},
			{Network: "a", Addr: netip.MustParseAddr("10.1.9.2")}:         {},
			{Network: "inner", Addr: netip.MustParseAddr("10.3.9.1")}:     {Backends: anyPort("10.3.0.2")},
			{Network: "elsewhere", Addr: netip.MustParseAddr("10.4.9.1")}: {Backends: anyPort("10.4.0.2")},
		},
		Locals:  map[netip.Addr]bool{netip.MustParseAddr("10.1.0.2"): true, netip.MustParseAddr("fd01::2"): true},
		Inbound: &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.2"): true, netip.MustParseAddr("2001:db8::2"): true}},
	}
}

func anyPort(addrs ...string) (out []overlaynet.Backend) {
	for _, a := range addrs {
		out = append(out, overlaynet.Backend{Addr: netip.MustParseAddr(a)})
	}
	return out
}

const dir = "/run/lb-test"

func table() string { return "dhow_" + overlaynet.Mark(dir)[2:] }

func ruleset(t testing.TB) string { return nettest.Run(t, "nft", "list", "ruleset") }

// Whatever somebody does to the table by hand, Check sees it and puts it
// right; on an unharmed table it writes nothing.
func TestCheckRepairsEveryDamage(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	nettest.Must(t, r.Apply(ctx, full()))
	good := sorted(ruleset(t))
	writes := r.Writes()
	if repaired, err := r.Check(ctx); repaired || err != nil || r.Writes() != writes {
		t.Fatalf("unharmed: %v, %v, %d writes", repaired, err, r.Writes()-writes)
	}
	tab := "inet " + table()
	for _, damage := range []string{
		"flush ruleset",
		"delete table " + tab,
		"flush table " + tab,
		"flush chain " + tab + " forward",
		"flush chain " + tab + " tcp_0.0.0.0_80",
		"add chain " + tab + " forward { policy drop; }",
		"insert rule " + tab + " forward drop",
		"add rule " + tab + " postrouting accept",
		"add chain " + tab + " mine",
		"delete element " + tab + " bridges { br-a }",
		"add element " + tab + " bridges { eth7 }",
		"delete element " + tab + " internal { br-inner }",
		"delete element " + tab + " same { br-a . br-a }",
		"add element " + tab + " same { br-a . br-inner }",
		"delete element " + tab + " masq4 { 10.1.0.0/24 }",
		"delete element " + tab + " any4 { tcp . 80 }",
		"add element " + tab + " any4 { tcp . 81 : drop }",
		"delete element " + tab + " any4 { tcp . 80 }; add element " + tab + " any4 { tcp . 80 : drop }", // as many as before
		"delete element " + tab + " own4 { br-a . 10.1.0.0-10.1.0.255 }",
		"delete element " + tab + " vip4 { br-a . 10.1.9.1 }",
		"delete element " + tab + " vip4 { br-a . 10.1.9.2 }; add element " + tab + " vip4 { br-a . 10.1.9.2 : accept }",
		"delete element " + tab + " virtual4 { 10.1.9.0/24 }",
		"delete element " + tab + " self4 { 10.1.0.2 . 10.1.0.2 }",
		"delete element " + tab + " peers4 { 192.0.2.2 }",
		"add element " + tab + " peers6 { 2001:db8::3 }",
		"delete element " + tab + " tunnels { 4789 }",
		"flush chain " + tab + " vip_br-a_fd01.0.0.9..1",
		"flush chain " + tab + " refuse",
	} {
		nettest.Run(t, "nft", damage)
		if sorted(ruleset(t)) == good {
			t.Fatalf("%s: changed nothing", damage)
		}
		repaired, err := r.Check(ctx)
		if !repaired || err != nil {
			t.Errorf("%s: repaired %v, %v", damage, repaired, err)
		}
		if got := sorted(ruleset(t)); got != good {
			t.Errorf("%s: repaired to\n%s\nwant\n%s", damage, got, good)
		}
	}
	// One rule for another: the count is the same.
	list := nettest.Run(t, "nft", "-a", "list", "chain", "inet", table(), "input")
	handle := strings.Fields(list[strings.LastIndex(list, "# handle")+len("# handle"):])[0]
	nettest.Run(t, "nft", "replace rule "+tab+" input handle "+handle+" accept")
	if repaired, err := r.Check(ctx); !repaired || err != nil || sorted(ruleset(t)) != good {
		t.Errorf("rule replaced: %v, %v\n%s", repaired, err, ruleset(t))
	}
	nettest.Must(t, r.Clear(ctx))
	if got := ruleset(t); got != "" {
		t.Errorf("left after Clear:\n%s", got)
	}
}

// Changes after a flushed ruleset heal it, and other tables are left alone.
func TestApplyAfterFlush(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	nettest.Must(t, r.Apply(ctx, full()))
	nettest.Run(t, "nft", "flush ruleset")
	nettest.Run(t, "nft", "add table ip theirs; add chain ip theirs c; add rule ip theirs c drop")
	theirs := ruleset(t)
	add := front("tcp", "0.0.0.0:90")
	nettest.Must(t, r.Apply(ctx, overlaynet.Change{Frontends: map[overlaynet.Frontend][]overlaynet.Backend{add: backs("10.1.0.2:90")}}))
	got := ruleset(t)
	if !strings.Contains(got, "tcp . 80 ") || !strings.Contains(got, "tcp . 90 ") || !strings.Contains(got, "table ip theirs") {
		t.Errorf("got\n%s", got)
	}
	nettest.Must(t, r.Clear(ctx))
	if got := ruleset(t); got != theirs {
		t.Errorf("left\n%s\nwant\n%s", got, theirs)
	}
}

// From any content to any other by changes equals the same content written at
// once, and a second Apply of what is there sends nothing.
func TestEveryContentFromEveryOther(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	all := full()
	draw := func(rt *rapid.T) overlaynet.Change {
		c := overlaynet.Change{
			Segments: map[string]*overlaynet.Segment{}, Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}, Resolvers: map[netip.Addr]uint16{},
			Sticky: map[overlaynet.Frontend]bool{}, Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{}, Locals: map[netip.Addr]bool{},
			Inbound: &overlaynet.Inbound{Peers: map[netip.Addr]bool{}},
		}
		for _, id := range []string{"a", "inner"} {
			s := *all.Segments[id]
			s.Masquerade = rapid.Bool().Draw(rt, "masquerade")
			s.Bridge = rapid.SampledFrom([]string{"br-" + id, "br-new-" + id}).Draw(rt, "bridge of "+id)
			if c.Segments[id] = &s; rapid.Bool().Draw(rt, "no "+id) {
				c.Segments[id] = nil
			}
		}
		fronts := make([]overlaynet.Frontend, 0, len(all.Frontends))
		for f := range all.Frontends {
			fronts = append(fronts, f)
		}
		slices.SortFunc(fronts, func(a, b overlaynet.Frontend) int { return strings.Compare(a.String(), b.String()) })
		for _, f := range fronts {
			to := all.Frontends[f]
			c.Frontends[f] = slices.Clone(to[:rapid.IntRange(0, len(to)).Draw(rt, f.String())])
			c.Sticky[f] = rapid.Bool().Draw(rt, "sticky "+f.String())
		}
		virtuals := make([]overlaynet.Virtual, 0, len(all.Virtuals))
		for v := range all.Virtuals {
			virtuals = append(virtuals, v)
		}
		slices.SortFunc(virtuals, func(a, b overlaynet.Virtual) int { return a.Addr.Compare(b.Addr) })
		for _, v := range virtuals {
			to := all.Virtuals[v].Backends
			switch n := rapid.IntRange(-1, len(to)).Draw(rt, v.Addr.String()); n {
			case -1:
				c.Virtuals[v] = nil
			default:
				c.Virtuals[v] = &overlaynet.Pool{Backends: slices.Clone(to[:n]), Sticky: rapid.Bool().Draw(rt, "sticky "+v.Addr.String())}
			}
		}
		for a := range all.Locals {
			c.Locals[a] = rapid.Bool().Draw(rt, a.String())
		}
		c.Inbound.Port = rapid.SampledFrom([]uint16{0, 4789, 8472}).Draw(rt, "port")
		for a := range all.Inbound.Peers {
			c.Inbound.Peers[a] = rapid.Bool().Draw(rt, a.String())
		}
		for a := range all.Resolvers {
			c.Resolvers[a] = rapid.SampledFrom([]uint16{0, 53, 5353}).Draw(rt, a.String())
		}
		return c
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := draw(rt)
		if err := r.Apply(ctx, c); err != nil {
			rt.Fatal(err)
		}
		if repaired, err := r.Check(ctx); repaired || err != nil {
			rt.Fatalf("not as expected after a change: %v\n%s", err, ruleset(t))
		}
		step := sorted(ruleset(t))
		fresh := lb.New(lb.Config{RunDir: dir})
		if err := fresh.Apply(ctx, c); err != nil {
			rt.Fatal(err)
		}
		if once := sorted(ruleset(t)); once != step {
			rt.Fatalf("by steps\n%s\nat once\n%s", step, once)
		}
		r = fresh
		before := r.Writes()
		if err := r.Apply(ctx, c); err != nil || r.Writes() != before {
			rt.Fatalf("the same again: %v, %d writes", err, r.Writes()-before)
		}
	})
}

// sorted takes the order of chains, elements and lines from a listing.
func sorted(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == ',' || r == '{' || r == '}' })
	for i := range words {
		words[i] = strings.TrimSpace(strings.ReplaceAll(words[i], "elements =", ""))
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}

// Concurrent changes all arrive.
func TestConcurrentChanges(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	errs := make(chan error)
	for i := range 50 {
		go func() {
			f := front("tcp", fmt.Sprintf("0.0.0.0:%d", 1000+i))
			errs <- r.Apply(ctx, overlaynet.Change{Frontends: map[overlaynet.Frontend][]overlaynet.Backend{f: backs("10.1.0.2:80")}})
		}()
	}
	for range 50 {
		nettest.Must(t, <-errs)
	}
	got := ruleset(t)
	for i := range 50 {
		if !strings.Contains(got, fmt.Sprintf("tcp . %d ", 1000+i)) {
			t.Errorf("port %d is missing", 1000+i)
		}
	}
	if out, err := exec.Command("nft", "-c", "list", "ruleset").CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}
