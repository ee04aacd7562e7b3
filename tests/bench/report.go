package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// line is one measured budget.
type line struct {
	what, budget string
	dhow, peer   string
	peerName     string
	ratio        float64 // dhow / peer; 0: no peer
	met          string  // "yes", "no", "not measured"
}

// report collects lines.
type report struct{ lines []line }

func (r *report) add(l line) { r.lines = append(r.lines, l) }

// ratio adds a line whose budget is a ratio of two times; dhow may be at most limit times the peer.
func (r *report) ratio(what, budget, peerName string, dhow, peer time.Duration, limit float64) {
	l := line{what: what, budget: budget, dhow: ms(dhow), peerName: peerName, met: "not measured", peer: "-"}
	if peer > 0 {
		l.peer = ms(peer)
		l.ratio = float64(dhow) / float64(peer)
		l.met = yesNo(l.ratio <= limit)
	}
	r.add(l)
}

// atMost adds a line whose budget is a number.
func (r *report) atMost(what, unit string, got, limit float64) {
	r.add(line{what: what, budget: fmt.Sprintf("at most %g %s", limit, unit), dhow: fmt.Sprintf("%.1f %s", got, unit), met: yesNo(got <= limit)})
}

func yesNo(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}

func (r *report) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tDHOW\tPEER\tRATIO\tBUDGET\tMET")
	for _, l := range r.lines {
		ratio, peer := "", ""
		if l.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", l.ratio)
		}
		if l.peerName != "" {
			peer = l.peer + " (" + l.peerName + ")"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", l.what, l.dhow, peer, ratio, l.budget, l.met)
	}
	tw.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }

// median of n runs of f, which returns what it measured itself.
func median(n int, f func() time.Duration) time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = f()
	}
	slices.Sort(all)
	return all[n/2]
}

// timed runs f once.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
