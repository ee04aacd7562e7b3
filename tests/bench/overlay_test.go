package bench

import (
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkOverlay measures what containers get of the network between them,
// on three managers and two workers.
func BenchmarkOverlay(b *testing.B) {
	b.StopTimer()
	if _, err := exec.LookPath("iperf3"); err != nil {
		b.Skip("NOT RUN: needs iperf3 (make deps)")
	}
	for range b.N {
		g := newGrid(b, 2)
		w := g.wire()
		g.throughput(w)
		for _, t := range []struct {
			where string
			target
		}{{"between nodes", w.far}, {"on one node", w.near}} {
			t.place.pin()
			ways := func(f func(addr string) time.Duration) turns {
				return byTurns(300, func() time.Duration { return f(t.direct + ":80") }, func() time.Duration { return f(t.virtual + ":80") })
			}
			g.turns("request "+t.where+", virtual address", ways(w.client.exchange), "direct", 1.05)
			g.turns("connection "+t.where+", virtual address", ways(w.client.setup), "direct", 1/0.9)
		}
		g.atMost("a name asked on the node, p99", "ms", g.names(w), 1)
		g.within("a task that ended is in no answer of any node, after it ended in the state", g.news(10), 200*time.Millisecond, "", nil)
		g.show()
	}
}

// throughput compares the ways from one container to another.
func (g *grid) throughput(w wiring) {
	g.Helper()
	pair, server := g.bare()
	theirs := place{g.B, w.client.ns} // without a Swarm nothing is shown of it
	far := w.far.direct
	rival := newRival(g.B, g.lab)
	if rival != nil {
		theirs, far = rival.wire()
	}
	tcp := sharesInTurn(7,
		func() float64 { return pair.throughput(server) },
		func() float64 { return w.client.throughput(w.far.direct) },
		func() float64 { return w.client.throughput(w.far.virtual) },
		func() float64 { return w.client.throughput(w.near.direct) },
		func() float64 { return w.client.throughput(w.near.virtual) },
		func() float64 { return theirs.throughput(far) },
	)
	g.share("TCP between nodes", "Gbit/s", tcp[1], "bare VXLAN", tcp[0], 0.95)
	if rival != nil {
		g.share("TCP between nodes", "Gbit/s", tcp[1], "Swarm", tcp[5], 0)
	}
	g.share("TCP between nodes, virtual address", "Gbit/s", tcp[2], "direct", tcp[1], 0.97)
	g.share("TCP on one node, virtual address", "Gbit/s", tcp[4], "direct", tcp[3], 0.97)
}

// names is the 99th percentile of the time of an answer in milliseconds, with
// four askers at once.
func (g *grid) names(w wiring) float64 {
	g.Helper()
	var mu sync.Mutex
	var all samples
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			got, err := w.client.ask(w.resolver, "far", 5000)
			mu.Lock()
			defer mu.Unlock()
			if all = append(all, got...); err != nil {
				g.Error(err)
			}
		})
	}
	group.Wait()
	slices.Sort(all)
	return float64(all[len(all)*99/100]) / float64(time.Millisecond)
}
