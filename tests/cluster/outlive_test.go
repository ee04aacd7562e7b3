package cluster

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

func TestDrainsJobsAndVolumesOutliveNodes(t *testing.T) {
	c := New(t, "a drain outlives its leader, a job its node; a task finds the volume that comes later", 3, 0, "busybox:latest", "nginx:latest")
	h1, h2, h3 := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	c.Step("the leader dies in a drain", func() { c.leaderDiesInADrain() })
	c.Step("a job's node dies", func() { c.jobMoves() })
	c.Step("an external volume comes to a task that waits for it", func() {
		c.Run(h1, "volume", "create", "late")
		c.Run(h1, "node", "update", "--availability", "drain", h1.Name)
		c.Compose(external)
		up := make(chan netlab.Result, 1)
		go func() { up <- c.Try(h2, "up", "-d") }()
		c.says(h2, "data", "volume late")
		c.Run(h3, "volume", "create", "late")
		if got := c.Runs(5*time.Second, "data", "db", 1); got[h3.Name] != 1 {
			t.Errorf("runs on %v", got)
		}
		if err := (<-up).Err(); err != nil {
			t.Error(err)
		}
		c.Run(h2, "down")
		c.Run(h1, "node", "update", "--availability", "active", h1.Name)
	})
}

const external = `
name: data
services:
  db: {image: busybox, command: [sleep, "1000000"], stop_signal: SIGKILL, network_mode: host, volumes: ["late:/data"]}
volumes:
  late: {external: true}
`

// applying runs `up` in the background.
func (c *C) applying(h *netlab.Host) *exec.Cmd {
	c.Helper()
	return h.Background("-f", c.Dir+"/compose.yaml", "up", "-d")
}

// says waits until ps of a stack says a text.
func (c *C) says(h *netlab.Host, stackName, text string) {
	c.Helper()
	netlab.Eventually(c, 5*time.Second, "ps says "+text, func() error {
		if ps := c.Try(h, "-p", stackName, "ps", "-a", "--format", "{{.Message}}"); !strings.Contains(ps.Stdout, text) {
			return fmt.Errorf("%s%s", ps.Stdout, ps.Stderr)
		}
		return nil
	})
}

// leaderDiesInADrain drains a node, and kills the leader when the first task has begun to move.
func (c *C) leaderDiesInADrain() {
	c.web(serve, "1", "failure_action: pause")
	c.Run(c.Hosts[0], "up", "-d", "--wait")
	leader := c.Leader(c.Hosts[0])
	rest := c.Others(leader)
	away, stays := rest[0], rest[1]
	b := c.Balance("shop", "web")
	c.Run(stays, "node", "update", "--availability", "drain", away.Name)
	netlab.Eventually(c, 5*time.Second, "a task moves", func() error {
		st, err := c.Status(stays, "shop", false)
		if err == nil && !slices.ContainsFunc(st.Tasks, func(t stack.Task) bool { return t.Replaces != "" }) {
			err = errNotYet
		}
		return err
	})
	leader.Kill()
	netlab.Eventually(c, 20*time.Second, "the node is empty", func() error {
		got, err := c.Count("shop", "web", away)
		if err == nil && total(got) > 0 {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
	leader.Start()
	c.Runs(20*time.Second, "shop", "web", 4, leader, stays)
	b.End(2) // what ran on the node whose daemon is dead does not count
	c.Run(leader, "node", "update", "--availability", "active", away.Name)
	c.Run(leader, "down")
}

// jobMoves kills the node of a job that runs: it completes elsewhere, and not once more when the node is back.
func (c *C) jobMoves() {
	c.Compose("name: chain\nservices:\n  job: {image: busybox, command: [sleep, '4'], stop_signal: SIGKILL, network_mode: host, deploy: {mode: replicated-job, replicas: 3}}\n")
	rest := c.Others(c.Hosts[1])
	up := c.applying(rest[0])
	on := c.Runs(5*time.Second, "chain", "job", 3)
	lost := c.Hosts[1]
	if on[lost.Name] == 0 {
		c.Fatalf("the job runs on %v", on)
	}
	lost.Kill()
	if got := c.completed(rest[0], 15*time.Second, "job", 3); got[lost.Name] > 0 {
		c.Errorf("completed on %v, %s is dead", got, lost.Name)
	}
	if err := up.Wait(); err != nil {
		c.Errorf("up: %v", err)
	}
	lost.Start()
	c.completed(rest[0], 10*time.Second, "job", 3)
	c.Runs(2*time.Second, "chain", "job", 0)
	c.Run(rest[0], "down")
}
