package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"math"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// TestAReportOfNothingsCostsLittle: a message within the bound must not become
// a hundred times as large in memory before it is refused.
func TestAReportOfNothingsCostsLittle(t *testing.T) {
	data := append([]byte(`{"report":{"seq":1,"reports":[{}`), bytes.Repeat([]byte(",{}"), (maxMessage-100)/3)...)
	data = append(data, "]}}"...)
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	var m fromClient
	err := codec{}.Unmarshal(data, &m)
	goruntime.ReadMemStats(&after)
	if err == nil && m.check(false) == nil {
		t.Errorf("%d statuses are taken", len(m.Report.Reports))
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("it took %d MiB to refuse %d MiB", grown>>20, len(data)>>20)
	}
}

// TestOneTaskIsReportedOnce: the last word counts, and only it is stored.
func TestOneTaskIsReportedOnce(t *testing.T) {
	r := report{Seq: 1}
	for i := range 4000 {
		r.Reports = append(r.Reports, stack.TaskReport{Task: fmt.Sprint("t", i%2), Status: stack.TaskStatus{Message: fmt.Sprint(i)}})
	}
	list, bad := r.usable()
	if bad != nil || len(list) != 2 || list[0].Status.Message != "3998" || list[1].Status.Message != "3999" {
		t.Errorf("%d statuses, %+v, %v", len(list), list[:min(len(list), 2)], bad)
	}
}

// TestStatusesThatCannotBe: what would not be the same after it was stored, or
// could not be stored at all.
func TestStatusesThatCannotBe(t *testing.T) {
	for what, s := range map[string]stack.TaskStatus{
		"a year of five digits": {Time: time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -23*3600))},
		"a year before zero":    {Time: time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 23*3600))},
		"a counter at its end":  {Restarts: math.MaxUint64},
		"negative restarts":     {RestartCount: -1},
		"endless restarts":      {RestartCount: math.MaxInt64},
		"an exit code":          {ExitCode: 1 << 40},
		"a health of its own":   {Health: strings.Repeat("h", 100)},
	} {
		if checkStatus(s) == nil {
			t.Errorf("%s is taken", what)
		}
	}
	for _, s := range []stack.TaskStatus{{}, {Time: time.Now(), State: stack.TaskFailed, ExitCode: 137, RestartCount: 12, Restarts: 3, Health: "unhealthy"}, {ExitCode: -1}} {
		if err := checkStatus(s); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestHeartbeatsDoNotPileUp while the leadership cannot be verified.
func TestHeartbeatsDoNotPileUp(t *testing.T) {
	w := newWorld(t, "m1")
	w.lead("m1", newCore())
	w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	s := w.hosts["m1"].server
	s.mu.Lock()
	r := s.reign
	s.mu.Unlock()
	r.mu.Lock()
	x := r.nodes["n1"].session
	r.mu.Unlock()
	late := newReign(s, newCore()) // nobody acknowledges here
	for i := range 10_000 {
		late.heard(x, uint64(i))
	}
	late.mu.Lock()
	n := len(late.due)
	late.mu.Unlock()
	if n != 1 {
		t.Errorf("%d heartbeats of one node are kept", n)
	}
}

// TestWhoDoesNotReadIsSentAway: answers do not pile up for a node that reports
// without end and takes no answer.
func TestWhoDoesNotReadIsSentAway(t *testing.T) {
	s := &session{work: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	taken := 0
	for range 1000 {
		r := &report{}
		if !s.store(r, nil) {
			break
		}
		taken++
		s.answer(r, nil)
	}
	if taken != 1 {
		t.Errorf("%d reports are taken while the first one's answer was not sent", taken)
	}
}

// TestASilentCallEnds: who opens sessions and says nothing does not keep them,
// and cannot have any number of them.
func TestASilentCallEnds(t *testing.T) {
	w := newWorld(t, "m1")
	w.hosts["m1"].server.greet = 300 * time.Millisecond
	w.lead("m1", newCore())
	refused, ended := 0, make(chan error, 3*maxCalls)
	for range 3 * maxCalls {
		x, err := open(t.Context(), "m1", w.dial("n1"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.close)
		go func() {
			_, err := x.receive()
			ended <- err
		}()
	}
	for range 3 * maxCalls {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("an answer to nothing")
			} else if strings.Contains(err.Error(), "too many calls") {
				refused++
			}
		case <-time.After(patience):
			t.Fatal("a call that says nothing does not end")
		}
	}
	if refused != 2*maxCalls {
		t.Errorf("%d of %d calls at a time are refused", refused, 3*maxCalls)
	}
	w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol}) // and there is room again
}

// TestDescriptionsAreStoredNowAndThen: each could be a command, and those that
// are refused are not tried again.
func TestDescriptionsAreStoredNowAndThen(t *testing.T) {
	w := newWorld(t, "m1")
	core := newCore()
	calls := make(chan string, 10_000)
	core.hello = func(_ context.Context, _ string, d Description) error {
		calls <- d.Node.Hostname
		return fmt.Errorf("host name: %w", ErrRefused)
	}
	w.lead("m1", core)
	r := w.raw(t.Context(), "n1", "m1", &hello{Protocol: protocol})
	for i := range 1000 {
		r.say(&fromClient{Describe: &Description{Node: stack.Node{Hostname: fmt.Sprint("h", i)}}})
	}
	last := ""
	eventually(t, "the last description is stored", func() bool {
		select {
		case last = <-calls:
		default:
		}
		return last == "h999"
	})
	if n := len(calls); n > 3 {
		t.Errorf("%d more", n)
	}
	time.Sleep(2 * again) // that none comes is seen by waiting only
	if n := len(calls); n > 0 {
		t.Errorf("what was refused is tried again %d times", n)
	}
}
