package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// datagrams is a program for python:3 that answers each datagram with the sender's address.
const datagrams = `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("", 9000))
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(peer[0].removeprefix("::ffff:").encode() + b" " + data[:20], peer)
`

// say is a program for python:3 that sends a datagram and prints the answer.
const say = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b"hello")
print(s.recv(2000).decode())
`

// published is a stack with all kinds of published ports; its one web task is on
// the second host. %[3]s is an address that the first host alone has.
const published = `
name: ports
x-mirror: &mirror
  image: python:3
  command: %[1]s
  init: true
  stop_grace_period: 1s
services:
  web:
    <<: *mirror
    ports: ["8080:80", "9100-9105:80", "80", "%[3]s:8092:80", "127.0.0.1:8091:80"]
    deploy: {placement: {constraints: ["node.hostname==%[2]s"]}}
  echo:
    <<: *mirror
    command: %[4]s
    ports: ["9000:9000/udp"]
    deploy: {placement: {constraints: ["node.hostname==%[2]s"]}}
  fixed:
    <<: *mirror
    ports: [{target: 80, published: "8090", mode: host}]
    deploy: {placement: {constraints: ["node.hostname==%[2]s"]}}
  near:
    <<: *mirror
    ports: ["8082:80"]
    deploy: {mode: global}
    x-dhow: {prefer_local: true}
  stuck:
    <<: *mirror
    ports: ["8083:80"]
    deploy: {replicas: 3}
    x-dhow: {sticky: true}
  inner:
    <<: *mirror
    ports: ["8084:80"]
    networks: [closed]
  probe:
    image: python:3
    command: [sleep, infinity]
    init: true
    stop_grace_period: 1s
    deploy: {mode: global}
networks:
  default:
  closed: {internal: true}
`

// closed checks that nobody listens: the answer comes at once, and is no.
func (c *C) closed(h *netlab.Host, at, port string) {
	c.Helper()
	netlab.Eventually(c, 5*time.Second, fmt.Sprintf("%s refuses %s", at, port), func() error {
		start := time.Now()
		r := h.Get("http://" + net.JoinHostPort(at, port) + "/")
		if took := time.Since(start); r.Code != 7 { // refused; 28 were a timeout
			return fmt.Errorf("after %s: %w (exit code %d, want 7)", took, r.Err(), r.Code)
		}
		return nil
	})
}

// answers checks that somebody does.
func (c *C) answers(h *netlab.Host, at, port string) {
	c.Helper()
	if _, _, err := seen(h, at, port); err != nil {
		c.Errorf("from %s: %v", h.NetNS, err)
	}
}

// chosen is the published port of web that dhow says, the same on each host, and
// different from others.
func (c *C) chosen(service, port string) string {
	c.Helper()
	var at string
	for _, h := range c.Hosts {
		_, p, err := net.SplitHostPort(strings.TrimSpace(c.Run(h, "port", service, port)))
		if err != nil || at != "" && p != at {
			c.Errorf("%s says port %q, others %q: %v", h.Name, p, at, err)
		}
		at = p
	}
	return at
}

func TestPublishedPorts(t *testing.T) {
	c := New(t, "every kind of published port is open where it is to be, on every node, and nowhere else", 1, 2, "python:3")
	a, b, w := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	client := c.Lab.Client()
	c.Compose(fmt.Sprintf(published, python(mirror), b.Name, a.Addr, python(datagrams)))
	var warned string
	c.Step("the stack comes up", func() {
		r := c.Try(a, "up", "-d", "--wait")
		if warned = r.Stderr; r.Code != 0 {
			t.Fatal(r.Err())
		}
		c.Listens("ports", "80", "web", "fixed", "near", "stuck", "inner")
		netlab.Eventually(t, 10*time.Second, "echo listens", func() error { return client.Exec("python3", "-c", say, b.Addr, "9000").Err() })
	})
	c.Step("a fixed port, on nodes without a task too", func() {
		for _, h := range c.Hosts {
			c.sees(client, h.Addr, "8080", client.Addr)
		}
	})
	c.Step("UDP", func() {
		for _, h := range c.Hosts {
			if r := client.Exec("python3", "-c", say, h.Addr, "9000"); r.Stdout != client.Addr+" hello\n" {
				t.Errorf("%s: %q: %v", h.Name, r.Stdout, r.Err())
			}
			if r := h.Exec("python3", "-c", say, "127.0.0.1", "9000"); !strings.HasSuffix(r.Stdout, " hello\n") {
				t.Errorf("%s, itself: %v", h.Name, r.Err())
			}
			c.Says(5*time.Second, h, "probe", " hello", "python3", "-c", say, a.Addr, "9000")
		}
	})
	c.Step("one of a range and a free one: the same on all nodes", func() {
		ranged, free := "", ""
		for _, p := range []string{"9100", "9101", "9102", "9103", "9104", "9105"} {
			if _, _, err := seen(client, w.Addr, p); err == nil {
				ranged += p
			}
		}
		if len(ranged) != 4 {
			t.Fatalf("of the range, %q are open, want one", ranged)
		}
		list := c.Run(a, "ps", "--format", "json")
		for p := 30000; p <= 32767 && free == ""; p++ {
			if strings.Contains(list, fmt.Sprintf(`"PublishedPort":%d,`, p)) {
				free = fmt.Sprint(p)
			}
		}
		if free == "" {
			t.Fatalf("no port from 30000 on is published: %s", list)
		}
		for _, h := range c.Hosts {
			c.sees(client, h.Addr, ranged, client.Addr)
			c.sees(client, h.Addr, free, client.Addr)
		}
	})
	c.Step("dhow port says it on every node", func() {
		if got := c.chosen("near", "80"); got != "8082" {
			t.Errorf("near is at %s", got)
		}
		c.chosen("web", "80")
	})
	c.Step("host mode: on the task's node only", func() {
		c.sees(client, b.Addr, "8090", client.Addr)
		c.closed(client, a.Addr, "8090")
		c.closed(client, w.Addr, "8090")
	})
	c.Step("an address of this machine: localhost is each node's own, and an address is that of the one that has it", func() {
		for _, h := range c.Hosts {
			c.answers(h, "127.0.0.1", "8091")
			c.closed(client, h.Addr, "8091")
		}
		c.sees(client, a.Addr, "8092", client.Addr)
		c.closed(client, b.Addr, "8092")
		c.closed(client, w.Addr, "8092")
	})
	c.Step("local tasks come first where that is wanted", func() {
		on := c.containers("ports", "near")
		for _, h := range c.Hosts {
			for range 5 {
				if task, who, err := seen(client, h.Addr, "8082"); err != nil || task != on[h.Name][:12] || who != client.Addr {
					t.Errorf("%s: %s answered, want its own %.12s; it saw %s: %v", h.Name, task, on[h.Name], who, err)
				}
			}
		}
	})
	c.Step("a client stays with its task where that is wanted, whichever node it asks", func() {
		tasks := map[string]bool{}
		for _, h := range c.Hosts {
			for range 5 {
				task, _, err := seen(client, h.Addr, "8083")
				if tasks[task] = true; err != nil {
					t.Errorf("%s: %v", h.Name, err)
				}
			}
		}
		if len(tasks) != 1 {
			t.Errorf("it met %v", tasks)
		}
	})
	c.Step("a task in internal networks only is not published, and up says so", func() {
		if !strings.Contains(warned, "inner") || !strings.Contains(warned, "internal") {
			t.Errorf("up warned: %s", warned)
		}
		for _, h := range c.Hosts {
			if r := client.Get("http://" + h.Addr + ":8084/"); r.Code == 0 {
				t.Errorf("%s: inner answers: %s", h.Name, r.Stdout)
			}
		}
	})
	c.Step("containers ask every node, and a task its own port", func() {
		for _, h := range c.Hosts {
			urls := []string{"python3", "-c", fetch, "2"}
			for _, o := range c.Hosts {
				urls = append(urls, "http://"+o.Addr+":8080/", "http://"+o.Addr+":8083/")
			}
			c.Says(5*time.Second, h, "probe", " ", urls...)
			if h == b {
				c.Says(5*time.Second, h, "web", " ", urls...)
			}
		}
	})
	c.Step("what another stack or process has is refused, and the holder named", func() { c.conflicts(w, a) })
	c.Step("a service of no tasks refuses at once", func() {
		c.Run(w, "scale", "web=0")
		for _, h := range c.Hosts {
			c.closed(client, h.Addr, "8080")
			c.closed(h, "127.0.0.1", "8080")
		}
	})
	c.Step("down frees the ports everywhere", func() {
		c.Run(w, "down")
		for _, h := range c.Hosts {
			c.closed(client, h.Addr, "8082")
			bind := "import socket\nfor p in (8080, 8082, 8083, 8090, 9100): socket.create_server(('', p))"
			if r := h.Exec("python3", "-c", bind); r.Code != 0 {
				t.Errorf("%s: %v", h.Name, r.Err())
			}
		}
	})
}

// conflicts brings up another stack on one host with ports that are taken: by
// the stack ports, and by a process on another host.
func (c *C) conflicts(at, busy *netlab.Host) {
	c.Helper()
	dir := c.Dir
	defer func() { c.Dir = dir }()
	c.Dir = c.TempDir()
	const file = "name: late\nservices:\n  late: {image: \"python:3\", command: [sleep, infinity], ports: [\"%s:80\"]}\n"
	refused := func(port string, words ...string) {
		c.Helper()
		c.Compose(fmt.Sprintf(file, port))
		r := c.Try(at, "up", "-d", "--wait")
		if r.Code == 0 {
			c.Errorf("port %s: up succeeded", port)
			c.Run(at, "down")
		}
		for _, w := range words {
			if !strings.Contains(r.Stderr, w) {
				c.Errorf("port %s: up says %q, without %q", port, r.Stderr, w)
			}
		}
	}
	refused("8080", "8080", "ports", "web")
	var l net.Listener
	err := netlab.Inside("/run/netns/"+busy.NetNS, func() (err error) {
		l, err = net.Listen("tcp", "0.0.0.0:8077")
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer l.Close()
	refused("8077", "8077", busy.Name, "process")
}
