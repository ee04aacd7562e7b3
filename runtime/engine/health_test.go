package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// processes that run in a container, by command line.
func (n *node) processes(id, word string) int {
	n.Helper()
	_, rows, err := n.Top(n.ctx(), id, []string{"-o", "pid,args"})
	n.ok(err)
	count := 0
	for _, r := range rows {
		if strings.Contains(r[1], word) && !strings.Contains(r[1], "defunct") {
			count++
		}
	}
	return count
}

// TestProbeThatHangs is ended with its children, whatever it has started.
func TestProbeThatHangs(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Healthcheck = &stack.Healthcheck{
		Test:     []string{"CMD-SHELL", "echo asking; sleep 4711 & (sleep 4711; true) & sleep 4711"},
		Interval: 50 * time.Millisecond, Timeout: 300 * time.Millisecond, Retries: 2,
	}
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	id := n.start("hangs", spec)
	n.until(events, func(e runtime.Event) bool { return e.Action == "health_status: unhealthy" })
	h := n.inspect(id).State.Health
	last := h.Log[len(h.Log)-1]
	if last.ExitCode != -1 || !strings.Contains(last.Output, "exceeded timeout (300ms)") || !strings.Contains(last.Output, "asking") {
		t.Errorf("result %+v", last)
	}
	n.ok(n.Pause(n.ctx(), id)) // no further probe begins
	n.ok(n.Unpause(n.ctx(), id))
	// One probe at most is under way: three processes of its shell and itself.
	if got := n.processes(id, "4711"); got > 5 {
		t.Errorf("%d processes of probes that were given up", got)
	}
	if got := len(h.Log); got > 5 {
		t.Errorf("%d results kept", got)
	}
}

// TestNoProbeWithoutHealthCheck: NONE switches the image's off; there is no health and no process.
func TestNoProbeWithoutHealthCheck(t *testing.T) {
	n := newNode(t)
	spec := sh("sleep 1000")
	spec.Healthcheck = &stack.Healthcheck{Test: []string{"NONE"}}
	off := n.start("off", spec)
	plain := n.start("plain", sh("sleep 1000"))
	for _, id := range []string{off, plain} {
		if h := n.inspect(id).State.Health; h != nil {
			t.Errorf("health %+v", h)
		}
	}
}

// TestHealthEventsOnlyOnChange: five good probes are one event.
func TestHealthEventsOnlyOnChange(t *testing.T) {
	n := newNode(t)
	events := n.bus.Subscribe(n.ctx(), time.Time{}, time.Time{})
	spec := sh("sleep 1000")
	spec.Healthcheck = &stack.Healthcheck{Test: []string{"CMD", "sh", "-c", "echo x >> /tmp/probes"}, Interval: 20 * time.Millisecond}
	id := n.start("steady", spec)
	told := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if h := n.inspect(id).State.Health; h != nil && len(h.Log) == 5 {
			break
		}
		n.exec(id, "sleep", "0.05")
	}
	n.ok(n.Stop(n.ctx(), id, "KILL", nil))
	n.until(events, func(e runtime.Event) bool {
		if strings.HasPrefix(e.Action, "health_status") {
			told++
		}
		return e.Action == "die"
	})
	if told != 1 {
		t.Errorf("%d events of health", told)
	}
}
