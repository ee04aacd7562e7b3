package cluster

import (
	"context"
	"strings"
	"sync"
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

// TestADeadDaemonEndsWhatIsExclusive: the daemon that should end the task is
// dead, or stands still; the container's shim does it.
func TestADeadDaemonEndsWhatIsExclusive(t *testing.T) {
	c := New(t, "the shim of an exclusive task ends it when its daemon cannot, before it runs elsewhere", 1, 2, "busybox:latest")
	c.Compose(bound)
	c.Run(c.Hosts[0], "up", "-d", "--wait")
	ctx, stop := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { t.Logf("looked %d times for two of once", c.neverTwice(ctx, "pair", "once")) })
	defer watch.Wait()
	defer stop()
	c.Step("a daemon that is back at once touches nothing", func() {
		p := c.single("pair", "once")
		h := c.Host(p.host)
		for _, end := range []func(){h.Kill, h.Stop} {
			end()
			h.Start()
			time.Sleep(8 * time.Second) // longer than any lease
			if !p.lives() {
				t.Fatal("the task was ended")
			}
		}
	})
	for _, fault := range []struct {
		what     string
		do, undo func(*netlab.Host)
	}{
		{"killed", (*netlab.Host).Kill, func(h *netlab.Host) { h.Start() }},
		{"stopped", (*netlab.Host).Pause, (*netlab.Host).Continue},
	} {
		p := c.single("pair", "once")
		away := c.Host(p.host)
		other := c.Others(away, c.Hosts[0])[0]
		many := processes(away, "pair", "many")
		c.Step("a daemon is "+fault.what, func() {
			fault.do(away)
			start := time.Now()
			var died time.Duration
			netlab.Eventually(t, 30*time.Second, "it runs elsewhere", func() error {
				moved := processes(other, "pair", "once")
				if died == 0 && !p.lives() {
					died = time.Since(start)
				}
				if len(moved) == 0 {
					return errNotYet
				}
				return nil
			})
			t.Logf("  ended after %s, runs elsewhere after %s", died.Round(10*time.Millisecond), time.Since(start).Round(10*time.Millisecond))
			if died == 0 {
				t.Errorf("it runs on %s and on %s", away.Name, other.Name)
			}
			for _, m := range many {
				if !m.lives() {
					t.Errorf("%s was ended, too", m.place)
				}
			}
		})
		c.Step("the daemon is back", func() {
			fault.undo(away)
			c.Runs(20*time.Second, "pair", "many", 2)
			c.Runs(20*time.Second, "pair", "once", 1)
			c.single("pair", "once")
		})
	}
}

func TestAMachineAloneKeepsWhatIsExclusive(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT RUN: machines are not short")
	}
	t.Log("on a machine alone an exclusive task outlives its daemon, and goes on when the machine opens its cluster to others")
	c := &C{TB: t, Lab: netlab.New(t), Managers: 1, Dir: t.TempDir()}
	h := c.Lab.Host()
	c.Hosts = []*netlab.Host{h}
	h.Load("busybox:latest")
	c.Compose(strings.ReplaceAll(bound, "node.role == worker", "node.role == manager"))
	c.Run(h, "up", "-d", "--wait")
	p := c.single("pair", "once")
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"the daemon is dead", h.Kill},
		{"it is back", func() { h.Start() }},
		{"the cluster is open", func() { c.Run(h, "swarm", "init", "--advertise-addr", h.Addr) }},
	} {
		c.Step(step.what, func() {
			step.do()
			time.Sleep(8 * time.Second) // longer than any lease
			if !p.lives() {
				t.Fatal("the task was ended")
			}
		})
	}
	c.Step("the daemon of a member is dead", func() {
		h.Kill()
		netlab.Eventually(t, 10*time.Second, "the task is ended", func() error {
			if p.lives() {
				return errNotYet
			}
			return nil
		})
	})
}

// single is the one process of a service.
func (c *C) single(stackName, service string) process {
	c.Helper()
	var all []process
	for _, h := range c.Hosts {
		all = append(all, processes(h, stackName, service)...)
	}
	if len(all) != 1 {
		c.Fatalf("processes of %s: %+v", service, all)
	}
	return all[0]
}
