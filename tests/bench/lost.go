package bench

import (
	"fmt"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// crisis is a way to lose a machine, and to have it back.
type crisis struct {
	what       string
	lose, back func(h *netlab.Host)
}

// crises: a daemon that is killed says nothing, but the kernel of its machine
// answers for it; a machine that vanishes does not even do that.
func (g *grid) crises() []crisis {
	return []crisis{
		{"kill -9 of its daemon", (*netlab.Host).Kill, func(h *netlab.Host) { h.Start(quietly...) }},
		{"its machine vanishes", func(h *netlab.Host) { g.lab.Isolate(h) }, func(*netlab.Host) { g.lab.Heal() }},
	}
}

// tasks that are spread when a node is lost.
const tasks = 20

// lostNode is the time from the loss of a worker until all its tasks run elsewhere.
func (g *grid) lostNode(h *netlab.Host, c crisis) time.Duration {
	g.Helper()
	in := project(g.B, replicasOf("lost", tasks))
	g.must(g.hosts[0], in, "up", "-d")
	g.running(g.hosts, "lost", tasks)
	start := time.Now()
	c.lose(h)
	g.running(g.others(h), "lost", tasks)
	took := time.Since(start)
	c.back(h)
	g.leader() // all are ready again
	g.must(g.hosts[0], in, "down")
	g.running(g.hosts, "lost", 0)
	return took
}

// lostLeader is the time from the loss of the leader until a write through
// another manager, and through a worker, is accepted: of both, the later one.
func (g *grid) lostLeader(c crisis) time.Duration {
	g.Helper()
	h := g.leader()
	through := g.others(h)
	through = []*netlab.Host{through[0], through[len(through)-1]}
	node := g.hosts[managers].NodeID()
	took := make([]time.Duration, len(through))
	start := time.Now()
	c.lose(h)
	all([]int{0, 1}, func(i int) {
		took[i] = accepted(g.B, g.apis[through[i]], node, fmt.Sprint(i, start.UnixNano())).Sub(start)
	})
	g.Logf("lost leader %s, %s: manager %s, worker %s", h.Name, c.what, took[0].Round(time.Millisecond), took[1].Round(time.Millisecond))
	c.back(h)
	g.leader()
	return max(took[0], took[1])
}
