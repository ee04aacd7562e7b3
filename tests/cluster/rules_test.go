package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// ruled has one task on each of three hosts, in the host's network, so that a
// version can fail on some hosts alone.
const ruled = `
name: shop
services:
  web:
    image: busybox:latest
    command: ["sh", "-c", "case $$(hostname) in %s) echo out of cheese; exit 3;; esac; exec sleep 1000000"]
    network_mode: host
    stop_signal: SIGKILL
    labels: {version: "%d"}
    deploy:
      mode: global
      restart_policy: {condition: none}
      update_config: {order: stop-first, %s}
      rollback_config: {parallelism: 1, delay: 500ms, monitor: 500ms, order: stop-first}
`

// ruling applies versions of the ruled service.
type ruling struct {
	*C
	version int
}

// up applies a version that fails on the hosts that a shell pattern tells.
func (r *ruling) up(fails, rule string) netlab.Result {
	r.version++
	r.Compose(fmt.Sprintf(ruled, fails, r.version, rule))
	return r.Try(r.Hosts[r.version%3], "up", "-d", "--wait", "--wait-timeout", "20")
}

// good applies a version that runs everywhere, all at once.
func (r *ruling) good() {
	r.Helper()
	if err := r.up("none", "monitor: 100ms").Err(); err != nil {
		r.Fatal(err)
	}
}

// began tells when the tasks that are wanted of the service began to serve, in order.
func (r *ruling) began() (times []time.Time) {
	r.Helper()
	st, err := r.Status(r.Hosts[0], "shop", false)
	if err != nil {
		r.Fatal(err)
	}
	for _, t := range st.Tasks {
		if t.Desired == stack.DesiredRun && t.Serving != 0 {
			times = append(times, time.Unix(0, t.Serving))
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// oneByOne fails the test unless the three tasks began at least that far from each other.
func (r *ruling) oneByOne(least time.Duration) {
	r.Helper()
	times := r.began()
	if len(times) != 3 || times[1].Sub(times[0]) < least || times[2].Sub(times[1]) < least {
		r.Errorf("they began at %v, want %s between them", times, least)
	}
}

func TestUpdateRulesHoldAcrossNodes(t *testing.T) {
	c := New(t, "failure ratio, action, order, delay, monitor and the rules of the way back hold in a cluster", 3, 0, "busybox:latest")
	h1, h2, h3 := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	r := &ruling{C: c}
	r.good()
	c.Step("so many may fail", func() {
		res := r.up(h1.Name, "parallelism: 1, monitor: 300ms, max_failure_ratio: 0.34, failure_action: pause")
		u := c.ended(stack.UpdateCompleted)
		if !strings.Contains(u.Message, "1 of 3 tasks failed") || res.Code == 0 || !strings.Contains(res.Stderr, "exit code 3") {
			t.Errorf("%q; up: %d %s", u.Message, res.Code, res.Stderr)
		}
	})
	c.Step("no more than that, and the rest is left alone", func() {
		r.good()
		before := r.began()
		res := r.up("*", "parallelism: 1, monitor: 300ms, max_failure_ratio: 0.3, failure_action: pause")
		u := c.ended(stack.UpdatePaused)
		if !strings.Contains(u.Message, "exit code 3") || res.Code == 0 || !strings.Contains(res.Stderr, "paused") {
			t.Errorf("%q; up: %d %s", u.Message, res.Code, res.Stderr)
		}
		for _, at := range r.began() {
			if !slices.Contains(before, at) {
				t.Errorf("one began at %s, before were %v", at, before)
			}
		}
		if got, err := c.Count("shop", "web"); err != nil || total(got) != 2 {
			t.Errorf("%v %v", got, err)
		}
	})
	c.Step("continue goes on whatever fails", func() {
		r.good()
		_ = r.up(h1.Name+"|"+h2.Name, "parallelism: 1, monitor: 300ms, failure_action: continue")
		if u := c.ended(stack.UpdateCompleted); !strings.Contains(u.Message, "2 of 3 tasks failed") {
			t.Errorf("%q", u.Message)
		}
		if got, err := c.Count("shop", "web"); err != nil || total(got) != 1 || got[h3.Name] != 1 {
			t.Errorf("%v %v", got, err)
		}
	})
	c.Step("one after the other, each watched and then a delay", func() {
		r.good()
		if err := r.up("none", "parallelism: 1, monitor: 700ms, delay: 800ms").Err(); err != nil {
			t.Error(err)
		}
		c.ended(stack.UpdateCompleted)
		r.oneByOne(1500 * time.Millisecond)
	})
	c.Step("the way back has its own rules", func() {
		res := r.up(h2.Name, "parallelism: 3, monitor: 1s, failure_action: rollback")
		u := c.ended(stack.RollbackCompleted)
		if res.Code == 0 || !strings.Contains(res.Stderr, "rolled back") || !strings.Contains(u.Message, "exit code 3") {
			t.Errorf("%q; up: %d %s", u.Message, res.Code, res.Stderr)
		}
		// What failed goes back at once: it has nothing to lose. Of the two others, one after the other.
		if times := r.began(); len(times) != 3 || times[2].Sub(times[0]) < time.Second {
			t.Errorf("they began at %v", times)
		}
		c.Run(h1, "down")
	})
}

// ended waits until the update of shop's service has ended in a state.
func (c *C) ended(want stack.UpdateState) *stack.UpdateStatus {
	c.Helper()
	var u *stack.UpdateStatus
	netlab.Eventually(c, 15*time.Second, "the update is "+string(want), func() error {
		s, err := c.Service(c.Hosts[0], "shop", "web")
		if err != nil {
			return err
		}
		if u = s.Update; u == nil || u.State != want {
			return fmt.Errorf("%+v: %s", u, s.Message)
		}
		return nil
	})
	return u
}
