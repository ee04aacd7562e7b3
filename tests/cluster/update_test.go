package cluster

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// web is a real server on networks that stay within a node.
const web = `
name: shop
services:
  web:
    image: nginx:latest
    command: %s
    labels: {version: "%s"}
    stop_grace_period: 5s
    healthcheck: {test: ["CMD", "curl", "-fsS", "http://127.0.0.1/"], interval: 1s, timeout: 3s, retries: 3, start_period: 20s, start_interval: 300ms}
    deploy:
      replicas: 4
      update_config: {parallelism: 2, delay: 200ms, monitor: 1s, order: start-first, %s}
      rollback_config: {parallelism: 0, monitor: 500ms}
`

const (
	serve  = `["nginx", "-g", "daemon off;"]`
	broken = `["sh", "-c", "echo out of cheese; exit 3"]`
)

func (c *C) web(command, version, rule string) { c.Compose(fmt.Sprintf(web, command, version, rule)) }

// updated waits until an update has ended in a state.
func (c *C) updated(h *netlab.Host, service string, want stack.UpdateState) *stack.UpdateStatus {
	c.Helper()
	var u *stack.UpdateStatus
	netlab.Eventually(c, 40*time.Second, "the update is "+string(want), func() error {
		s, err := c.Service(h, "shop", service)
		if err == nil {
			u = s.Update
		}
		if err == nil && (u == nil || u.State != want || !s.Ready && want == stack.UpdateCompleted) {
			err = fmt.Errorf("%+v, ready %t: %s", u, s.Ready, s.Message)
		}
		return err
	})
	return u
}

// begin runs `up` and returns when the update is under way.
func (c *C) begin(h *netlab.Host) *exec.Cmd {
	c.Helper()
	old, err := c.Service(h, "shop", "web")
	if err != nil {
		c.Fatal(err)
	}
	up := h.Background("-f", c.Dir+"/compose.yaml", "up", "-d")
	netlab.Eventually(c, 10*time.Second, "the update has begun", func() error {
		s, err := c.Service(h, "shop", "web")
		if err == nil && (s.Version == old.Version || s.Update.State != stack.Updating) {
			err = fmt.Errorf("%+v", s.Update)
		}
		return err
	})
	return up
}

func TestUpdatesAndDrainsLoseNothing(t *testing.T) {
	c := New(t, "updates, rollbacks and drains lose no request, also while the leader dies", 3, 1, "nginx:latest")
	c.web(serve, "1", "failure_action: rollback")
	worker := c.Hosts[3]
	c.Run(worker, "up", "-d", "--wait")
	b := c.Balance("shop", "web")
	c.Step("an update replaces all, first the new, then the old", func() {
		c.web(serve, "2", "failure_action: rollback")
		start := time.Now()
		c.Run(worker, "up", "-d", "--wait")
		if took := time.Since(start); took < 2*time.Second { // two steps, each watched for a second
			t.Errorf("took %s: monitor and delay were not kept", took)
		}
		c.updated(worker, "web", stack.UpdateCompleted)
	})
	c.Step("a broken one is rolled back, and up says so with its reason", func() {
		c.web(broken, "3", "failure_action: rollback")
		r := c.Try(worker, "up", "-d", "--wait")
		if r.Code == 0 || !strings.Contains(r.Stderr, "rolled back") || !strings.Contains(r.Stderr, "exit code 3") || !strings.Contains(r.Stderr, "out of cheese") {
			t.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		c.updated(worker, "web", stack.RollbackCompleted)
	})
	c.Step("without rollback it is paused, and the next goes on from there", func() {
		c.web(broken, "4", "failure_action: pause")
		r := c.Try(c.Hosts[1], "up", "-d", "--wait")
		if r.Code == 0 || !strings.Contains(r.Stderr, "paused") || !strings.Contains(r.Stderr, "out of cheese") {
			t.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		c.updated(worker, "web", stack.UpdatePaused)
		c.web(serve, "5", "failure_action: pause")
		c.Run(worker, "up", "-d", "--wait")
	})
	c.Step("a drained node gives its tasks away first", func() {
		c.Run(c.Hosts[0], "node", "update", "--availability", "drain", worker.Name)
		c.Runs(40*time.Second, "shop", "web", 4, c.Others(worker)...)
		netlab.Eventually(t, 20*time.Second, "the node is empty", func() error {
			if got, err := c.Count("shop", "web", worker); err != nil || total(got) > 0 {
				return fmt.Errorf("%v %w", got, err)
			}
			return nil
		})
		c.Run(c.Hosts[0], "node", "update", "--availability", "active", worker.Name)
	})
	b.End(4)
	b = c.Balance("shop", "web")
	away := 0
	c.Step("the leader dies in an update", func() {
		leader := c.Leader(worker)
		c.web(serve, "6", "failure_action: pause")
		up := c.begin(worker)
		leader.Kill()
		away = len(processes(leader, "shop", "web")) // they run on, but nobody is there to say that they are healthy
		if err := up.Wait(); err != nil {
			t.Errorf("up: %v", err)
		}
		c.updated(c.Others(leader)[0], "web", stack.UpdateCompleted)
		leader.Start()
		c.Runs(30*time.Second, "shop", "web", 4)
	})
	b.End(4 - away)
	c.Step("a node dies in an update", func() {
		c.web(serve, "7", "failure_action: pause")
		up := c.begin(worker)
		worker.Kill()
		_ = up.Wait() // its daemon has died
		c.updated(c.Hosts[0], "web", stack.UpdateCompleted)
		c.Runs(10*time.Second, "shop", "web", 4, c.Others(worker)...)
		worker.Start()
		c.Runs(30*time.Second, "shop", "web", 4)
	})
}
