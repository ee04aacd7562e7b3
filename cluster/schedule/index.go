package schedule

import (
	"slices"
	"strings"
)

// index keeps the scores of all hosts for one kind of request: of one service,
// or shared by all that ask the same of a host without tasks of theirs.
type index struct {
	sig    string
	w      want   // what is tested; service nil: shared
	set    uint64 // of changes
	seen   uint64 // of changes
	used   uint64 // Cluster.clock
	scores minima // by position; without spread
	spread *spread
}

// maxScores bounds what all indexes of a kind keep together.
const maxScores = 2 << 20

// indexed finds the host that best would find among all that do not fail.
func (c *Cluster) indexed(w *want) *host {
	switch {
	case w.need.social:
		return c.best(w, c.hosts)
	case w.ownIndex(len(c.hosts)):
		return c.own(w).pick(w)
	}
	return c.free(w)
}

// ownIndex says whether an index of the service's own is needed, is there and
// nearly up to date, or would by now have cost less than the work done without.
func (w *want) ownIndex(hosts int) bool {
	sv := w.service
	if len(w.need.spread) > 0 || len(w.need.near) > 0 || len(sv.shunned) > 0 {
		return true
	}
	if x := sv.index; x != nil && x.set == w.c.changes.set && x.seen+fewChanges >= w.c.changes.now() {
		return true
	}
	if sv.debt <= hosts {
		return false
	}
	sv.debt = 0
	return true
}

// fewChanges cost less to follow than it takes to do without an index.
const fewChanges = 64

// free finds a host without tasks of the service in the shared index. Only when
// there is none, or some have only tasks that count no more, it looks at the others.
func (c *Cluster) free(w *want) *host {
	x := c.common(w)
	hidden := x.hide(func(h *host) bool { _, own := w.service.own[h]; return own || w.avoid[h] })
	at, score := x.scores.least()
	for _, s := range hidden {
		x.scores.set(s.pos, s.score)
	}
	w.service.debt += len(hidden)
	if score != never && w.service.idle == 0 && w.replaces == nil {
		return c.hosts[at]
	}
	none := score == never
	if none {
		at = len(c.hosts)
	}
	w.service.debt += len(w.service.own)
	for h, t := range w.service.own {
		if h.node == nil || w.avoid[h] || !none && t.live > 0 && h != w.replaces || w.test(h).test != passed {
			continue
		}
		if s := w.score(h, h == w.replaces); s < score || s == score && h.pos < at {
			at, score = h.pos, s
		}
	}
	if score == never {
		return nil
	}
	return c.hosts[at]
}

// scored is a score that was taken out of an index for a while.
type scored struct {
	pos   int
	score uint64
}

// hide takes out hosts until the first is none of those to leave out.
func (x *index) hide(out func(*host) bool) []scored {
	var hidden []scored
	for {
		i, score := x.scores.least()
		if score == never || !out(x.w.c.hosts[i]) {
			return hidden
		}
		hidden = append(hidden, scored{i, score})
		x.scores.set(i, never)
	}
}

// common returns the shared index for a request, up to date.
func (c *Cluster) common(w *want) *index {
	sig := w.signature()
	x := c.shared[sig]
	if x == nil {
		c.evict()
		x = &index{sig: sig}
		c.shared[sig] = x
	}
	x.follow(w, nil)
	return x
}

// own returns the index of the service, up to date.
func (c *Cluster) own(w *want) *index {
	x, sig := w.service.index, w.signature()
	if x == nil {
		c.evictOwn()
		c.owners = append(c.owners, w.service)
		x = &index{}
		w.service.index = x
	}
	if x.sig != sig || x.w.need != w.need && (x.w.need.limit != w.need.limit || !slices.Equal(x.w.need.spread, w.need.spread)) {
		x.set, x.sig = 0, sig
	}
	x.follow(w, w.service)
	return x
}

// signature is the need's, with what the request and the inventories add.
func (w *want) signature() string {
	sig := w.need.sig
	if len(w.platforms) > 0 {
		sig += "\x00" + strings.Join(w.platforms, ",")
	}
	if w.c.images[w.need.image] > 0 {
		sig += "\x01" + w.need.image
	}
	return sig
}

// follow brings the index up to date with the hosts that changed.
func (x *index) follow(w *want, sv *service) {
	c := w.c
	c.clock++
	x.used = c.clock
	x.w = want{c: c, need: w.need, service: sv, platforms: w.platforms, image: w.image}
	x.w.sum.cpu, x.w.sum.memory, x.w.sum.generic, x.w.sum.ports = w.need.cpu, w.need.memory, w.need.generic, w.need.ports
	switch changed, ok := c.changes.since(x.seen); {
	case x.set != c.changes.set:
		x.build()
	case !ok || len(changed) > len(c.hosts):
		for _, h := range c.hosts {
			x.update(h)
		}
	default:
		for _, pos := range changed {
			x.update(c.hosts[pos])
		}
	}
	x.set, x.seen = c.changes.set, c.changes.now()
}

// value is the score of a host, never if it does not fit.
func (x *index) value(h *host) uint64 {
	if x.w.test(h).test != passed {
		return never
	}
	return x.w.score(h, false)
}

func (x *index) build() {
	hosts := x.w.c.hosts
	if len(x.w.need.spread) > 0 && x.w.service != nil {
		x.spread = newSpread(x)
		return
	}
	x.spread = nil
	if x.scores.levels == nil || len(x.scores.scores()) != len(hosts) {
		x.scores = newMinima(len(hosts))
	}
	scores := x.scores.scores()
	for i, h := range hosts {
		scores[i] = x.value(h)
	}
	x.scores.settle()
}

func (x *index) update(h *host) {
	if x.spread == nil {
		x.scores.set(h.pos, x.value(h))
		return
	}
	x.spread.set(h.pos, x.value(h), x.live(h))
}

// live is how many tasks of the service a host has.
func (x *index) live(h *host) int { return int(x.w.service.own[h].live) }

// pick finds the first host, with what is special about the request.
func (x *index) pick(w *want) *host {
	var back []*host
	for h := range w.avoid {
		x.put(h, never, 0)
		back = append(back, h)
	}
	if h := w.replaces; h != nil && !w.avoid[h] {
		score := x.value(h)
		if score != never {
			score = w.score(h, true)
		}
		x.put(h, score, -1)
		back = append(back, h)
	} else if h != nil && x.spread != nil {
		x.put(h, never, -1)
	}
	pos, ok := x.first()
	for _, h := range back {
		x.update(h)
	}
	if !ok {
		return nil
	}
	return w.c.hosts[pos]
}

// put gives a host another score, and its branches so many tasks more, until the next update.
func (x *index) put(h *host, score uint64, more int) {
	if x.spread == nil {
		x.scores.set(h.pos, score)
		return
	}
	x.spread.set(h.pos, score, x.live(h)+more)
}

func (x *index) first() (int, bool) {
	if x.spread != nil {
		return x.spread.first()
	}
	pos, score := x.scores.least()
	return pos, score != never
}

// evict drops the shared index that was not used for the longest time when there are too many.
func (c *Cluster) evict() {
	if len(c.shared) < max(8, maxScores/(len(c.hosts)+1)) {
		return
	}
	var last *index
	for _, x := range c.shared {
		if last == nil || x.used < last.used {
			last = x
		}
	}
	delete(c.shared, last.sig)
}

// evictOwn does the same for the indexes of services.
func (c *Cluster) evictOwn() {
	c.owners = slices.DeleteFunc(c.owners, func(sv *service) bool { return sv.index == nil })
	if len(c.owners) < max(8, maxScores/(len(c.hosts)+1)) {
		return
	}
	last := slices.MinFunc(c.owners, func(a, b *service) int {
		if a.index.used < b.index.used {
			return -1
		}
		return 1
	})
	last.index, last.debt = nil, 0
}
