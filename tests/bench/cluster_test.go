package bench

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// show prints a table.
func (g *grid) show() {
	fmt.Println()
	g.print(os.Stdout)
	fmt.Println()
}

// BenchmarkLost loses workers and leaders of three managers and two workers,
// and of a Swarm of three managers and a worker.
func BenchmarkLost(b *testing.B) {
	b.StopTimer()
	for range b.N {
		g := newGrid(b, 2)
		for _, c := range g.crises() {
			i := 0
			s := inTurn(5, func() time.Duration { i++; return g.lostNode(g.hosts[managers+i%2], c) })[0]
			g.within("lost worker, "+c.what+": all its tasks run elsewhere", s, 4*time.Second)
		}
		for _, c := range g.crises() {
			s := inTurn(5, func() time.Duration { return g.lostLeader(c) })[0]
			g.within("lost leader, "+c.what+": the next write is accepted", s, 3*time.Second)
		}
		g.show()
	}
}

// BenchmarkIdle watches three managers and two workers that run twenty tasks
// and have nothing to do.
func BenchmarkIdle(b *testing.B) {
	b.StopTimer()
	for range b.N {
		g := newGrid(b, 2)
		in := project(b, replicasOf("idle", tasks))
		g.must(g.hosts[0], in, "up", "-d")
		g.running(g.hosts, "idle", tasks)
		time.Sleep(10 * time.Second) // idle is a state that takes a moment to reach
		g.idle(time.Minute)
		g.must(g.hosts[0], in, "down")
		g.show()
	}
}
