package state

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type item struct {
	key  string
	made int
}

// TestATreeIsAnOrderedMapWhoseCopiesStay compares a tree with a map over many
// edits, and looks at copies again after what came later.
func TestATreeIsAnOrderedMapWhoseCopiesStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := tree[string, item]{order: byString(func(i *item) string { return i.key })}
		want := map[string]int{}
		type copied struct {
			tree tree[string, item]
			want map[string]int
		}
		var copies []copied
		span := rapid.SampledFrom([]int{5, 300, 20_000}).Draw(t, "span")
		for e := range rapid.IntRange(1, 12).Draw(t, "edits") {
			copies = append(copies, copied{tr, maps.Clone(want)})
			edit := &edit{}
			kind := rapid.SampledFrom([]string{"put", "put in order", "remove", "mixed"}).Draw(t, "kind")
			seed := rapid.IntRange(0, 1<<20).Draw(t, "seed")
			for i := range rapid.IntRange(0, 600).Draw(t, "n") {
				n := (seed + i*7919) % span
				if kind == "put in order" {
					n = seed%span + i
				}
				k := fmt.Sprintf("key-%06d", n) // longer than a prefix
				if n%3 == 0 {
					k = fmt.Sprint(n)
				}
				_, have := want[k]
				if kind == "remove" || kind == "mixed" && i%2 == 0 {
					if old := tr.remove(edit, k); (old != nil) != have || have && old.made != want[k] {
						t.Fatalf("remove %s: %v, want %v", k, old, have)
					}
					delete(want, k)
					continue
				}
				if old := tr.put(edit, &item{k, e}); (old != nil) != have || have && old.made != want[k] {
					t.Fatalf("put %s: %v, want %v", k, old, have)
				}
				want[k] = e
			}
		}
		copies = append(copies, copied{tr, want})
		for _, c := range copies {
			compareTree(t, c.tree, c.want)
		}
	})
}

func compareTree(t *rapid.T, tr tree[string, item], want map[string]int) {
	keys := slices.Sorted(maps.Keys(want))
	var got []string
	for _, i := range tr.list() {
		got = append(got, i.key)
		if want[i.key] != i.made {
			t.Fatalf("%s is of edit %d, want %d", i.key, i.made, want[i.key])
		}
	}
	if !slices.Equal(got, keys) || tr.size != len(keys) {
		t.Fatalf("%d of size %d, want %d", len(got), tr.size, len(keys))
	}
	for i, k := range keys {
		if r := tr.get(k); r == nil || r.made != want[k] {
			t.Fatalf("get %s: %v", k, r)
		}
		if i%50 == 0 {
			n := 0
			tr.from(k, func(r *item) bool { n++; return r.key >= k })
			if n != len(keys)-i {
				t.Fatalf("%d from %s, want %d", n, k, len(keys)-i)
			}
		}
	}
	if tr.get("none") != nil {
		t.Fatal("found what is not there")
	}
}
