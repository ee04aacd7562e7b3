package state

import (
	"cmp"
	"slices"
	"strings"
)

// tree is an ordered set of records: a B+ tree whose nodes are shared between
// copies. Copying the struct copies the set, at no cost; who changes a copy
// copies the few nodes on the way, once per edit. The zero tree with an order is empty.
//
// Why not a radix tree as others have it: a million tasks in three indexes took
// 1.5 KB each beside the record, and six times as long to change.
type tree[K, T any] struct {
	*order[K, T]
	root *node[T]
	size int
}

// order is how records are found. Prefix sorts as compare does, and is kept in
// the nodes: most comparisons then need not touch the record.
type order[K, T any] struct {
	key     func(*T) K
	prefix  func(K) uint64
	compare func(K, *T) int // asked when prefixes are equal
}

// edit stands for one transaction; nodes that carry it belong to it alone.
type edit struct{ _ byte } // not of size zero: each has an address of its own

// node is a leaf, or has a kid for each item: the kid's records are not before
// the item, those of the kid before it are. What is before the first item is in
// the first kid.
type node[T any] struct {
	edit  *edit
	pre   []uint64 // prefixes of items
	items []*T
	kids  []*node[T]
}

const nodeMax = 32 // items: better than 64 for single commands, and no worse for large ones

func (n *node[T]) own(e *edit) *node[T] {
	if n.edit == e {
		return n
	}
	room := min(len(n.items)+8, nodeMax+1)
	c := &node[T]{edit: e, pre: append(make([]uint64, 0, room), n.pre...), items: append(make([]*T, 0, room), n.items...)}
	if n.kids != nil {
		c.kids = append(make([]*node[T], 0, room), n.kids...)
	}
	return c
}

func (n *node[T]) insert(i int, pre uint64, item *T, kid *node[T]) {
	n.pre, n.items = slices.Insert(n.pre, i, pre), slices.Insert(n.items, i, item)
	if kid != nil {
		n.kids = slices.Insert(n.kids, i, kid)
	}
}

func (n *node[T]) remove(i int) {
	n.pre, n.items = slices.Delete(n.pre, i, i+1), slices.Delete(n.items, i, i+1)
	if n.kids != nil {
		n.kids = slices.Delete(n.kids, i, i+1)
	}
}

// split moves what is from i on into a new node.
func (n *node[T]) split(i int) *node[T] {
	right := &node[T]{edit: n.edit, pre: slices.Clone(n.pre[i:]), items: slices.Clone(n.items[i:])}
	clear(n.items[i:])
	n.pre, n.items = n.pre[:i], n.items[:i]
	if n.kids != nil {
		right.kids = slices.Clone(n.kids[i:])
		clear(n.kids[i:])
		n.kids = n.kids[:i]
	}
	return right
}

// search returns the first item of n that is not before k, and whether it is k.
func (o *order[K, T]) search(n *node[T], p uint64, k K) (int, bool) {
	lo, hi := 0, len(n.pre)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		c := cmp.Compare(p, n.pre[mid])
		if c == 0 {
			c = o.compare(k, n.items[mid])
		}
		switch {
		case c == 0:
			return mid, true
		case c > 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// kid returns the index of the kid that k belongs to.
func (o *order[K, T]) kid(n *node[T], p uint64, k K) int {
	i, found := o.search(n, p, k)
	if !found && i > 0 {
		i--
	}
	return i
}

// get returns the record of a key, or nil.
func (t *tree[K, T]) get(k K) *T {
	n, p := t.root, t.prefix(k)
	for n != nil {
		if n.kids == nil {
			if i, found := t.search(n, p, k); found {
				return n.items[i]
			}
			return nil
		}
		n = n.kids[t.kid(n, p, k)]
	}
	return nil
}

// put stores a record in place of the one of the same key, which it returns.
func (t *tree[K, T]) put(e *edit, r *T) *T {
	k := t.key(r)
	p := t.prefix(k)
	if t.root == nil {
		t.root = &node[T]{edit: e}
	}
	t.root = t.root.own(e)
	old, right := t.putIn(t.root, e, p, k, r)
	if right != nil {
		t.root = &node[T]{
			edit: e, pre: []uint64{t.root.pre[0], right.pre[0]},
			items: []*T{t.root.items[0], right.items[0]}, kids: []*node[T]{t.root, right},
		}
	}
	if old == nil {
		t.size++
	}
	return old
}

// putIn returns the node that n was split from, if it was.
func (t *tree[K, T]) putIn(n *node[T], e *edit, p uint64, k K, r *T) (old *T, right *node[T]) {
	var at int // of what is new in n
	if n.kids == nil {
		i, found := t.search(n, p, k)
		if found {
			old, n.items[i] = n.items[i], r
			return old, nil
		}
		n.insert(i, p, r, nil)
		at = i
	} else {
		i := t.kid(n, p, k)
		n.kids[i] = n.kids[i].own(e)
		var more *node[T]
		if old, more = t.putIn(n.kids[i], e, p, k, r); more == nil {
			return old, nil
		}
		n.insert(i+1, more.pre[0], more.items[0], more)
		at = i + 1
	}
	if len(n.items) <= nodeMax {
		return old, nil
	}
	if at == len(n.items)-1 { // records that come in order leave full nodes behind
		return old, n.split(at)
	}
	return old, n.split(len(n.items) / 2)
}

// remove takes the record of a key out and returns it; nil when there is none.
func (t *tree[K, T]) remove(e *edit, k K) *T {
	if t.get(k) == nil {
		return nil
	}
	t.root = t.root.own(e)
	old := t.removeIn(t.root, e, t.prefix(k), k)
	for t.root != nil && t.root.kids != nil && len(t.root.kids) <= 1 {
		if len(t.root.kids) == 0 {
			t.root = nil
			break
		}
		t.root = t.root.kids[0]
	}
	t.size--
	return old
}

func (t *tree[K, T]) removeIn(n *node[T], e *edit, p uint64, k K) *T {
	if n.kids == nil {
		i, _ := t.search(n, p, k)
		old := n.items[i]
		n.remove(i)
		return old
	}
	i := t.kid(n, p, k)
	n.kids[i] = n.kids[i].own(e)
	old := t.removeIn(n.kids[i], e, p, k)
	switch left := len(n.kids[i].items); {
	case left == 0:
		n.remove(i)
	case left > nodeMax/4:
	case i > 0 && len(n.kids[i-1].items)+left <= nodeMax*3/4:
		n.merge(i-1, e)
	case i+1 < len(n.kids) && left+len(n.kids[i+1].items) <= nodeMax*3/4:
		n.merge(i, e)
	}
	return old
}

// merge appends the kid after i to kid i.
func (n *node[T]) merge(i int, e *edit) {
	a, b := n.kids[i].own(e), n.kids[i+1]
	if b.kids != nil { // what was before b's first item is in its first kid
		a.kids = append(a.kids, b.kids...)
	}
	a.pre, a.items = append(a.pre, b.pre...), append(a.items, b.items...)
	if b.kids != nil {
		first := len(a.items) - len(b.items)
		a.pre[first], a.items[first] = n.pre[i+1], n.items[i+1]
	}
	n.kids[i] = a
	n.remove(i + 1)
}

// from calls f for each record that is not before k, in order, until it returns false.
func (t *tree[K, T]) from(k K, f func(*T) bool) {
	if t.root != nil {
		t.walk(t.root, t.prefix(k), k, true, f)
	}
}

// all calls f for each record, in order, until it returns false.
func (t *tree[K, T]) all(f func(*T) bool) {
	var k K
	if t.root != nil {
		t.walk(t.root, 0, k, false, f)
	}
}

func (t *tree[K, T]) walk(n *node[T], p uint64, k K, seek bool, f func(*T) bool) bool {
	i := 0
	if n.kids == nil {
		if seek {
			i, _ = t.search(n, p, k)
		}
		for _, r := range n.items[i:] {
			if !f(r) {
				return false
			}
		}
		return true
	}
	if seek {
		i = t.kid(n, p, k)
	}
	for ; i < len(n.kids); i++ {
		if !t.walk(n.kids[i], p, k, seek, f) {
			return false
		}
		seek = false
	}
	return true
}

// list returns all records, in order.
func (t *tree[K, T]) list() []*T {
	if t.size == 0 {
		return nil
	}
	out := make([]*T, 0, t.size)
	t.all(func(r *T) bool { out = append(out, r); return true })
	return out
}

// pair is a key of two parts; the first one sorts first.
type pair struct{ a, b string }

func comparePair(x, y pair) int {
	if c := strings.Compare(x.a, y.a); c != 0 {
		return c
	}
	return strings.Compare(x.b, y.b)
}

// prefixOf sorts as the strings do, but for what is after eight bytes.
func prefixOf(s string) uint64 {
	var p uint64
	for i := range min(len(s), 8) {
		p |= uint64(s[i]) << (56 - 8*i)
	}
	return p
}

func byString[T any](key func(*T) string) *order[string, T] {
	return &order[string, T]{key, prefixOf, func(k string, r *T) int { return strings.Compare(k, key(r)) }}
}

func byPair[T any](key func(*T) pair) *order[pair, T] {
	return &order[pair, T]{key, func(k pair) uint64 { return prefixOf(k.a) }, func(k pair, r *T) int { return comparePair(k, key(r)) }}
}
