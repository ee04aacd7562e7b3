package lb_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// A service may have thousands of tasks.
func TestLargePools(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	const tasks = 4000
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	var to4, to6 []overlaynet.Backend
	for i := range tasks {
		to4 = append(to4, overlaynet.Backend{Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Port: 80})
		to6 = append(to6, overlaynet.Backend{Addr: netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 8), 15: byte(i)}), Port: 80})
	}
	change := overlaynet.Change{Frontends: map[overlaynet.Frontend][]overlaynet.Backend{front("tcp", "0.0.0.0:80"): to4, front("tcp", "[::]:80"): to6}}
	nettest.Must(t, r.Apply(ctx, change))
	list := ruleset(t)
	if n := strings.Count(list, " . 80"); n < 2*tasks {
		t.Errorf("%d of %d backends", n, 2*tasks)
	}
	if repaired, err := r.Check(ctx); repaired || err != nil {
		t.Errorf("check: %v, %v", repaired, err)
	}
}
