package sim

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Table prints what was measured for several sizes side by side.
func Table(w io.Writer, sizes []Size, found [][]Measure) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "nodes / tasks\t")
	for _, s := range sizes {
		fmt.Fprintf(tw, "%d / %d\t\t\t\t", s.Nodes, s.Tasks)
	}
	fmt.Fprint(tw, "\n\t")
	for range sizes {
		fmt.Fprint(tw, "leader\tof it storing\tdecisions\ttasks looked at\t")
	}
	fmt.Fprintln(tw)
	for i := range found[0] {
		fmt.Fprintf(tw, "%s\t", found[0][i].What)
		for _, f := range found {
			m := f[i]
			fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t", short(m.Total()), short(m.Store), m.Decisions, m.Visited)
		}
		fmt.Fprintln(tw)
	}
	for _, line := range []struct {
		what string
		of   func([]Measure) string
	}{
		{"placements/s, with storing them", func(f []Measure) string {
			return fmt.Sprintf("%.0f", float64(f[0].Placed)/f[0].Total().Seconds())
		}},
		{"placements/s, deciding only", func(f []Measure) string {
			return fmt.Sprintf("%.0f", float64(f[0].Placed)/f[0].Decide.Seconds())
		}},
		{"peak memory of all, MB", func(f []Measure) string { return fmt.Sprint(peak(f) >> 20) }},
	} {
		fmt.Fprintf(tw, "%s\t", line.what)
		for _, f := range found {
			fmt.Fprintf(tw, "%s\t\t\t\t", line.of(f))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// peak is the most that the process had of the machine: state, leader, agents and the simulation.
func peak(f []Measure) (most uint64) {
	for _, m := range f {
		most = max(most, m.Sys)
	}
	return most
}
