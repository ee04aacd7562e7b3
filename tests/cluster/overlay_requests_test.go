package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// busy is a real server behind a virtual address and a published port, and
// somebody on each node who uses it.
const busy = `
name: shop
services:
  web:
    image: nginx:latest
    labels: {version: "%s"}
    ports: ["8080:80"]
    stop_grace_period: 5s
    healthcheck: {test: ["CMD", "curl", "-fsS", "http://127.0.0.1/"], interval: 1s, timeout: 3s, retries: 3, start_period: 20s, start_interval: 300ms}
    deploy:
      replicas: 4
      update_config: {parallelism: 2, monitor: 1s, order: start-first}
  probe:
    image: busybox:latest
    command: [sleep, "1000000"]
    stop_signal: SIGKILL
    deploy: {mode: global}
`

// containers are the IDs of a service's one container on each host, by host name.
func (c *C) containers(stackName, service string) map[string]string {
	c.Helper()
	out := map[string]string{}
	for _, h := range c.Hosts {
		list, err := c.On(h, stackName)
		if err != nil {
			c.Fatal(err)
		}
		for _, ct := range list {
			if ct.Labels["com.docker.compose.service"] == service {
				out[h.Name] = ct.ID
			}
		}
	}
	return out
}

func TestRequestsAreNotLost(t *testing.T) {
	c := New(t, "no request through a service's name or published port is lost while tasks, daemons and leaders come and go", 3, 2, "nginx:latest", "busybox:latest")
	c.Compose(fmt.Sprintf(busy, "1"))
	worker := c.Hosts[4]
	c.Run(worker, "up", "-d", "--wait")
	virtual := strings.Fields(c.Run(worker, "exec", "-T", "probe", "nslookup", "-type=a", "web"))
	askers := []Asker{}
	client := c.Lab.Client()
	for _, h := range c.Hosts {
		askers = append(askers, Asker{"outside at " + h.Name, "/run/netns/" + client.NetNS, "http://" + h.Addr + ":8080/"})
	}
	for name, id := range c.containers("shop", "probe") {
		if name == worker.Name {
			continue // it ends when its node is drained
		}
		askers = append(askers, Asker{"inside on " + name, c.Host(name).NamespaceOf(id), "http://" + virtual[len(virtual)-1] + "/"})
	}
	l := c.Ask(askers...)
	defer l.Stop()
	c.Step("an update replaces all tasks", func() {
		c.Compose(fmt.Sprintf(busy, "2"))
		c.Run(worker, "up", "-d", "--wait")
		c.updated(worker, "web", stack.UpdateCompleted)
		l.Lost("update")
	})
	c.Step("a node is drained", func() {
		c.Run(c.Hosts[0], "node", "update", "--availability", "drain", worker.Name)
		c.Runs(time.Minute, "shop", "web", 4, c.Others(worker)...)
		c.Runs(time.Minute, "shop", "web", 0, worker)
		l.Lost("drain")
		c.Run(c.Hosts[0], "node", "update", "--availability", "active", worker.Name)
	})
	c.Step("daemons die and come back", func() {
		c.Consistent(30 * time.Second)
		for _, h := range c.Hosts[1:] {
			h.Kill()
			h.Start()
		}
		l.Lost("daemons killed")
	})
	c.Step("the leader dies", func() {
		old := c.Leader(worker)
		old.Kill()
		netlab.Eventually(t, time.Minute, "another one leads", func() error {
			return worker.Try("node", "update", "--label-add", "seen=1", worker.Name).Err()
		})
		old.Start()
		l.Lost("leader killed")
	})
	c.Step("there is no manager for a while", func() {
		c.Consistent(30 * time.Second)
		for _, h := range c.Hosts[:3] {
			h.Kill()
		}
		worker.Kill() // and a node starts again meanwhile
		worker.Start()
		for _, h := range c.Hosts[:3] {
			h.Start()
		}
		c.Runs(time.Minute, "shop", "web", 4)
		l.Lost("no manager")
	})
}
