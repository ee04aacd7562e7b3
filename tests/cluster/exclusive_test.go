package cluster

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// bound has a service that must never run twice beside one that had better run
// twice than not at all.
const bound = `
name: pair
services:
  once:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    x-dhow: {exclusive: true}
    deploy: {placement: {constraints: [node.role == worker]}}
  many:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    deploy: {replicas: 2, placement: {constraints: [node.role == worker], max_replicas_per_node: 2}}
`

func TestAnIsolatedNodeEndsWhatIsExclusive(t *testing.T) {
	c := New(t, "an isolated node stops an exclusive task before it runs elsewhere, keeps the others, and nothing runs twice when it is back", 1, 2, "busybox:latest")
	c.Compose(bound)
	c.Run(c.Hosts[0], "up", "-d", "--wait")
	var away, other *netlab.Host
	for host := range c.Runs(5*time.Second, "pair", "once", 1) {
		away = c.Host(host)
		other = c.Others(away, c.Hosts[0])[0]
	}
	c.Step("cut off", func() {
		c.Lab.Isolate(away)
		start := time.Now()
		var stopped, moved time.Duration
		netlab.Eventually(t, 30*time.Second, "it runs elsewhere", func() error {
			// First where it starts, then where it was: what is seen on both has run twice.
			there, err := c.Count("pair", "once", other)
			if err != nil {
				return err
			}
			here, err := c.Count("pair", "once", away)
			if err != nil {
				return err
			}
			if total(here) > 0 && total(there) > 0 {
				t.Fatalf("it runs on %s and on %s", away.Name, other.Name)
			}
			if total(here) == 0 && stopped == 0 {
				stopped = time.Since(start)
			}
			if total(there) == 0 {
				return errNotYet
			}
			moved = time.Since(start)
			return nil
		})
		t.Logf("  stopped after %s, started elsewhere after %s", stopped.Round(10*time.Millisecond), moved.Round(10*time.Millisecond))
		if got, err := c.Count("pair", "many", away); err != nil || total(got) != 1 {
			t.Errorf("what is not exclusive goes on there: %v, %v", got, err)
		}
		c.Runs(10*time.Second, "pair", "many", 2, other)
	})
	c.Step("back", func() {
		c.Lab.Heal()
		c.Runs(20*time.Second, "pair", "many", 2)
		c.Runs(time.Second, "pair", "once", 1, other)
		c.Runs(time.Second, "pair", "once", 1)
	})
}
