package cluster

import (
	"strings"
	"testing"
	"time"
)

// TestAnImageOfOneNodeRunsOnAll: no registry answers here.
func TestAnImageOfOneNodeRunsOnAll(t *testing.T) {
	c := New(t, "an image that was loaded on one node runs on all, the same bytes, and stays there when that node dies", 1, 2)
	c.Compose(plain)
	worker := c.Hosts[2]
	worker.Load("busybox:latest")
	c.Step("up where the image is", func() {
		c.Run(worker, "up", "-d", "--wait")
		if got := c.Runs(5*time.Second, "shop", "web", 6); len(got) != 3 {
			t.Errorf("runs on %v", got)
		}
	})
	c.Step("all nodes have the same image by its name", func() {
		ids := map[string]bool{}
		for _, h := range c.Hosts {
			ids[strings.TrimSpace(c.Run(h, "images", "--all", "--format", "{{.ID}}"))] = true
		}
		if len(ids) != 1 || ids[""] {
			t.Errorf("images %v", ids)
		}
	})
	c.Step("up on a node that got it from there changes nothing", func() {
		if out := c.Run(c.Hosts[0], "plan"); strings.Contains(out, "web") {
			t.Errorf("plan: %s", out)
		}
	})
	c.Step("the node that had it dies, the others need it no more", func() {
		worker.Kill()
		c.Runs(30*time.Second, "shop", "web", 6, c.Others(worker)...)
	})
}
