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
		var node, leader [2]samples
		for i, c := range g.crises() {
			k := 0
			node[i] = inTurn(5, func() time.Duration { k++; return g.lostNode(g.hosts[managers+k%2], c) })[0]
			leader[i] = inTurn(5, func() time.Duration { return g.lostLeader(c) })[0]
		}
		var theirNode, theirLeader [2]samples
		if r := newRival(b, g.lab); r != nil {
			for i := range r.crises() {
				theirNode[i] = inTurn(1, func() time.Duration { return r.lostNode(i) })[0]
				theirLeader[i] = inTurn(2, func() time.Duration { return r.lostLeader(i) })[0]
			}
		}
		for i, c := range g.crises() {
			g.within("lost worker, "+c.what+": its tasks run elsewhere", node[i], 4*time.Second, "Swarm", theirNode[i])
		}
		for i, c := range g.crises() {
			g.within("lost leader, "+c.what+": the next write is accepted", leader[i], 3*time.Second, "Swarm", theirLeader[i])
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

// BenchmarkSpread brings up stacks over three managers and two workers, through
// a worker.
func BenchmarkSpread(b *testing.B) {
	b.StopTimer()
	for range b.N {
		g := newGrid(b, 2)
		worker := g.hosts[len(g.hosts)-1]
		for _, kind := range []struct{ what, text string }{
			{"networks of the host", replicasOf("sixty", 60)},
			{"a network of the stack", sixty},
		} {
			in := project(b, kind.text)
			took := inTurn(3, func() time.Duration {
				d := timed(func() {
					g.must(worker, in, "up", "-d")
					g.running(g.hosts, "sixty", 60)
				})
				g.must(worker, in, "down")
				g.running(g.hosts, "sixty", 0)
				return d
			})[0]
			g.note("60 replicas over 5 nodes, "+kind.what+": command to all running", took.String())
		}
		in := project(b, services("fifty", 50))
		g.must(worker, in, "up", "-d")
		g.running(g.hosts, "fifty", 50)
		took := inTurn(11, func() time.Duration { return timed(func() { g.must(worker, in, "up", "-d") }) })[0]
		g.within("up with nothing to change, 50 services on 5 nodes, through a worker", took, 200*time.Millisecond, "", nil)
		g.must(worker, in, "down")
		g.show()
	}
}

// BenchmarkRequests counts what is lost while tasks are replaced.
func BenchmarkRequests(b *testing.B) {
	b.StopTimer()
	for range b.N {
		s := newShop(b)
		var r report
		for _, c := range []struct {
			what string
			do   func()
		}{
			{"rolling update, twice", func() { s.update(); s.update() }},
			{"drain, twice", func() { s.drain(); s.drain() }},
			{"leader killed, twice", func() { s.deposed(); s.deposed() }},
		} {
			sent, lost := s.while(c.do)
			r.atMost(fmt.Sprintf("requests lost, %s (of %d)", c.what, sent), "lost", float64(len(lost)), 0)
			for _, l := range lost[:min(len(lost), 5)] {
				b.Log(c.what, "lost:", l)
			}
		}
		fmt.Println()
		r.print(os.Stdout)
		fmt.Println()
	}
}
