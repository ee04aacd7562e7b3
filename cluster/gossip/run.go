package gossip

import (
	"context"
	"slices"
	"time"
)

// again is how long a node waits before it calls others once more.
const again = time.Second

// Run calls others again while this node is alone, or while they think that it
// is at another address, until ctx ends.
func (g *Gossip) Run(ctx context.Context) error {
	for {
		changed := g.Changed()
		var retry <-chan time.Time
		if g.alone() {
			retry = time.After(jitter(again))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-retry:
			g.call()
		case <-g.rejoin:
			// They believe it once they have found the old address dead.
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(jitter(again / 4)):
				g.call()
			}
		}
	}
}

// alone says that others are known and none of them is alive.
func (g *Gossip) alone() bool {
	members := g.Members()
	if slices.ContainsFunc(members, func(m Member) bool { return m.Alive && m.Node != g.cfg.Node }) {
		return false
	}
	return len(g.addresses(members)) > 0
}

// call tells the others of this node. Nobody there is no error: Run comes again.
func (g *Gossip) call() {
	addrs := g.addresses(g.Members())
	if n, err := g.list.Join(addrs); n == 0 && err != nil {
		g.log.Debug("nobody answers", "addresses", addrs, "error", err)
	}
}

// addresses are those to call: of nodes that live, or else all that are known.
func (g *Gossip) addresses(members []Member) []string {
	var live, all []string
	for _, m := range members {
		if m.Node == g.cfg.Node || m.Left {
			continue
		}
		all = append(all, m.Gossip)
		if m.Alive {
			live = append(live, m.Gossip)
		}
	}
	if len(live) > 0 {
		return live
	}
	g.mu.Lock()
	all = append(all, g.known...)
	g.mu.Unlock()
	slices.Sort(all)
	return g.others(slices.Compact(all))
}
