package sim

import (
	"fmt"
	"os"
	"testing"
)

// TestThePriceIsThatOfTheChange compares what is looked at in a cluster and in
// one ten times as large. Tasks looked at are the price, without the noise of a clock.
func TestThePriceIsThatOfTheChange(t *testing.T) {
	found := map[int]map[string]Measure{}
	for _, nodes := range []int{20, 200} {
		all, err := Scale(Size{Nodes: nodes, Tasks: 50 * nodes, PerStack: 20}, nil)
		if err != nil {
			t.Fatalf("%d nodes: %v", nodes, err)
		}
		found[nodes] = map[string]Measure{}
		for _, m := range all {
			found[nodes][m.What] = m
		}
	}
	for what, atMost := range map[string]int{
		"one node lost":                    50 * 20 * 4, // its tasks, each in a stack of its own
		"replacements start and report":    50 * 20 * 20,
		"one service updated, rolling":     20 * 40,
		"leader change: first rounds":      -1,
		"node returns, its surplus goes":   50 * 20 * 8,
		"nothing to do":                    0,
		"leader change: snapshot restored": 0,
	} {
		small, large := found[20][what].Visited, found[200][what].Visited
		if atMost < 0 {
			if large != 10*small {
				t.Errorf("%s: %d tasks looked at, then %d: want each once", what, small, large)
			}
			continue
		}
		if large > atMost || large > 2*small {
			t.Errorf("%s: %d tasks looked at of 1,000 and %d of 10,000, at most %d", what, small, large, atMost)
		}
	}
	if lost := found[200]["one node lost"]; lost.Placed < 40 {
		t.Errorf("%d tasks were placed when a node was lost", lost.Placed)
	}
}

// BenchmarkScale prints the table of docs/performance.md. Memory is that of the
// process, so the smallest size comes first.
func BenchmarkScale(b *testing.B) {
	sizes := []Size{{1000, 100_000, 1000}, {10_000, 1_000_000, 1000}}
	for range b.N {
		var found [][]Measure
		for _, size := range sizes {
			f, err := Scale(size, func(m Measure) {
				b.Logf("%d nodes: %s: %s, of it storing %s; reports %s", size.Nodes, m.What, short(m.Total()), short(m.Store), short(m.Reports))
			})
			if err != nil {
				b.Fatal(err)
			}
			found = append(found, f)
		}
		fmt.Println()
		Table(os.Stdout, sizes, found)
		fmt.Println()
	}
}
