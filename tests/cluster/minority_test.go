package cluster

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// crew has a task on each node and some that can be scaled.
const crew = `
name: crew
services:
  each:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_signal: SIGKILL
    deploy: {mode: global}
  web:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_signal: SIGKILL
    deploy: {replicas: %d}
`

// late has a service that is never healthy within a test.
const late = `
name: late
services:
  late:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "false"], start_period: 10m, interval: 1s}
`

// cutOff bounds a command on a node that is cut off from the leader: it waits
// five seconds for one, when nobody knows yet also as long for the one that there was.
const cutOff = 8 * time.Second

// Whoever waits for tasks to go hears of the death of their node, although
// nothing else about the tasks changes.
func TestUpEndsWhenWhatItWaitsForIsLost(t *testing.T) {
	c := New(t, "up that takes tasks away ends when the node of the last ones is lost", 3, 1, "busybox:latest")
	c.Compose(fmt.Sprintf(crew, 8))
	c.Run(c.Hosts[0], "up", "-d")
	c.Compose(fmt.Sprintf(crew, 0))
	away := c.Hosts[3]
	c.Lab.Isolate(away)
	c.bounded(20*time.Second, 0, "", c.Hosts[0], "up", "-d")
	c.Lab.Heal()
	c.Runs(20*time.Second, "crew", "web", 0)
}

// Nobody on the smaller side of a partition waits without an end, and everybody
// is told what is wrong.
func TestTheSmallerSideOfAPartitionSaysSo(t *testing.T) {
	c := New(t, "on the smaller side of a partition every command ends in time and says why", 3, 2, "busybox:latest")
	c.Compose(fmt.Sprintf(crew, 5))
	c.Run(c.Hosts[0], "up", "-d")
	lead := c.Leader(c.Hosts[0])
	var follower *netlab.Host
	for _, h := range c.Hosts[:3] {
		if h != lead {
			follower = h
		}
	}
	worker := c.Hosts[4]
	for what, side := range map[string][]*netlab.Host{
		"a manager": {follower}, "a worker": {worker}, "the leader and a worker": {lead, worker},
	} {
		c.Step(what, func() {
			for _, h := range side { // connections are kept for the next commands
				c.Run(h, "ps")
				c.Run(h, "node", "ls")
			}
			c.Lab.Isolate(side...)
			c.outvoted("look", side...)   // at the network, or when nobody knows yet whether it has been done
			c.outvoted("(down)", side...) // who is out of reach is named
			c.Lab.Heal()
			for _, h := range side {
				netlab.Eventually(t, 20*time.Second, h.Name+" takes commands again", func() error { return c.Try(h, "up", "-d", "--wait-timeout", "15").Err() })
			}
		})
	}
}

// outvoted runs commands on hosts that are cut off from the majority; each must say some words.
func (c *C) outvoted(words string, hosts ...*netlab.Host) {
	c.Helper()
	var wg sync.WaitGroup
	for _, h := range hosts {
		for _, args := range [][]string{
			{"up", "-d"}, {"ps"}, {"node", "ls"}, {"restart", "web"}, {"network", "create", "net-of-" + h.Name}, {"ls"}, {"swarm", "join-token", "worker"},
		} {
			wg.Go(func() { c.bounded(cutOff, 1, words, h, args...) })
		}
	}
	wg.Wait()
}

// Cut off from the leader while it waits, up ends and says why; what it asked
// for goes on.
func TestUpThatIsCutOffSaysSo(t *testing.T) {
	c := New(t, "up through a node that is cut off from the leader meanwhile ends and says why", 3, 1, "busybox:latest")
	worker := c.Hosts[3]
	c.Compose(late)
	for what, cut := range map[string]func(lead *netlab.Host){
		"the leader's answers":  func(lead *netlab.Host) { c.Lab.Cut(lead, worker) },
		"all ways of this node": func(*netlab.Host) { c.Lab.Isolate(worker) },
	} {
		c.Step(what, func() {
			lead := c.Leader(c.Hosts[0])
			var up sync.WaitGroup
			up.Go(func() {
				c.bounded(2*cutOff, 1, "no manager leads the cluster, as far as this node hears", worker, "up", "--wait")
			})
			netlab.Eventually(t, 10*time.Second, "it waits", func() error {
				_, err := c.Service(c.Hosts[0], "late", "late")
				return err
			})
			cut(lead)
			up.Wait()
			c.Lab.Heal()
			netlab.Eventually(t, 20*time.Second, "the worker takes commands again", func() error { return c.Try(worker, "down").Err() })
		})
	}
}

// bounded runs dhow in the stack's directory; it must end in time with a code and say some words.
func (c *C) bounded(limit time.Duration, code int, words string, h *netlab.Host, args ...string) {
	c.Helper()
	start := time.Now()
	r := h.TryWith(netlab.Input{Dir: c.Dir, Timeout: 2 * limit}, args...)
	if took := time.Since(start); took > limit || r.Code != code || !strings.Contains(r.Stdout+r.Stderr, words) {
		c.Errorf("%s: dhow %s: after %s, exit code %d:\n%s%s", h.Name, strings.Join(args, " "), took.Round(time.Millisecond), r.Code, r.Stdout, r.Stderr)
	}
}
