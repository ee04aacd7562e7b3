package schedule

import (
	"cmp"
	"math"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// Place answers each request, in order, and counts what it places.
func (c *Cluster) Place(requests []Request) []Assignment {
	c.settle()
	c.sweep()
	out := make([]Assignment, len(requests))
	for i := range requests {
		out[i] = c.place(&requests[i])
		out[i].Index = i
	}
	return out
}

func (c *Cluster) place(r *Request) Assignment {
	w := c.want(r)
	if why, ok := c.refused(w); ok {
		return Assignment{Why: why}
	}
	h := c.choose(w)
	if h == nil {
		c.drop(w.service)
		return Assignment{Why: c.explain(w)}
	}
	a := Assignment{Node: h.id}
	for i := range w.volumes {
		if v := &w.volumes[i]; w.nodeOf(v) == "" {
			c.bound[v.Name] = h.id
			a.Binds = append(a.Binds, v.Name)
		}
	}
	t := *r.Task
	t.Node, t.Status.State = h.id, stack.TaskAssigned
	c.Add(&t, r.Service)
	return a
}

// want reads a request.
func (c *Cluster) want(r *Request) *want {
	n := c.need(r.Task, r.Service)
	w := &want{c: c, task: r.Task, need: n, service: c.service(n.service), platforms: n.platforms(r), pin: r.Task.Pin, home: r.Home, volumes: r.Volumes, mates: r.Mates}
	w.sum.cpu, w.sum.memory, w.sum.generic, w.sum.ports = n.cpu, n.memory, n.generic, n.ports
	for i := range r.Mates {
		w.mate(&r.Mates[i])
	}
	for i := range w.volumes {
		if v := &w.volumes[i]; v.Node != "" {
			delete(c.bound, v.Name) // stored by now
		}
	}
	w.image = c.images[n.image] > 0
	for id, failed := range r.Failures {
		if h := c.byID[id]; failed >= AvoidAfter && h != nil && h.node != nil {
			if w.avoid == nil {
				w.avoid = map[*host]bool{}
			}
			w.avoid[h] = true
		}
	}
	if h := c.byID[r.Replaces]; h != nil && h.node != nil && w.service.own[h].live > 0 {
		w.replaces = h
	}
	return w
}

// stays is the node of a mate, "" when it has none or will have to leave it.
func (c *Cluster) stays(m *Mate) string {
	h := c.byID[m.Task.Node]
	if h == nil || h.node == nil || h.node.Down || h.node.Availability == stack.Drain {
		return ""
	}
	return h.id
}

// mate adds what a mate that has no node yet will need beside the task.
func (w *want) mate(m *Mate) {
	if w.c.stays(m) != "" || m.Service == nil {
		return
	}
	n := w.c.need(m.Task, m.Service)
	w.needs = append(w.needs, n)
	w.volumes = slices.Concat(w.volumes, m.Volumes)
	w.sum.cpu += n.cpu
	w.sum.memory += n.memory
	w.sum.ports = slices.Concat(w.sum.ports, n.ports)
	w.sum.generic = slices.Clone(w.sum.generic)
	for _, g := range n.generic {
		i := slices.IndexFunc(w.sum.generic, func(o amount) bool { return o.kind == g.kind })
		if i < 0 {
			w.sum.generic = append(w.sum.generic, g)
			continue
		}
		w.sum.generic[i].n += g.n
	}
	slices.SortFunc(w.sum.generic, func(a, b amount) int { return cmp.Compare(a.kind, b.kind) })
}

// choose finds the best host that passes all tests; nil when none does.
func (c *Cluster) choose(w *want) *host {
	if only, ok := c.only(w); ok {
		return c.best(w, only)
	}
	if c.scan || !w.plain() {
		return c.best(w, c.hosts)
	}
	if h := c.indexed(w); h != nil || len(w.avoid) == 0 {
		return h
	}
	var failing []*host
	for h := range w.avoid {
		failing = append(failing, h)
	}
	return c.best(w, failing)
}

// only returns the few hosts that come into question when something names them.
func (c *Cluster) only(w *want) ([]*host, bool) {
	if ids, ok := w.ids(); ok {
		var hosts []*host
		for _, id := range ids {
			if h := c.byID[id]; h != nil && h.node != nil && !slices.Contains(hosts, h) {
				hosts = append(hosts, h)
			}
		}
		return hosts, true
	}
	for _, con := range w.need.filter.constraints {
		if con.Op != stack.Equal {
			continue
		}
		if con.Key == "node.hostname" {
			return c.named(con.Values[0]), true
		}
		if h := c.byID[con.Values[0]]; con.Key == "node.id" && h != nil && h.node != nil {
			return []*host{h}, true
		}
	}
	return nil, false
}

// ids are the nodes that the request itself names.
func (w *want) ids() ([]string, bool) {
	switch {
	case w.pin != "":
		return []string{w.pin}, true
	case w.home != "":
		return []string{w.home}, true
	}
	for i := range w.mates {
		if at := w.c.stays(&w.mates[i]); at != "" {
			return []string{at}, true
		}
	}
	for i := range w.volumes {
		v := &w.volumes[i]
		if at := w.nodeOf(v); at != "" {
			return []string{at}, true
		}
		if len(v.Nodes) > 0 {
			return v.Nodes, true
		}
	}
	return nil, false
}

// best looks at each of the hosts, in any order. It is what all other ways to
// find a host have to agree with.
func (c *Cluster) best(w *want, hosts []*host) *host {
	var best *host
	var rank []uint64
	branches := c.branches(w)
	for _, h := range hosts {
		if w.test(h).test != passed {
			continue
		}
		if r := w.rank(h, branches); best == nil || slices.Compare(r, rank) < 0 {
			best, rank = h, r
		}
	}
	return best
}

// rank orders hosts that fit, the lesser first: those where the service does not
// fail, in the least used branch of the spread at each level, with the fewest
// tasks of the service, the fewest tasks, the image, the least ID.
func (w *want) rank(h *host, branches *tree) []uint64 {
	r := make([]uint64, 0, 8)
	if w.avoid[h] {
		r = append(r, 1)
	} else {
		r = append(r, 0)
	}
	if branches != nil {
		r = branches.rank(r, w.need.spread, h)
	}
	return append(r, w.score(h, w.replaces == h), uint64(h.pos))
}

// score packs tasks of the service, tasks, and lack of the image.
func (w *want) score(h *host, replaced bool) uint64 {
	var own, all, without uint64
	if w.service != nil {
		own = uint64(w.service.own[h].live)
	}
	all = uint64(h.tasks)
	if replaced {
		own, all = own-1, all-1
	}
	if w.image && !h.images[w.need.image] {
		without = 1
	}
	return min(own, 1<<24-1)<<32 | min(all, 1<<31-1)<<1 | without
}

// never is the score of a host that does not fit.
const never = math.MaxUint64
