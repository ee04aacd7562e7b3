package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// slowest is how many of the slowest tests are listed.
const slowest = 25

// took is how long a test ran, in seconds of the clock. Packages run side by
// side, so these do not add up to the whole.
type took struct {
	test    string
	seconds float64
}

type totals struct {
	passed, failed, skipped int
	output                  map[string][]string // test or package -> lines, dropped when it passes
	skips                   []string
	failures                []string
	took                    []took // of tests of the top level
}

func main() {
	args := append([]string{"test", "-json", "-timeout", "40m"}, os.Args[1:]...)
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	start := time.Now()
	t := totals{output: map[string][]string{}}
	t.read(out, os.Stdout)
	testErr := cmd.Wait()
	t.print(os.Stdout, time.Since(start))
	if testErr != nil || t.failed > 0 {
		os.Exit(1)
	}
}

func (t *totals) read(r io.Reader, w io.Writer) {
	in := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				t.add(e, w)
			} else {
				fmt.Fprint(w, string(line))
			}
		}
		if err != nil {
			return
		}
	}
}

func (t *totals) add(e event, w io.Writer) {
	key := e.Package + " " + e.Test
	if (e.Action == "pass" || e.Action == "fail") && e.Test != "" && !strings.Contains(e.Test, "/") {
		t.took = append(t.took, took{short(e.Package) + " " + e.Test, e.Elapsed})
	}
	switch e.Action {
	case "output", "build-output":
		if e.Action == "build-output" {
			key = e.ImportPath + " "
		}
		t.output[key] = append(t.output[key], e.Output)
	case "pass":
		delete(t.output, key)
		if e.Test != "" {
			t.passed++
		} else {
			fmt.Fprintf(w, "ok    %-60s %7.1fs\n", short(e.Package), e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			t.skipped++
			t.skips = append(t.skips, fmt.Sprintf("%s %s: %s", short(e.Package), e.Test, reason(t.output[key])))
		}
		delete(t.output, key)
	case "fail":
		if e.Test != "" {
			t.failed++
			t.failures = append(t.failures, fmt.Sprintf("%s %s:\n%s", short(e.Package), e.Test, messages(t.output[key])))
			fmt.Fprintf(w, "FAIL  %s %s (%.1fs)\n", short(e.Package), e.Test, e.Elapsed)
		} else {
			fmt.Fprintf(w, "FAIL  %s (%.1fs)\n", short(e.Package), e.Elapsed)
			if e.FailedBuild != "" {
				t.failed++
				t.flush(w, e.FailedBuild+" ")
			}
		}
		t.flush(w, key)
	}
}

func (t *totals) flush(w io.Writer, key string) {
	fmt.Fprint(w, strings.Join(t.output[key], ""))
	delete(t.output, key)
}

func (t *totals) print(w io.Writer, all time.Duration) {
	slices.SortStableFunc(t.took, func(a, b took) int { return cmp.Compare(b.seconds, a.seconds) })
	if len(t.took) > 1 {
		fmt.Fprintln(w, "\nslowest:")
	}
	for _, x := range t.took[:min(len(t.took), slowest)] {
		fmt.Fprintf(w, "  %7.1fs  %s\n", x.seconds, x.test)
	}
	if len(t.skips) > 0 {
		slices.Sort(t.skips)
		fmt.Fprintf(w, "\nskipped:\n  %s\n", strings.Join(t.skips, "\n  "))
	}
	if len(t.failures) > 0 { // once more, as their own output may be far above
		fmt.Fprintf(w, "\nfailed:\n  %s", strings.Join(t.failures, "  "))
	}
	fmt.Fprintf(w, "\ntests took %s\n%d passed, %d failed, %d skipped\n", all.Round(time.Second), t.passed, t.failed, t.skipped)
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/dhow-project/dhow/") }

// said is the beginning of what a test logs: where it stands.
var said = regexp.MustCompile(`^\w+\.go:\d+: `)

// reason is what the test said when it skipped: its last message, of which the
// first line has to do.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if s := strings.TrimSpace(line); said.MatchString(s) {
			return s
		}
	}
	return "no reason given"
}

// What is repeated at the end of what a failed test said.
const (
	lastMessages = 12
	messageLines = 6
	aLog         = 20 // lines: longer messages are logs, and left out
)

// messages are the last messages of a test, each with its first lines.
func messages(lines []string) string {
	var all [][]string
	for _, line := range lines {
		text := strings.TrimRight(line, "\n")
		switch {
		case said.MatchString(strings.TrimSpace(text)):
			all = append(all, []string{"    " + strings.TrimSpace(text) + "\n"})
		case len(all) > 0 && strings.HasPrefix(text, "    "):
			all[len(all)-1] = append(all[len(all)-1], "    "+text+"\n")
		}
	}
	all = slices.DeleteFunc(all, func(m []string) bool { return len(m) > aLog })
	var out strings.Builder
	for _, m := range all[max(0, len(all)-lastMessages):] {
		out.WriteString(strings.Join(m[:min(len(m), messageLines)], ""))
	}
	return out.String()
}
