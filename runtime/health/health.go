package health

import (
	"slices"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// The statuses, in Docker's words.
const (
	Starting  = "starting"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// Kept is how many results are remembered, MaxOutput how much of a probe's output, bytes.
const (
	Kept      = 5
	MaxOutput = 4096
)

// Config of a probe, after defaults.
type Config struct {
	Args          []string
	Interval      time.Duration // from the end of one probe to the start of the next
	Timeout       time.Duration
	StartPeriod   time.Duration // failures do not count
	StartInterval time.Duration // interval in the start period
	Retries       int           // failures in a row that make unhealthy
}

// Resolve joins a container's health check with its image's; false when there
// is none, or it is switched off.
func Resolve(own *stack.Healthcheck, img *runtime.ImageHealthcheck, shell []string) (Config, bool) {
	var h stack.Healthcheck
	if own != nil {
		h = *own
	}
	if img != nil {
		if len(h.Test) == 0 {
			h.Test = img.Test
		}
		h.Interval, h.Timeout = or(h.Interval, img.Interval), or(h.Timeout, img.Timeout)
		h.StartPeriod, h.StartInterval = or(h.StartPeriod, img.StartPeriod), or(h.StartInterval, img.StartInterval)
		h.Retries = or(h.Retries, img.Retries)
	}
	c := Config{
		Interval: or(h.Interval, 30*time.Second), Timeout: or(h.Timeout, 30*time.Second),
		StartPeriod: h.StartPeriod, StartInterval: or(h.StartInterval, 5*time.Second), Retries: or(h.Retries, 3),
	}
	if len(h.Test) < 2 {
		return c, false
	}
	switch h.Test[0] {
	case "CMD":
		c.Args = slices.Clone(h.Test[1:])
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		c.Args = append(slices.Clone(shell), h.Test[1])
	default:
		return c, false
	}
	return c, true
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Next is the health after one result. started is when the container started;
// early says that the probe ran ahead of its time (see Monitor), so that a
// failure means nothing.
func Next(h runtime.Health, r runtime.HealthResult, started time.Time, early bool, c Config) runtime.Health {
	h.Log = append(slices.Clone(h.Log), r)
	if n := len(h.Log); n > Kept {
		h.Log = h.Log[n-Kept:]
	}
	if r.ExitCode == 0 {
		h.Status, h.FailingStreak = Healthy, 0
		return h
	}
	if h.Status == Starting && (early || r.Start.Sub(started) < c.StartPeriod) {
		return h
	}
	h.FailingStreak++
	if h.FailingStreak >= c.Retries {
		h.Status = Unhealthy
	}
	return h
}

// Delay is the time to the next probe, and whether that one is early.
//
// A container that has just started is probed a few times within its first
// interval, from a quarter second on and ever more seldom. Success counts: who
// waits for a service with an interval of 30 s does not wait for 30 s. Failure
// does not: the probe was not due yet.
func Delay(h runtime.Health, now, started time.Time, c Config) (d time.Duration, early bool) {
	if h.Status != Starting {
		return c.Interval, false
	}
	age := now.Sub(started)
	interval, due := c.Interval, c.Interval
	if age < c.StartPeriod {
		interval, due = c.StartInterval, c.StartInterval
	}
	if age >= due {
		return interval, false
	}
	if soon := max(age, 250*time.Millisecond); age+soon < due {
		return soon, true
	}
	return due - age, false
}
