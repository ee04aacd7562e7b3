package engine

import (
	"os"
	"slices"
	"time"
)

const (
	// keptExecs is how many ended execs of one container are remembered for inspect.
	keptExecs = 32
	// pendingExecs is how many may wait for their start; as many may run at once.
	pendingExecs = 256
	// pendingLimit is how long one may wait for its start. Clients start at once.
	pendingLimit = 10 * time.Minute
)

// addExec makes x known and forgets old ones of its container.
func (e *Engine) addExec(c *container, x *execs) {
	e.mu.Lock()
	e.execs[x.id] = x
	e.mu.Unlock()
	c.mu.Lock()
	c.execs[x.id] = x
	drop := tooMany(c.execs, time.Now())
	c.mu.Unlock()
	e.forgetExecs(c, drop)
}

// tooMany are the execs to forget: those that waited too long for their start,
// and of those that have ended, or still wait, the oldest beyond a number.
func tooMany(all map[string]*execs, now time.Time) []string {
	var drop []string
	var ended, pending []*execs
	for id, x := range all {
		x.mu.Lock()
		started, over := x.started, x.code != nil
		x.mu.Unlock()
		switch {
		case over:
			ended = append(ended, x)
		case !started && now.Sub(x.created) > pendingLimit:
			drop = append(drop, id)
		case !started:
			pending = append(pending, x)
		}
	}
	drop = append(drop, oldest(ended, keptExecs)...)
	return append(drop, oldest(pending, pendingExecs)...)
}

// oldest are those beyond the youngest keep.
func oldest(list []*execs, keep int) []string {
	if len(list) <= keep {
		return nil
	}
	slices.SortFunc(list, func(a, b *execs) int { return a.created.Compare(b.created) })
	var out []string
	for _, x := range list[:len(list)-keep] {
		out = append(out, x.id)
	}
	return out
}

func (e *Engine) forgetExecs(c *container, ids []string) {
	c.mu.Lock()
	for _, id := range ids {
		delete(c.execs, id)
	}
	c.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		delete(e.execs, id)
		_ = os.Remove(e.store.execPath(c.id, id)) // one that stays is dropped later
	}
}

// dropPending forgets what waited for its start when the container ended.
func (e *Engine) dropPending(c *container) {
	var drop []string
	c.mu.Lock()
	for id, x := range c.execs {
		x.mu.Lock()
		if !x.started {
			drop = append(drop, id)
		}
		x.mu.Unlock()
	}
	c.mu.Unlock()
	e.forgetExecs(c, drop)
}
