package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
)

// Turns begin elsewhere on each node, and on one node in each pool: if one
// connection comes through each, no backend has all.
func TestTurnsBeginEverywhere(t *testing.T) {
	pool := func(first byte) (out []overlaynet.Backend) {
		for i := range byte(3) {
			out = append(out, overlaynet.Backend{Addr: netip.AddrFrom4([4]byte{10, 1, 0, first + i})})
		}
		return out
	}
	for what, begin := range map[string]func(i int) (in, out []overlaynet.Backend){
		"on 90 nodes": func(i int) (in, out []overlaynet.Backend) {
			return pool(1), (&batch{host: fmt.Sprint("node", i)}).begin(pool(1))
		},
		"of 90 pools": func(i int) (in, out []overlaynet.Backend) {
			return pool(byte(i)), (&batch{host: "node"}).begin(pool(byte(i)))
		},
	} {
		count := map[int]int{}
		for i := range 90 {
			in, out := begin(i)
			count[slices.Index(in, out[0])]++
			slices.SortFunc(out, func(a, b overlaynet.Backend) int { return a.Addr.Compare(b.Addr) })
			if !slices.Equal(in, out) {
				t.Fatalf("%s: got %v of %v", what, out, in)
			}
		}
		if count[0] < 15 || count[1] < 15 || count[2] < 15 {
			t.Errorf("%s: begun with the first, second, third: %v", what, count)
		}
	}
}
