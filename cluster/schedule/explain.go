package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// refusal counts nodes by the test that they failed first.
type refusal struct {
	why   []string // in the order in which they were met
	count map[string]int
}

func (f *refusal) add(why string) {
	if f.count == nil {
		f.count = map[string]int{}
	}
	if f.count[why] == 0 {
		f.why = append(f.why, why)
	}
	f.count[why]++
}

// explain is "web.2: no node fits: 3 lack memory (want 512MiB), 1 drained".
func (f *refusal) explain(t *stack.Task) string {
	name := fmt.Sprintf("%s.%d", t.Service, t.Slot)
	if len(f.why) == 0 {
		return name + ": no node fits: there is none"
	}
	slices.SortStableFunc(f.why, func(a, b string) int {
		if c := cmp.Compare(f.count[b], f.count[a]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(f.why))
	for i, why := range f.why {
		if f.count[why] > 1 {
			why = strings.Replace(why, "lacks ", "lack ", 1)
		}
		parts[i] = fmt.Sprintf("%d %s", f.count[f.why[i]], why)
	}
	return name + ": no node fits: " + strings.Join(parts, ", ")
}
