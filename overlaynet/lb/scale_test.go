package lb_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// many is a node with 1,000 services of 5 backends each in 20 networks, and 200
// published ports.
func many() overlaynet.Change {
	c := overlaynet.Change{Segments: map[string]*overlaynet.Segment{}, Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{},
		Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}, Locals: map[netip.Addr]bool{}}
	for n := range 20 {
		s := segment(fmt.Sprint("n", n), fmt.Sprintf("10.%d.0.1/16", n+1))
		s.Virtual = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 100+n))}
		c.Segments[s.ID] = s
	}
	for i := range 1000 {
		c.Virtuals[manyVirtual(i)] = manyPool(i, 5)
		for _, b := range c.Virtuals[manyVirtual(i)].Backends {
			c.Locals[b.Addr] = true
		}
		if i < 200 {
			c.Frontends[front("tcp", fmt.Sprintf("0.0.0.0:%d", 20000+i))] = backs(fmt.Sprintf("10.1.%d.2:80", i), fmt.Sprintf("10.1.%d.3:80", i))
		}
	}
	return c
}

func manyVirtual(i int) overlaynet.Virtual {
	n := i % 20
	return overlaynet.Virtual{Network: fmt.Sprint("n", n), Addr: netip.AddrFrom4([4]byte{10, byte(100 + n), byte(i / 250), byte(i%250 + 1)})}
}

func manyPool(i, backends int) *overlaynet.Pool {
	p := &overlaynet.Pool{}
	for b := range backends {
		p.Backends = append(p.Backends, overlaynet.Backend{Addr: netip.AddrFrom4([4]byte{10, byte(i%20 + 1), byte(i / 20), byte(b + 2)})})
	}
	return p
}

// A thousand services come in one transaction, one change among them costs
// little, and a flushed ruleset is written anew as a whole.
func TestThousandServices(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	start := time.Now()
	nettest.Must(t, r.Apply(ctx, many()))
	t.Logf("1,000 services from nothing: %s", time.Since(start))
	writes := r.Writes()
	start = time.Now()
	if repaired, err := r.Check(ctx); repaired || err != nil || r.Writes() != writes {
		t.Fatalf("check: %v, %v", repaired, err)
	}
	t.Logf("a look at them: %s", time.Since(start))
	whole := sorted(ruleset(t))
	nettest.Run(t, "nft", "flush", "ruleset")
	start = time.Now()
	if repaired, err := r.Check(ctx); !repaired || err != nil {
		t.Fatalf("after a flush: %v, %v", repaired, err)
	}
	t.Logf("after a flush: %s", time.Since(start))
	if sorted(ruleset(t)) != whole {
		t.Error("written anew, the table is another")
	}
	nettest.Run(t, "nft", "flush", "ruleset")
	one := map[overlaynet.Virtual]*overlaynet.Pool{manyVirtual(7): manyPool(7, 4)}
	nettest.Must(t, r.Apply(ctx, overlaynet.Change{Virtuals: one})) // whoever changes first finds out, and heals it
	if repaired, err := r.Check(ctx); repaired || err != nil {
		t.Fatalf("after a change: %v, %v", repaired, err)
	}
	gone := overlaynet.Change{Segments: map[string]*overlaynet.Segment{}, Frontends: map[overlaynet.Frontend][]overlaynet.Backend{}}
	for id := range many().Segments {
		gone.Segments[id] = nil
	}
	for f := range many().Frontends {
		gone.Frontends[f] = nil
	}
	start = time.Now()
	nettest.Must(t, r.Apply(ctx, gone))
	t.Logf("all gone: %s", time.Since(start))
	if got := ruleset(t); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

// The budgets: less than a second, and less than 5 ms.
func BenchmarkThousandServices(b *testing.B) {
	if !nettest.InHost(b) {
		return
	}
	ctx, all := context.Background(), many()
	for b.Loop() {
		r := lb.New(lb.Config{RunDir: dir})
		nettest.Must(b, r.Apply(ctx, all))
	}
}

func BenchmarkOneChangeAmongThousand(b *testing.B) { benchmarkOneChange(b, false) }

func BenchmarkOneStickyChangeAmongThousand(b *testing.B) { benchmarkOneChange(b, true) }

func benchmarkOneChange(b *testing.B, sticky bool) {
	if !nettest.InHost(b) {
		return
	}
	ctx := context.Background()
	r := lb.New(lb.Config{RunDir: dir})
	nettest.Must(b, r.Apply(ctx, many()))
	for i := 0; b.Loop(); i++ {
		p := manyPool(7, 4+i%2)
		p.Sticky = sticky
		nettest.Must(b, r.Apply(ctx, overlaynet.Change{Virtuals: map[overlaynet.Virtual]*overlaynet.Pool{manyVirtual(7): p}}))
	}
}
