package gossip

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// again is how long a node waits before it calls others once more.
const again = time.Second

// Run calls others until ctx ends: all that are known while this node is alone,
// and the dead now and then, so that halves of a cluster that took each other
// for dead, and nodes that came back somewhere else, are found; and those that
// know something else than this node, as one of the two has missed news.
func (g *Gossip) Run(ctx context.Context) error {
	retry := time.NewTimer(jitter(again))
	defer retry.Stop()
	for {
		changed := g.Changed()
		if _, moved := g.tell.lost(); len(moved) > 0 {
			g.call(moved)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case addr := <-g.differ:
			g.call([]string{addr})
		case <-g.told:
			if members := g.Members(); g.living(members) == 0 {
				g.call(g.addresses(members))
			}
		case <-retry.C:
			retry.Reset(jitter(g.retry()))
		}
	}
}

// retry calls whom there is to call, and returns when to do so again: all nodes
// together try the dead about as often, however many they are.
func (g *Gossip) retry() time.Duration {
	members := g.Members()
	live := g.living(members)
	if live == 0 {
		g.call(g.addresses(members))
		return again
	}
	if all, _ := g.tell.lost(); len(all) > 0 {
		g.call([]string{all[rand.IntN(len(all))]})
	}
	return again * time.Duration(1+live/5)
}

// living counts the others.
func (g *Gossip) living(members []Member) (n int) {
	for _, m := range members {
		if m.Alive && m.Node != g.cfg.Node {
			n++
		}
	}
	return n
}

// call exchanges all that is known with those at addrs. Nobody there is no error: Run comes again.
func (g *Gossip) call(addrs []string) {
	if addrs = g.others(addrs); len(addrs) == 0 {
		return
	}
	if n, err := g.list.Join(addrs); n == 0 && err != nil {
		g.log.Debug("nobody answers", "addresses", addrs, "error", err)
	}
}

// addresses are all that are known of others.
func (g *Gossip) addresses(members []Member) []string {
	g.mu.Lock()
	all := slices.Clone(g.known)
	g.mu.Unlock()
	for _, m := range members {
		if m.Node != g.cfg.Node && !m.Left {
			all = append(all, m.Gossip)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
