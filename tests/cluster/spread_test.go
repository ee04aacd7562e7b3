package cluster

import (
	"testing"
	"time"
)

// plain is a stack whose containers need nothing of their node.
const plain = `
name: shop
services:
  web:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    deploy:
      replicas: 6
`

func TestALostNodeIsReplaced(t *testing.T) {
	c := New(t, "a stack spreads over the nodes, survives the loss of one, and nothing runs twice when it returns", 3, 1, "busybox:latest")
	c.Compose(plain)
	worker := c.Hosts[3]
	c.Step("up on a worker spreads", func() {
		c.Run(worker, "up", "-d", "--wait")
		if got := c.Runs(5*time.Second, "shop", "web", 6); len(got) != 4 {
			t.Errorf("runs on %v", got)
		}
	})
	c.Step("the worker's daemon dies", func() {
		worker.Kill()
		start := time.Now()
		c.Runs(30*time.Second, "shop", "web", 6, c.Others(worker)...)
		t.Logf("  replaced %s after the kill", time.Since(start).Round(10*time.Millisecond))
	})
	c.Step("it returns, and what was replaced ends there", func() {
		worker.Start()
		c.Runs(20*time.Second, "shop", "web", 6)
	})
	c.Step("down from any node leaves nothing", func() {
		c.Run(c.Hosts[1], "down")
		c.Runs(20*time.Second, "shop", "web", 0)
	})
}
