package dispatch

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// board is what all nodes know of the cluster, as items that are encoded once
// for all sessions. Each change gets a number, so that a session that has seen
// number n is told what came after n, at a cost of what that is.
type board struct {
	items   map[string]posted
	number  uint64
	log     []entry // by number
	logBase uint64  // entries up to this one are forgotten
	nodes   int
}

type posted struct {
	notice
	item   item
	number uint64
}

// entry says that an item changed or went.
type entry struct {
	number uint64
	key    string
}

// boardLog is how many changes are remembered at least; who has missed more gets all.
const boardLog = 8 << 10

// buckets is in how many parts a board is compared with what a node kept of an
// older one: only parts that differ are sent.
const buckets = 256

func newBoard() *board { return &board{items: map[string]posted{}} }

// post takes in a view and reports whether anything changed. What is as it was
// is not encoded again.
func (b *board) post(v View) (bool, error) {
	b.nodes = len(v.Nodes)
	return b.put(items(v), nil)
}

// put takes in items and reports whether anything changed. What keys name and
// the list has not is gone; without keys, all that the list has not.
func (b *board) put(list []item, keys []string) (bool, error) {
	before := b.number
	seen := make(map[string]bool, len(list))
	for _, it := range list {
		seen[it.key] = true
		old, ok := b.items[it.key]
		if ok && it.same(old.item) {
			continue
		}
		n, err := it.notice()
		if err != nil {
			return false, err
		}
		if ok && old.Sum == n.Sum {
			continue
		}
		b.number++
		it.record = nil // one of many in a list that would stay with it
		b.items[it.key] = posted{n, it, b.number}
		b.log = append(b.log, entry{b.number, it.key})
	}
	if keys == nil {
		keys = slices.Collect(maps.Keys(b.items))
	}
	for _, key := range keys {
		if _, has := b.items[key]; has && !seen[key] {
			delete(b.items, key)
			b.number++
			b.log = append(b.log, entry{b.number, key})
		}
	}
	if n := len(b.log) - boardLog; n > boardLog {
		b.logBase = b.log[n-1].number
		b.log = append([]entry(nil), b.log[n:]...)
	}
	return b.number != before, nil
}

// item is a part of a view or of a directory; one of the values is set.
type item struct {
	key    string
	node   Node
	net    *stack.Network
	rest   *View
	record any // of a directory
}

// items takes a view apart.
func items(v View) []item {
	out := make([]item, 0, len(v.Nodes)+len(v.Networks)+1)
	for _, n := range v.Nodes {
		out = append(out, item{key: "node/" + n.ID, node: n})
	}
	for i := range v.Networks {
		out = append(out, item{key: "network/" + v.Networks[i].Name, net: &v.Networks[i]})
	}
	v.Nodes, v.Networks = nil, nil
	return append(out, item{key: "cluster", rest: &v})
}

// same is true only if the items are equal.
func (a item) same(b item) bool {
	if a.net != nil || a.rest != nil || a.record != nil {
		return false // few, or few of many; their sums are compared
	}
	return a.key == b.key && reflect.DeepEqual(a.node, b.node)
}

func (a item) notice() (notice, error) {
	var v any = a.node
	switch {
	case a.net != nil:
		v = a.net
	case a.rest != nil:
		v = a.rest
	case a.record != nil:
		v = a.record
	}
	data, err := json.Marshal(v)
	if err != nil {
		return notice{}, fmt.Errorf("encode %s: %w", a.key, err)
	}
	return notice{a.key, sum(data), data}, nil
}

// copied is the item as a node keeps it, without the sum that only a leader gives.
func (a item) copied() copied {
	c := copied{net: a.net, rest: a.rest}
	if c.net == nil && c.rest == nil {
		c.node = &a.node
	}
	return c
}

// notices are all items of a view.
func notices(v View) ([]notice, error) {
	var out []notice
	for _, it := range items(v) {
		n, err := it.notice()
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// since returns what a session that has seen number lacks, or all in so many
// buckets; nil: nothing.
func (b *board) since(number uint64, of int) *news {
	if number == b.number {
		return nil
	}
	if number < b.logBase || number > b.number {
		return b.all(nil, of)
	}
	out := &news{}
	told := map[string]bool{}
	i, _ := slices.BinarySearchFunc(b.log, number+1, func(e entry, n uint64) int { return int(min(max(int64(e.number)-int64(n), -1), 1)) })
	for _, e := range b.log[i:] {
		if told[e.key] {
			continue
		}
		told[e.key] = true
		if p, ok := b.items[e.key]; ok {
			out.Items = append(out.Items, p.notice)
		} else {
			out.Gone = append(out.Gone, e.key)
		}
	}
	return out
}

// all returns what a node lacks whose so many buckets have these sums; nil: nothing.
func (b *board) all(sums []uint64, of int) *news {
	mine := make([]uint64, of)
	for key, p := range b.items {
		mine[bucketOf(key, of)] ^= mix(key, p.Sum)
	}
	out := &news{}
	differs := make([]bool, of)
	for i := range mine {
		if len(sums) != of || sums[i] != mine[i] {
			differs[i] = true
			out.Clear = append(out.Clear, i)
		}
	}
	if len(out.Clear) == 0 {
		return nil
	}
	for key, p := range b.items {
		if differs[bucketOf(key, of)] {
			out.Items = append(out.Items, p.notice)
		}
	}
	slices.SortFunc(out.Items, func(x, y notice) int { return strings.Compare(x.Key, y.Key) })
	return out
}

func bucketOf(key string, of int) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % uint32(of))
}

// mix makes one item's part of its bucket's sum.
func mix(key string, sum uint64) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	x := h.Sum64() ^ (sum * 0x9e3779b97f4a7c15)
	x ^= x >> 32
	return x * 0xd6e8feb86659fd93
}

// copyBoard is a node's copy of the board. It is not safe for use by several goroutines.
type copyBoard struct {
	items map[string]copied
	stale bool // nothing of it is to be kept
}

type copied struct {
	sum  uint64
	node *Node
	net  *stack.Network
	rest *View
}

func newCopyBoard() *copyBoard { return &copyBoard{items: map[string]copied{}} }

// sums are those of the buckets, for the next session.
func (c *copyBoard) sums() []uint64 {
	if c.stale {
		return nil
	}
	out := make([]uint64, buckets)
	for key, it := range c.items {
		out[bucketOf(key, buckets)] ^= mix(key, it.sum)
	}
	return out
}

// decode checks news without taking it in.
func (n *news) decode() (map[string]copied, error) {
	for _, i := range n.Clear {
		if i < 0 || i >= buckets {
			return nil, fmt.Errorf("bucket %d", i)
		}
	}
	out := make(map[string]copied, len(n.Items))
	for _, it := range n.Items {
		c := copied{sum: it.Sum}
		var err error
		switch kind, name, _ := strings.Cut(it.Key, "/"); {
		case kind == "node" && name != "":
			if err = json.Unmarshal(it.Data, &c.node); err == nil && (c.node == nil || c.node.ID != name) {
				err = fmt.Errorf("it is another node's")
			}
		case kind == "network" && name != "":
			if err = json.Unmarshal(it.Data, &c.net); err == nil && (c.net == nil || c.net.Name != name) {
				err = fmt.Errorf("it is another network's")
			}
		case it.Key == "cluster":
			if err = json.Unmarshal(it.Data, &c.rest); err == nil && c.rest == nil {
				err = fmt.Errorf("it is empty")
			}
		default: // of a newer leader: kept for the sums only
		}
		if err != nil {
			return nil, fmt.Errorf("item %q: %w", it.Key, err)
		}
		out[it.Key] = c
	}
	return out, nil
}

// take takes in news that decode has checked.
func (c *copyBoard) take(n *news, items map[string]copied) {
	c.stale = c.stale && len(n.Clear) < buckets
	if len(n.Clear) > 0 {
		var empty [buckets]bool
		for _, i := range n.Clear {
			empty[i] = true
		}
		for key := range c.items {
			if empty[bucketOf(key, buckets)] {
				delete(c.items, key)
			}
		}
	}
	for _, key := range n.Gone {
		delete(c.items, key)
	}
	for key, it := range items {
		c.items[key] = it
	}
}

// view puts the items together.
func (c *copyBoard) view() View {
	var v View
	if it := c.items["cluster"]; it.rest != nil {
		v = *it.rest
	}
	v.Nodes, v.Networks = nil, nil
	for _, it := range c.items {
		switch {
		case it.node != nil:
			v.Nodes = append(v.Nodes, *it.node)
		case it.net != nil:
			v.Networks = append(v.Networks, *it.net)
		}
	}
	slices.SortFunc(v.Nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(v.Networks, func(a, b stack.Network) int { return strings.Compare(a.Name, b.Name) })
	return v
}
