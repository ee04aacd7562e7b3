package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/tests/netlab"
)

// chain has one service after the other, and those that follow the nodes.
const chain = `
name: chain
x-base: &base
  image: busybox:latest
  network_mode: host
  stop_grace_period: 1s
services:
  db:
    <<: *base
    command: ["sh", "-c", "sleep 1; touch /ok; sleep 1000000"]
    healthcheck: {test: ["CMD", "test", "-f", "/ok"], interval: 300ms, start_period: 10s}
  migrate:
    <<: *base
    command: ["sh", "-c", "sleep 1; echo migrated"]
    depends_on: {db: {condition: service_healthy}}
    deploy: {placement: {constraints: ["service != db"]}}
  app:
    <<: *base
    command: ["sleep", "1000000"]
    depends_on: {migrate: {condition: service_completed_successfully}}
    deploy: {replicas: 2, placement: {constraints: ["service != db"]}}
  each:
    <<: *base
    command: ["sleep", "1000000"]
    deploy: {mode: global}
  pieces:
    <<: *base
    command: ["sh", "-c", "sleep 2; echo piece"]
    deploy: {mode: replicated-job, replicas: 4}
  visit:
    <<: *base
    command: ["echo", "been here"]
    deploy: {mode: global-job}
`

// completed waits until n tasks of a service have completed and returns their nodes.
func (c *C) completed(h *netlab.Host, limit time.Duration, service string, n int) map[string]int {
	c.Helper()
	got := map[string]int{}
	netlab.Eventually(c, limit, fmt.Sprintf("%d tasks of %s complete", n, service), func() error {
		st, err := c.Status(h, "chain", false)
		if err != nil {
			return err
		}
		clear(got)
		for _, t := range st.Tasks {
			if t.Service == service && t.Status.State == stack.TaskCompleted && t.Desired != stack.DesiredRemove {
				got[st.Nodes[t.Node].Hostname]++
			}
		}
		if total(got) != n {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	return got
}

func TestDependenciesAndJobsAcrossNodes(t *testing.T) {
	c := New(t, "depends_on, jobs and global services work across nodes, and follow nodes that come and go", 1, 2, "busybox:latest")
	c.Compose(chain)
	worker := c.Hosts[2]
	c.Step("each waits for what it depends on, wherever that is", func() {
		up := make(chan netlab.Result, 1)
		go func() { up <- c.Try(worker, "up", "-d", "--wait") }()
		waited := ""
		netlab.Eventually(t, 30*time.Second, "all is up", func() error {
			apps, err := c.Count("chain", "app") // first: what is seen to run has waited until then
			if err != nil {
				return err
			}
			st, err := c.Status(c.Hosts[1], "chain", false)
			if err != nil {
				return err
			}
			migrated := false
			for _, task := range st.Tasks {
				switch task.Service {
				case "migrate":
					migrated = task.Status.State == stack.TaskCompleted
				case "app":
					waited += task.Status.Message + "\n"
				}
			}
			if total(apps) > 0 && !migrated {
				t.Fatalf("app runs before migrate has completed: %v", apps)
			}
			for _, s := range st.Services {
				if !s.Ready {
					return fmt.Errorf("%s: %s", s.Name, s.Message)
				}
			}
			return nil
		})
		if err := (<-up).Err(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(waited, "waits for migrate to complete") {
			t.Errorf("app said: %s", waited)
		}
		db, app := c.Runs(time.Second, "chain", "db", 1), c.Runs(time.Second, "chain", "app", 2)
		for host := range db {
			if app[host] > 0 {
				t.Errorf("app runs beside db on %s", host)
			}
		}
	})
	c.Step("jobs have run as often as they should", func() {
		c.completed(worker, 10*time.Second, "pieces", 4)
		if got := c.completed(worker, 10*time.Second, "visit", 3); len(got) != 3 {
			t.Errorf("visited %v", got)
		}
	})
	c.Step("up again runs nothing again", func() {
		if out := c.Run(c.Hosts[1], "plan"); strings.Contains(out, "pieces") || strings.Contains(out, "migrate") {
			t.Errorf("plan: %s", out)
		}
	})
	c.Step("a node that joins gets what belongs on each", func() {
		fresh := c.Lab.Host()
		fresh.Join(c.Hosts[0], "worker")
		c.Hosts = append(c.Hosts, fresh)
		got, err := map[string]int(nil), error(nil)
		netlab.Eventually(t, 20*time.Second, "each runs on all", func() error {
			if got, err = c.Count("chain", "each"); err == nil && (got[fresh.Name] != 1 || total(got) != 4) {
				err = fmt.Errorf("%v", got)
			}
			return err
		})
		c.completed(worker, 20*time.Second, "visit", 4)
		c.completed(worker, time.Second, "pieces", 4)
	})
	c.Step("one that dies is not waited for, and finds its task when it is back", func() {
		fresh := c.Hosts[3]
		fresh.Kill()
		netlab.Eventually(t, 10*time.Second, "the stack is ready without it", func() error {
			s, err := c.Service(worker, "chain", "each")
			if err == nil && (s.Wanted != 3 || !s.Ready) {
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
		fresh.Start()
		netlab.Eventually(t, 20*time.Second, "each runs on all, once", func() error {
			got, err := c.Count("chain", "each")
			if err == nil && (got[fresh.Name] != 1 || total(got) != 4) {
				err = fmt.Errorf("%v", got)
			}
			return err
		})
		c.completed(worker, 10*time.Second, "visit", 4)
	})
}
