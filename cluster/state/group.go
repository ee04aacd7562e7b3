package state

// groups is a set of records by what they have in common, each group a tree of
// its own: the records of one are found without those of the others. A group
// that has become empty is gone.
type groups[G, K, T any] struct {
	tree[G, group[G, K, T]]
	of    func(*T) (G, bool) // false: in no group
	inner *order[K, T]
}

type group[G, K, T any] struct {
	key  G
	edit *edit // as of a node
	tree tree[K, T]
}

// replace takes old out and puts r in; either may be nil.
func (g *groups[G, K, T]) replace(e *edit, old, r *T) {
	if old != nil {
		if key, ok := g.of(old); ok && (r == nil || !g.stays(key, old, r)) {
			c := g.own(e, key)
			if c.tree.remove(e, g.inner.key(old)); c.tree.size == 0 {
				g.remove(e, key)
			}
		}
	}
	if r != nil {
		if key, ok := g.of(r); ok {
			g.own(e, key).tree.put(e, r)
		}
	}
}

// stays reports whether r, put in, takes the place of old.
func (g *groups[G, K, T]) stays(key G, old, r *T) bool {
	probe := group[G, K, T]{}
	var ok bool
	probe.key, ok = g.of(r)
	return ok && g.compare(key, &probe) == 0 && g.inner.compare(g.inner.key(old), r) == 0
}

// own returns the group of a key, made when there is none, to be changed.
func (g *groups[G, K, T]) own(e *edit, key G) *group[G, K, T] {
	have := g.get(key)
	if have != nil && have.edit == e {
		return have
	}
	c := &group[G, K, T]{key: key, edit: e, tree: tree[K, T]{order: g.inner}}
	if have != nil {
		c.tree = have.tree
	}
	g.put(e, c)
	return c
}

// list returns the records of one group, in order.
func (g *groups[G, K, T]) list(key G) []*T {
	if have := g.get(key); have != nil {
		return have.tree.list()
	}
	return nil
}
