package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// app is a stack of real servers; a probe on each node uses them by name.
const app = `
name: app
services:
  web:
    image: nginx:latest
    healthcheck: {test: [CMD, curl, -fsS, http://127.0.0.1/], interval: 1s, timeout: 2s, retries: 3}
    stop_grace_period: 2s
    deploy: {replicas: 5, placement: {max_replicas_per_node: 1}}
    networks: [front]
  cache:
    image: redis:7
    stop_grace_period: 2s
    networks: [back]
  db:
    image: postgres:15
    environment: {POSTGRES_PASSWORD: secret}
    healthcheck: {test: [CMD, pg_isready, -U, postgres, -h, 127.0.0.1], interval: 1s, timeout: 2s, retries: 30}
    stop_grace_period: 2s
    networks: [back]
  probe:
    image: python:3
    command: [sleep, infinity]
    stop_grace_period: 1s
    init: true
    deploy: {mode: global}
    networks: [front, back]
networks:
  front:
  back: {internal: true}
`

// fetch is a program for python:3 that asks each URL so many times and prints the answers.
const fetch = `
import sys, urllib.request
for i in range(int(sys.argv[1])):
    for u in sys.argv[2:]: print(urllib.request.urlopen(u, timeout=5).read().decode().strip()[:60])
`

func TestServicesTalkAcrossNodes(t *testing.T) {
	c := New(t, "on five hosts, every container reaches every service of its networks by name, wherever it runs", 3, 2,
		"nginx:latest", "redis:7", "postgres:15", "python:3")
	c.Compose(app)
	c.Step("the stack comes up", func() { c.Run(c.Hosts[0], "up", "-d", "--wait") })
	c.Step("real servers answer on every node, by the names of their services", func() {
		for _, h := range c.Hosts {
			c.Says(10*time.Second, h, "probe", "True", "python3", "-c", "import redis; print(redis.Redis('cache', socket_timeout=5).ping())")
			c.Says(10*time.Second, h, "probe", "(42,)", "python3", "-c",
				"import psycopg2; c=psycopg2.connect(host='db', user='postgres', password='secret', connect_timeout=5).cursor(); c.execute('select 42'); print(c.fetchone())")
			c.Says(10*time.Second, h, "probe", "nginx", "python3", "-c", fetch, "3", "http://web/")
		}
	})
	c.Step("tasks are reached one by one, on all nodes", func() {
		for _, h := range c.Hosts {
			r := c.In(h, "probe", "python3", "-c", "import socket; print(*sorted({a[4][0] for a in socket.getaddrinfo('tasks.web', 80, socket.AF_INET)}))")
			if addrs := strings.Fields(r.Stdout); r.Code != 0 || len(addrs) != 5 {
				t.Errorf("%s: tasks.web is %v: %v", h.Name, addrs, r.Err())
			} else if r := c.In(h, "probe", append([]string{"python3", "-c", fetch, "1"}, each("http://%s/", addrs)...)...); r.Code != 0 {
				t.Errorf("%s: %v", h.Name, r.Err())
			}
		}
	})
	c.Step("down leaves nothing on any node", func() { c.Run(c.Hosts[4], "down") })
}

func each(format string, list []string) (out []string) {
	for _, s := range list {
		out = append(out, fmt.Sprintf(format, s))
	}
	return out
}

// mesh is a stack with a published port and fewer tasks than nodes.
const mesh = `
name: mesh
services:
  web:
    image: python:3
    command: %s
    ports: ["8080:80", "8081:80/udp"]
    init: true
    stop_grace_period: 1s
    environment: {ME: web}
    deploy: {replicas: 2}
`

func TestClientsAddressesAreSeen(t *testing.T) {
	c := New(t, "a published port is reached on every node, and the task sees the client's own address", 3, 2, "python:3")
	c.Compose(fmt.Sprintf(mesh, python(mirror)))
	client := c.Lab.Client()
	c.Step("the stack comes up", func() {
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.Listens("mesh", "80", "web")
	})
	c.Step("every node answers, with the client's address", func() {
		for _, h := range c.Hosts {
			netlab.Eventually(t, 10*time.Second, h.Name+" answers", func() error {
				for range 4 { // each task at least once
					r := client.Get("http://" + h.Addr + ":8080/")
					if err := r.Err(); err != nil {
						return err
					}
					if got := strings.Fields(r.Stdout); len(got) != 2 || got[1] != client.Addr {
						return fmt.Errorf("the task saw %q, the client has %s", r.Stdout, client.Addr)
					}
				}
				return nil
			})
		}
	})
	c.Step("so does each node for itself, by localhost and by its own address", func() {
		for _, h := range c.Hosts {
			for _, at := range []string{"127.0.0.1", h.Addr} {
				if r := h.Get("http://" + at + ":8080/"); r.Code != 0 {
					t.Errorf("%s at %s: %v", h.Name, at, r.Err())
				}
			}
		}
	})
	c.Step("and one node for another", func() {
		for i, h := range c.Hosts {
			other := c.Hosts[(i+1)%len(c.Hosts)]
			if r := h.Get("http://" + other.Addr + ":8080/"); r.Code != 0 { // the task may be on h itself: it sees the mesh's address then
				t.Errorf("%s at %s: %v", h.Name, other.Name, r.Err())
			}
		}
	})
}
