package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// line is one measured budget.
type line struct {
	what, dhow string
	peer       string // what the peer took and who it is; "" without one
	ratio      float64
	budget     string // "" when the line is there to explain another one
	met        string
}

// report collects lines.
type report struct{ lines []line }

// ratio compares two kinds of samples by their medians: dhow may take at most
// limit times the peer's time; a limit of 0 is no budget. An empty peer has
// not been measured.
func (r *report) ratio(what string, dhow samples, name string, peer samples, limit float64) {
	l := line{what: what, dhow: dhow.String(), budget: budgetOf(limit, name)}
	if limit > 0 {
		l.met = "not measured"
	}
	if len(peer) > 0 {
		l.peer = peer.String() + " " + name
		l.ratio = float64(dhow.median()) / float64(peer.median())
		if limit > 0 {
			l.met = verdict(l.ratio <= limit)
		}
	}
	r.lines = append(r.lines, l)
}

func budgetOf(limit float64, name string) string {
	switch {
	case limit == 0:
		return ""
	case limit < 1:
		return fmt.Sprintf("1/%g of %s", 1/limit, name)
	}
	return fmt.Sprintf("%.3gx %s", limit, name)
}

// share compares two kinds of samples of which more is better by their medians:
// dhow has to reach least of the peer's; a least of 0 is no budget.
func (r *report) share(what, unit string, dhow shares, name string, peer shares, least float64) {
	scale := 1.0
	if unit == "Gbit/s" {
		scale = 1e9
	}
	got := dhow.median() / peer.median()
	l := line{what: what, dhow: fmt.Sprintf("%.4g %s", dhow.median()/scale, unit), peer: fmt.Sprintf("%.4g %s", peer.median()/scale, name), ratio: got}
	if least > 0 {
		l.budget, l.met = fmt.Sprintf("at least %g of %s", least, name), verdict(got >= least)
	}
	r.lines = append(r.lines, l)
}

// atMost adds a line whose budget is a number.
func (r *report) atMost(what, unit string, got, limit float64) {
	r.lines = append(r.lines, line{
		what: what, dhow: fmt.Sprintf("%.1f %s", got, unit),
		budget: fmt.Sprintf("%g %s", limit, unit), met: verdict(got <= limit),
	})
}

// within adds a line of times that may take at most limit.
// The peer's times are only shown.
func (r *report) within(what string, got samples, limit time.Duration, name string, peer samples) {
	l := line{what: what, dhow: got.String(), budget: fmt.Sprintf("%g s", limit.Seconds()), met: verdict(got.median() <= limit)}
	if len(peer) > 0 {
		l.peer, l.ratio = peer.String()+" "+name, float64(got.median())/float64(peer.median())
	}
	r.lines = append(r.lines, l)
}

// note adds a line that has no budget.
func (r *report) note(what, dhow string) { r.lines = append(r.lines, line{what: what, dhow: dhow}) }

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

func (r *report) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tDHOW\tPEER\tRATIO\tBUDGET\t")
	for _, l := range r.lines {
		ratio := ""
		if l.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", l.ratio)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", l.what, l.dhow, l.peer, ratio, l.budget, l.met)
	}
	tw.Flush()
	fmt.Fprintln(w, "Times are medians, the fastest in brackets; ratios are of medians; a budget is the most that is allowed.")
}
