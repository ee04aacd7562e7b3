package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// mixed has one service of each kind that faults treat differently.
const mixed = `
name: mix
services:
  web:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    deploy: {replicas: %d}
    labels: {version: "%d"}
  each:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    deploy: {mode: global}
  once:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    x-dhow: {exclusive: true}
`

// stackOf is what the stack should be like.
type stackOf struct{ replicas, version int }

func (c *C) apply(h *netlab.Host, want stackOf) error {
	c.Compose(fmt.Sprintf(mixed, want.replicas, want.version))
	return c.Try(h, "up", "-d").Err()
}

// settled reports what is not yet as it should be on machines that are all well.
func (c *C) settled(want stackOf) error {
	for service, n := range map[string]int{"web": want.replicas, "each": len(c.Hosts), "once": 1} {
		got, err := c.count("mix", service, service != "each")
		if err == nil && total(got) != n {
			err = fmt.Errorf("%s: %v, want %d", service, got, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestRandomFaultsKeepTheInvariants(t *testing.T) {
	c := New(t, "after each of many random faults, in the middle of changes, the stack is as it should be, and what is exclusive never ran twice", 3, 2, "busybox:latest")
	seed := seedOf(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d; DHOW_SEED repeats the schedule", seed)
	want := stackOf{replicas: 6, version: 1}
	if err := c.apply(c.Hosts[0], want); err != nil {
		t.Fatal(err)
	}
	netlab.Eventually(t, 30*time.Second, "the stack runs", func() error { return c.settled(want) })
	ctx, stop := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() { t.Logf("looked %d times for two of once", c.neverTwice(ctx, "mix", "once")) })
	defer func() { // also when a step fails
		stop()
		watch.Wait()
	}()
	for step := range 10 {
		undo, hung := c.fault(rnd)
		next := stackOf{replicas: 1 + rnd.IntN(8), version: want.version + rnd.IntN(2)}
		through := c.Hosts[rnd.IntN(len(c.Hosts))]
		if through == hung {
			through = c.Others(hung)[0]
		}
		if err := c.apply(through, next); err == nil {
			want = next
		} else { // it may have been done or not: the same again, when all is well, is the same
			t.Logf("  step %d: up: %v", step, err)
		}
		time.Sleep(time.Duration(rnd.IntN(6000)) * time.Millisecond)
		undo()
		netlab.Eventually(t, 20*time.Second, "any node takes commands again", func() error { return c.apply(c.Hosts[step%len(c.Hosts)], want) })
		netlab.Eventually(t, 40*time.Second, fmt.Sprintf("step %d: the stack is as it should be", step), func() error { return c.settled(want) })
	}
	c.SameState()
}

// fault does one random fault and returns what undoes it, and the host whose
// daemon would leave a command without an answer until then; nil: none.
func (c *C) fault(rnd *rand.Rand) (undo func(), hung *netlab.Host) {
	a := c.Hosts[rnd.IntN(len(c.Hosts))]
	b := c.Others(a)[rnd.IntN(len(c.Hosts)-1)]
	switch rnd.IntN(6) {
	case 0:
		c.Logf("  kill %s", a.Name)
		a.Kill()
		return func() { a.Start() }, nil
	case 1:
		c.Logf("  isolate %s", a.Name)
		c.Lab.Isolate(a)
	case 2:
		c.Logf("  isolate %s and %s", a.Name, b.Name)
		c.Lab.Isolate(a, b)
	case 3:
		c.Logf("  cut the way from %s to %s", a.Name, b.Name)
		c.Lab.Cut(a, b)
	case 4:
		c.Logf("  pause %s", a.Name)
		a.Pause()
		return a.Continue, a
	case 5:
		c.Logf("  drain %s", a.Name)
		if err := b.Try("node", "update", "--availability", "drain", a.Name).Err(); err != nil {
			c.Logf("    %v", err)
		}
		return func() {
			netlab.Eventually(c, 20*time.Second, "the node is active again", func() error {
				return b.Try("node", "update", "--availability", "active", a.Name).Err()
			})
		}, nil
	}
	return c.Lab.Heal, nil
}
