package node

import (
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime/shim/lease"
)

// clock turns moments of this process's monotonic clock into those of the time
// since boot. The two run alike, but the first stands while the machine sleeps.
type clock struct {
	boot func() int64 // of CLOCK_BOOTTIME, ns
	mono func() time.Time

	mu     sync.Mutex
	base   time.Time // guarded by mu: moment of the first look
	steps  []step    // guarded by mu: never empty after the first look
	origin int64     // guarded by mu: base in the time since boot
}

// step is a sleep of the machine that was noticed.
type step struct {
	noticed time.Time
	slept   time.Duration // in all, at least
}

// noise is what two readings of the clocks may differ by without a sleep.
const noise = 10 * time.Millisecond

var bootClock = newClock(lease.Now, time.Now) // from the beginning of the process

func newClock(boot func() int64, mono func() time.Time) *clock {
	c := &clock{boot: boot, mono: mono}
	c.origin, c.base = boot(), mono()
	c.steps = []step{{noticed: c.base}}
	return c
}

// at is end in the time since boot, or before it, never after it: for a duration
// that began at from, during which the machine may have slept.
func (c *clock) at(from, end time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookLocked()
	slept := c.steps[0].slept
	for _, s := range c.steps {
		if s.noticed.Before(from) {
			slept = s.slept
		}
	}
	return c.origin + int64(end.Sub(c.base)+slept)
}

// lookLocked notices sleeps. The time since boot is read first: when this
// process stands still in between, too short a sleep is seen, not too long a one.
func (c *clock) lookLocked() {
	boot, now := c.boot(), c.mono()
	slept := time.Duration(boot-c.origin) - now.Sub(c.base)
	if slept > c.steps[len(c.steps)-1].slept+noise {
		c.steps = append(c.steps, step{now, slept})
	}
}
