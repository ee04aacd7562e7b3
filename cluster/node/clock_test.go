package node

import (
	"testing"
	"time"
)

// hands are clocks that a test moves.
type hands struct {
	boot int64
	mono time.Time
}

func newHands() *hands { return &hands{boot: int64(time.Hour), mono: time.Now()} }

func (h *hands) clock() *clock {
	return newClock(func() int64 { return h.boot }, func() time.Time { return h.mono })
}

func (h *hands) run(d time.Duration) {
	h.mono, h.boot = h.mono.Add(d), h.boot+int64(d)
}

func (h *hands) sleep(d time.Duration) { h.boot += int64(d) }

// A lease that began before the machine slept ends while it sleeps: the process's
// own clock would let it go on.
func TestALeaseGoesOnWhileTheMachineSleeps(t *testing.T) {
	h := newHands()
	c := h.clock()
	h.run(10 * time.Second)
	from, began := h.mono, h.boot
	until := from.Add(5 * time.Second)
	check := func(what string, want time.Duration) {
		t.Helper()
		if got := time.Duration(c.at(from, until) - began); got != want {
			t.Errorf("%s: ends after %v, want %v", what, got, want)
		}
	}
	check("at once", 5*time.Second)
	h.run(time.Second)
	check("later", 5*time.Second)
	h.sleep(time.Minute)
	check("after a sleep", 5*time.Second)
	h.run(time.Second)
	h.sleep(time.Minute)
	check("after two", 5*time.Second)
	h.run(time.Millisecond)
	from, began = h.mono, h.boot
	until = from.Add(5 * time.Second)
	h.run(time.Second)
	check("of one that began after", 5*time.Second)
}

// A sleep that was not noticed yet when the lease began makes it shorter, never longer.
func TestALeaseIsNeverTooLong(t *testing.T) {
	h := newHands()
	c := h.clock()
	h.sleep(time.Minute)
	from, began := h.mono, h.boot
	h.run(time.Second)
	if got := time.Duration(c.at(from, from.Add(5*time.Second)) - began); got > 5*time.Second {
		t.Errorf("%v", got)
	}
	h.run(time.Millisecond)
	from, began = h.mono, h.boot
	if got := time.Duration(c.at(from, from.Add(5*time.Second)) - began); got != 5*time.Second {
		t.Errorf("%v, now that the sleep is known", got)
	}
}
