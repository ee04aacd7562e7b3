package bench

import (
	"fmt"
	"slices"
	"time"
)

// samples are the times of one thing that was done several times.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

// String is "12.3 ms (11.9)": the median and the fastest.
func (s samples) String() string {
	if len(s) == 0 {
		return "-"
	}
	unit, name := time.Millisecond, "ms"
	switch m := s.median(); {
	case m >= 10*time.Second/4:
		unit, name = time.Second, "s"
	case m < time.Millisecond/2:
		unit, name = time.Microsecond, "µs"
	}
	in := func(d time.Duration) float64 { return float64(d) / float64(unit) }
	if len(s) == 1 {
		return fmt.Sprintf("%.1f %s", in(s[0]), name)
	}
	return fmt.Sprintf("%.1f %s (%.1f)", in(s.median()), name, in(slices.Min(s)))
}

// settle is how long the machine rests between two samples: what one leaves to
// the kernel (namespaces, cgroups) is not to slow down the next one, of whoever
// it is.
const settle = 50 * time.Millisecond

// inTurn takes n samples of each function, one after the other and again from
// the beginning, so that a noisy minute of the machine is everybody's. A nil
// function gives no samples.
func inTurn(n int, fs ...func() time.Duration) []samples {
	out := make([]samples, len(fs))
	for range n {
		for i, f := range fs {
			if f == nil {
				continue
			}
			time.Sleep(settle)
			out[i] = append(out[i], f())
		}
	}
	return out
}

// timed runs f once.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
