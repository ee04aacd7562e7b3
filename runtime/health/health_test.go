package health

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"pgregory.net/rapid"
)

func TestResolve(t *testing.T) {
	img := &runtime.ImageHealthcheck{Test: []string{"CMD-SHELL", "curl x"}, Interval: 7 * time.Second, Retries: 9}
	for _, tc := range []struct {
		name string
		own  *stack.Healthcheck
		img  *runtime.ImageHealthcheck
		args []string
		ok   bool
	}{
		{"none anywhere", nil, nil, nil, false},
		{"image's", nil, img, []string{"/bin/sh", "-c", "curl x"}, true},
		{"switched off", &stack.Healthcheck{Test: []string{"NONE"}}, img, nil, false},
		{"own", &stack.Healthcheck{Test: []string{"CMD", "probe", "-v"}}, img, []string{"probe", "-v"}, true},
		{"only the interval", &stack.Healthcheck{Interval: time.Second}, img, []string{"/bin/sh", "-c", "curl x"}, true},
		{"only the interval of none", &stack.Healthcheck{Interval: time.Second}, nil, nil, false},
	} {
		c, ok := Resolve(tc.own, tc.img, nil)
		if ok != tc.ok || (ok && !slices.Equal(c.Args, tc.args)) {
			t.Errorf("%s: %v %v", tc.name, c.Args, ok)
		}
	}
	c, _ := Resolve(&stack.Healthcheck{Interval: time.Second}, img, nil)
	if c.Interval != time.Second || c.Retries != 9 || c.Timeout != 30*time.Second {
		t.Errorf("%+v", c)
	}
}

func TestNext(t *testing.T) {
	start := time.Unix(1000, 0)
	c := Config{Retries: 2, StartPeriod: 10 * time.Second}
	step := func(h runtime.Health, sec, code int, early bool) runtime.Health {
		at := start.Add(time.Duration(sec) * time.Second)
		return Next(h, runtime.HealthResult{Start: at, End: at, ExitCode: code}, start, early, c)
	}
	h := runtime.Health{Status: Starting}
	for i, s := range []struct {
		sec, code int
		early     bool
		want      string
		streak    int
	}{
		{1, 1, false, Starting, 0}, {9, 1, false, Starting, 0}, {11, 1, false, Starting, 1}, {12, 1, true, Starting, 1},
		{13, 1, false, Unhealthy, 2}, {14, 0, false, Healthy, 0}, {15, 1, false, Healthy, 1}, {16, 1, false, Unhealthy, 2},
	} {
		h = step(h, s.sec, s.code, s.early)
		if h.Status != s.want || h.FailingStreak != s.streak {
			t.Fatalf("step %d: %s %d, want %s %d", i, h.Status, h.FailingStreak, s.want, s.streak)
		}
	}
	if len(h.Log) != Kept {
		t.Fatalf("%d results kept", len(h.Log))
	}
}

func TestDelayReachesTheFirstDueProbe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			Interval:      time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "interval")),
			StartPeriod:   time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "startPeriod")),
			StartInterval: time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "startInterval")),
		}
		start := time.Unix(0, 0)
		now := start
		for i := 0; ; i++ {
			d, early := Delay(runtime.Health{Status: Starting}, now, start, c)
			if d <= 0 {
				t.Fatalf("delay %v", d)
			}
			now = now.Add(d)
			if !early {
				return
			}
			if i > 20 {
				t.Fatal("too many early probes")
			}
		}
	})
}

func TestMonitorReportsAndStops(t *testing.T) {
	reports := make(chan runtime.Health, 16)
	m := Start(Config{Interval: time.Millisecond, Timeout: time.Second, Retries: 1}, time.Now(), runtime.Health{},
		func(context.Context) runtime.HealthResult {
			return runtime.HealthResult{Start: time.Now(), ExitCode: 1}
		},
		func(h runtime.Health) {
			select {
			case reports <- h:
			default:
			}
		})
	if h := <-reports; h.Status != Unhealthy {
		t.Fatalf("health %+v", h)
	}
	m.Stop()
	var none *Monitor
	none.Stop()
}

func TestMonitorStopEndsTheProbe(t *testing.T) {
	inside, left := make(chan struct{}), make(chan struct{})
	m := Start(Config{Interval: time.Millisecond, Timeout: time.Hour, Retries: 1}, time.Now(), runtime.Health{},
		func(ctx context.Context) runtime.HealthResult {
			close(inside)
			<-ctx.Done()
			close(left)
			return runtime.HealthResult{ExitCode: 1}
		}, func(runtime.Health) { t.Error("a stopped monitor reported") })
	<-inside
	m.Stop()
	<-left
}
