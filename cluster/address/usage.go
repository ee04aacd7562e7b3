package address

import (
	"net/netip"

	"github.com/dhow-project/dhow/stack"
)

// Usage is how much of a network's ranges is taken by tasks and containers that
// have addresses in it, and by services. Ranges that are not right are left out.
func Usage(n stack.Network, held, services []stack.TaskAddress) (out []stack.RangeUsage) {
	b := newBook(n)
	if b.err != nil {
		return nil
	}
	for _, u := range []struct {
		s   space
		has []stack.TaskAddress
	}{{hosts, held}, {virtual, services}} {
		for _, v6 := range []bool{false, true} {
			if !b.of(u.s).Has(v6) {
				continue
			}
			use := stack.RangeUsage{Virtual: u.s == virtual, IPv6: v6, Total: b.of(u.s).Room(v6)}
			for _, a := range u.has {
				if _, err := netip.ParseAddr(family(a, v6)); err == nil && a.Network == n.Name {
					use.Taken++
				}
			}
			out = append(out, use)
		}
	}
	return out
}

func family(a stack.TaskAddress, v6 bool) string {
	if v6 {
		return a.IPv6
	}
	return a.IPv4
}
