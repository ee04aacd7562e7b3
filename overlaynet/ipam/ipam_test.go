package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

func TestPickSubnetAvoidsWhatIsThere(t *testing.T) {
	pools := []Pool{{netip.MustParsePrefix("172.17.0.0/16"), 24}, {netip.MustParsePrefix("192.168.0.0/16"), 24}}
	for _, c := range []struct{ used, avoid, want string }{
		{"", "", "172.17.0.0/24"},
		{"172.17.0.0/24", "", "172.17.1.0/24"},
		{"172.17.0.0/24", "172.17.1.7/32", "172.17.2.0/24"},
		{"", "172.16.0.0/12", "192.168.0.0/24"},
		{"172.17.0.0/17", "172.17.128.0/25 172.17.129.0/24", "172.17.130.0/24"},
	} {
		got, err := PickSubnet(pools, prefixes(c.used), prefixes(c.avoid))
		if err != nil || got.String() != c.want {
			t.Errorf("used %q avoid %q: got %v, %v; want %s", c.used, c.avoid, got, err, c.want)
		}
	}
	_, err := PickSubnet(pools, prefixes("172.16.0.0/12 192.168.0.0/16"), nil)
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "192.168.0.0/16 in /24") {
		t.Errorf("exhaustion must name the pools: %v", err)
	}
}

func prefixes(s string) (out []netip.Prefix) {
	for _, f := range strings.Fields(s) {
		out = append(out, netip.MustParsePrefix(f))
	}
	return out
}

func TestExhaustionSaysWhatToDo(t *testing.T) {
	n, err := NewNetwork("front", []stack.Subnet{{CIDR: "10.0.0.0/29", Aux: map[string]string{"router": "10.0.0.6"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 4; i++ {
		if _, err := n.Take(false, "c"); err != nil {
			t.Fatal(i, err)
		}
	}
	_, err = n.Take(false, "c")
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "front") || !strings.Contains(err.Error(), "larger subnet") {
		t.Fatalf("got %v", err)
	}
}

func TestBadSubnets(t *testing.T) {
	for _, s := range []stack.Subnet{
		{CIDR: "x"}, {CIDR: "10.0.0.0/31"}, {CIDR: "10.0.0.0/24", Gateway: "10.0.1.1"}, {CIDR: "10.0.0.0/24", Range: "10.0.1.0/25"},
		{CIDR: "10.0.0.0/24", Gateway: "10.0.0.9", Aux: map[string]string{"a": "10.0.0.9"}}, {CIDR: "10.0.0.0/24", Gateway: "10.0.0.255"},
	} {
		if _, err := NewNetwork("n", []stack.Subnet{s}); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}

// Whatever is taken, freed and restored, no address is out twice, all are
// inside the range, and a freed address returns only when no fresh one is left.
func TestNeverTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sub := stack.Subnet{CIDR: rapid.SampledFrom([]string{"10.1.0.0/28", "10.1.0.0/26", "fd00:1::/122", "10.1.0.0/30"}).Draw(t, "cidr")}
		if sub.CIDR == "10.1.0.0/26" && rapid.Bool().Draw(t, "ranged") {
			sub.Range = "10.1.0.32/28"
		}
		v6 := strings.Contains(sub.CIDR, ":")
		n, err := NewNetwork("n", []stack.Subnet{sub})
		if err != nil {
			t.Fatal(err)
		}
		held := map[netip.Addr]bool{}
		var freed []netip.Addr
		give := func(p netip.Prefix) {
			if held[p.Addr()] || p.Addr() == n.subnets[0].gateway {
				t.Fatalf("%s given twice", p)
			}
			held[p.Addr()] = true
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				if p, err := n.Take(v6, "o"); err == nil {
					give(p)
					if !n.subnets[0].prefix.Contains(p.Addr()) {
						t.Fatalf("%s is outside", p)
					}
				} else if !errors.Is(err, ErrExhausted) {
					t.Fatal(err)
				}
			case 2:
				for a := range held {
					n.Free(a, "o")
					delete(held, a)
					freed = append(freed, a)
					break
				}
			case 3:
				a := n.subnets[0].first
				for range rapid.IntRange(0, 20).Draw(t, "offset") {
					a = a.Next()
				}
				if p, err := n.TakeStatic(a, "o"); err == nil {
					give(p)
				}
			case 4: // crash
				m, err := NewNetwork("n", []stack.Subnet{sub})
				if err != nil {
					t.Fatal(err)
				}
				for a := range held {
					if err := m.Restore(a, "o"); err != nil {
						t.Fatal(err)
					}
				}
				n, freed = m, nil
			}
		}
		if want := len(held) + 1; n.Used() != want {
			t.Fatalf("%d used, %d held", n.Used(), want)
		}
		_ = freed
	})
}

func TestFreedComeLast(t *testing.T) {
	n, _ := NewNetwork("n", []stack.Subnet{{CIDR: "10.0.0.0/28"}})
	var order []netip.Addr
	a, _ := n.Take(false, "a")
	b, _ := n.Take(false, "b")
	n.Free(a.Addr(), "a")
	n.Free(b.Addr(), "b")
	for {
		p, err := n.Take(false, "c")
		if err != nil {
			break
		}
		order = append(order, p.Addr())
	}
	if len(order) != 13 || order[11] != a.Addr() || order[12] != b.Addr() {
		t.Fatalf("got %v", order)
	}
}

// An address that somebody has again and again costs no memory each time, and
// the others keep their order.
func TestComingsAndGoingsAreNotRemembered(t *testing.T) {
	n, _ := NewNetwork("n", []stack.Subnet{{CIDR: "10.0.0.0/24"}})
	var first []netip.Addr
	for range 20 {
		p, _ := n.Take(false, "a")
		first = append(first, p.Addr())
	}
	for _, a := range first {
		n.Free(a, "a")
	}
	for range 100_000 {
		if _, err := n.TakeStatic(first[3], "b"); err != nil {
			t.Fatal(err)
		}
		n.Free(first[3], "b")
	}
	if got := len(n.subnets[0].freed); got > 1000 {
		t.Errorf("%d freed addresses are remembered of 20", got)
	}
	var again []netip.Addr
	for {
		p, err := n.Take(false, "c")
		if err != nil {
			break
		}
		again = append(again, p.Addr())
	}
	want := append(slices.Delete(slices.Clone(first), 3, 4), first[3])
	if got := again[len(again)-20:]; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25", "10.0.0.200")
	f.Add("fd00::/64", "", "", "fd00::5")
	f.Fuzz(func(t *testing.T, cidr, gw, rng, static string) {
		n, err := NewNetwork("n", []stack.Subnet{{CIDR: cidr, Gateway: gw, Range: rng}})
		if err != nil {
			return
		}
		seen := map[netip.Addr]bool{n.Gateways()[0].Addr(): true}
		if a, err := netip.ParseAddr(static); err == nil {
			if p, err := n.TakeStatic(a, "s"); err == nil {
				seen[p.Addr()] = true
			}
		}
		for range 5 {
			p, err := n.Take(n.Has(true), "o")
			if err != nil {
				return
			}
			if seen[p.Addr()] {
				t.Fatalf("%s twice", p)
			}
			seen[p.Addr()] = true
		}
	})
}

func TestParsePool(t *testing.T) {
	for text, want := range map[string]string{
		"10.100.0.0/16,24": "10.100.0.0/16 in /24",
		"10.100.7.0/16,16": "10.100.0.0/16 in /16",
		"fd00:1::/48,64":   "fd00:1::/48 in /64",
		"10.100.0.0/16,30": "10.100.0.0/16 in /30",
		"10.100.0.0/16":    `address pool "10.100.0.0/16": the size of its subnets is not between 16 and 30`,
		"10.100.0.0/16,31": `address pool "10.100.0.0/16,31": the size of its subnets is not between 16 and 30`,
		"10.100.0.0/16,8":  `address pool "10.100.0.0/16,8": the size of its subnets is not between 16 and 30`,
		"10.100.0.0/16,2x": `address pool "10.100.0.0/16,2x": the size of its subnets is not between 16 and 30`,
		"10.100.0.0,24":    `address pool "10.100.0.0,24": want BASE,SIZE such as 10.100.0.0/16,24`,
		"":                 `address pool "": want BASE,SIZE such as 10.100.0.0/16,24`,
	} {
		p, err := ParsePool(text)
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
