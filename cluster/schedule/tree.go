package schedule

import (
	"maps"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// tree counts the live tasks of a service in the branches of its spread.
type tree struct {
	live  int
	kids  map[string]*tree
	names []string // of kids, sorted; the place of a name in it breaks ties
}

// branches counts for the scan; nil without spread.
func (c *Cluster) branches(w *want) *tree {
	if len(w.need.spread) == 0 {
		return nil
	}
	root := &tree{}
	for _, h := range c.hosts {
		live := int(w.service.own[h].live)
		if w.replaces == h {
			live--
		}
		root.add(w.need.spread, h, live)
	}
	root.sort()
	return root
}

func (t *tree) add(keys []string, h *host, live int) {
	t.live += live
	if len(keys) == 0 {
		return
	}
	name, _ := stack.PlacementValue(keys[0], h.node)
	kid := t.kids[name]
	if kid == nil {
		kid = &tree{}
		if t.kids == nil {
			t.kids = map[string]*tree{}
		}
		t.kids[name] = kid
	}
	kid.add(keys[1:], h, live)
}

func (t *tree) sort() {
	t.names = slices.Sorted(maps.Keys(t.kids))
	for _, kid := range t.kids {
		kid.sort()
	}
}

// find is the innermost branch of h.
func (t *tree) find(keys []string, h *host) *tree {
	for _, key := range keys {
		name, _ := stack.PlacementValue(key, h.node)
		t = t.kids[name]
	}
	return t
}

// rank appends the tasks and the place of h's branch at each level.
func (t *tree) rank(r []uint64, keys []string, h *host) []uint64 {
	if len(keys) == 0 {
		return r
	}
	name, _ := stack.PlacementValue(keys[0], h.node)
	kid := t.kids[name]
	place, _ := slices.BinarySearch(t.names, name)
	return kid.rank(append(r, uint64(kid.live), uint64(place)), keys[1:], h)
}
