package ipam

import (
	"errors"
	"math"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

// Room is how often Take succeeds.
func TestRoomIsWhatCanBeTaken(t *testing.T) {
	for _, subnets := range [][]stack.Subnet{
		{{CIDR: "10.0.0.0/29"}},
		{{CIDR: "10.0.0.0/24", Range: "10.0.0.128/27"}},
		{{CIDR: "10.0.0.0/24", Range: "10.0.0.0/30", Gateway: "10.0.0.1", Aux: map[string]string{"a": "10.0.0.2", "b": "10.0.0.200"}}},
		{{CIDR: "10.0.0.0/28"}, {CIDR: "10.1.0.0/29"}, {CIDR: "fd00::/64"}},
		{{CIDR: "fd00::/120"}},
		{{CIDR: "fd00::/64", Range: "fd00::8/125"}},
	} {
		for _, v6 := range []bool{false, true} {
			n, err := NewNetwork("n", subnets)
			if err != nil {
				t.Fatal(err)
			}
			want := n.Room(v6)
			if want > 1<<20 {
				continue
			}
			var got uint64
			for n.Has(v6) {
				if _, err := n.Take(v6, "x"); errors.Is(err, ErrExhausted) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				got++
			}
			if got != want {
				t.Errorf("%v, IPv6 %v: room for %d, taken %d", subnets, v6, want, got)
			}
			if left := n.Room(v6); left != 0 {
				t.Errorf("%v, IPv6 %v: full, and room for %d", subnets, v6, left)
			}
		}
	}
	n, err := NewNetwork("n", []stack.Subnet{{CIDR: "fd00::/48"}})
	if err != nil || n.Room(true) != math.MaxUint64 {
		t.Errorf("room for %d, %v", n.Room(true), err)
	}
}
