package sim

import (
	"fmt"
	"testing"
	"time"
)

func TestScaleSmall(t *testing.T) {
	_, err := Scale(Size{200, 10_000}, func(m Measure) {
		fmt.Printf("%-40s decide %10v store %10v reports %10v virtual %8v decisions %d placed %d looks %d visited %d heap %dM sys %dM\n", m.What, m.Decide.Round(time.Microsecond), m.Store.Round(time.Microsecond), m.Reports.Round(time.Microsecond), m.Virtual, m.Decisions, m.Placed, m.Looks, m.Visited, m.Heap>>20, m.Sys>>20)
	})
	if err != nil {
		t.Fatal(err)
	}
}
