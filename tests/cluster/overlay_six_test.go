package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// families is a stack whose networks have both families, IPv4 only and IPv6 only.
const families = `
name: families
x-mirror: &mirror
  image: python:3
  command: %s
  init: true
  stop_grace_period: 1s
services:
  dual:
    <<: *mirror
    ports: ["8080:80"]
    networks: [both]
    deploy: {replicas: 2, placement: {max_replicas_per_node: 1}}
  old:
    <<: *mirror
    ports: ["8081:80"]
    networks: [four]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
  new:
    <<: *mirror
    networks: [six]
  probe:
    image: python:3
    command: [sleep, infinity]
    init: true
    stop_grace_period: 1s
    deploy: {mode: global}
    networks: [both, six]
networks:
  both: {enable_ipv6: true}
  four:
  six: {enable_ipv6: true, enable_ipv4: false}
`

// lookup is a program for python:3 that prints the addresses of a name, of one
// family (4 or 6), in order.
const lookup = `
import socket, sys
f = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
try: print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[2], 80, f, socket.SOCK_STREAM)}))
except socket.gaierror: print("none")
`

// seen is who answered a request to a mirror, and whom it saw.
func seen(h *netlab.Host, at string, port string) (task, client string, err error) {
	r := h.Get("http://" + net.JoinHostPort(at, port) + "/")
	if err := r.Err(); err != nil {
		return "", "", err
	}
	f := strings.Fields(r.Stdout)
	if len(f) != 2 {
		return "", "", fmt.Errorf("the mirror said %q", r.Stdout)
	}
	return f[0], f[1], nil
}

// sees asks a mirror often enough to meet each task, until all saw the client as want.
func (c *C) sees(h *netlab.Host, at, port, want string) {
	c.Helper()
	netlab.Eventually(c, 10*time.Second, fmt.Sprintf("%s port %s: the task sees %s", at, port, want), func() error {
		for range 4 {
			if task, client, err := seen(h, at, port); err != nil || client != want {
				return fmt.Errorf("task %s saw %q: %w", task, client, err)
			}
		}
		return nil
	})
}

// addressesOf is what a name is for a service's container on a host.
func (c *C) addressesOf(h *netlab.Host, service, family, name string) []string {
	c.Helper()
	r := c.In(h, service, "python3", "-c", lookup, family, name)
	if r.Code != 0 {
		c.Fatal(r.Err())
	}
	return strings.Fields(r.Stdout)
}

// talksInFamilies checks names and requests between containers of the stack families.
func (c *C) talksInFamilies() {
	c.Helper()
	for _, h := range c.Hosts {
		for name, counts := range map[string][2]int{"dual": {1, 1}, "tasks.dual": {2, 2}, "new": {0, 1}} {
			for i, family := range []string{"4", "6"} {
				got := slices.DeleteFunc(c.addressesOf(h, "probe", family, name), func(s string) bool { return s == "none" })
				if len(got) != counts[i] {
					c.Errorf("%s: %s has the IPv%s addresses %v, want %d", h.Name, name, family, got, counts[i])
				}
				for _, a := range got {
					if ip, err := netip.ParseAddr(a); err != nil || ip.Is4() != (family == "4") {
						c.Errorf("%s: %s is %v", h.Name, name, got)
					}
					c.Says(10*time.Second, h, "probe", " ", "python3", "-c", fetch, "4", "http://"+net.JoinHostPort(a, "80")+"/")
				}
			}
		}
	}
}

func TestNetworksOfBothFamilies(t *testing.T) {
	c := New(t, "networks have IPv4, IPv6 or both on all nodes; who asks a published port over IPv6 is seen with the own address", 1, 2, "python:3")
	six := map[string]string{}
	for _, h := range c.Hosts {
		six[h.Name] = h.AddSix()
	}
	client := c.Lab.Client()
	client6 := client.AddSix()
	c.Compose(fmt.Sprintf(families, python(mirror), c.Hosts[1].Name))
	c.Step("the stack comes up", func() {
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.Listens("families", "80", "dual", "old", "new")
	})
	c.Step("names and virtual addresses are of the network's families", c.talksInFamilies)
	c.Step("clients of both families are seen with their own addresses, whichever node they ask", func() {
		for _, h := range c.Hosts {
			c.sees(client, six[h.Name], "8080", client6)
			c.sees(client, h.Addr, "8080", client.Addr)
			c.sees(client, h.Addr, "8081", client.Addr)
		}
	})
	c.Step("a task without IPv6 is reached over IPv6 on every node", func() {
		for _, h := range c.Hosts {
			if _, _, err := seen(client, six[h.Name], "8081"); err != nil {
				t.Errorf("%s: %v", h.Name, err)
			}
		}
	})
	c.Step("nodes and containers ask nodes over IPv6, though tunnels have IPv4", func() {
		for _, h := range c.Hosts {
			for _, o := range c.Hosts {
				for _, port := range []string{"8080", "8081"} {
					for range 4 {
						if _, _, err := seen(h, six[o.Name], port); err != nil {
							t.Errorf("%s asks %s: %v", h.Name, o.Name, err)
						}
					}
				}
				c.Says(5*time.Second, h, "probe", " ", "python3", "-c", fetch, "4", "http://["+six[o.Name]+"]:8080/")
			}
		}
	})
	c.Step("down", func() { c.Run(c.Hosts[2], "down") })
}

func TestMachinesWithoutIPv4(t *testing.T) {
	c := New(t, "machines without IPv4 carry networks of both families, and clients are seen with their own addresses", 0, 0)
	for range 3 {
		h := c.Lab.Host()
		h.OnlySix()
		h.Load("python:3")
		c.Hosts = append(c.Hosts, h)
	}
	c.Run(c.Hosts[0], "swarm", "init", "--advertise-addr", c.Hosts[0].Addr)
	for _, h := range c.Hosts[1:] {
		h.Join(c.Hosts[0], "worker")
	}
	client := c.Lab.Client()
	client.OnlySix()
	c.Compose(fmt.Sprintf(families, python(mirror), c.Hosts[1].Name))
	c.Step("the stack comes up", func() {
		c.Run(c.Hosts[0], "up", "-d", "--wait")
		c.Listens("families", "80", "dual", "old", "new")
	})
	c.Step("containers talk by both families", c.talksInFamilies)
	c.Step("their MTU leaves room for IPv6 underneath", func() {
		for _, h := range c.Hosts {
			c.Says(5*time.Second, h, "probe", "1430", "cat", "/sys/class/net/eth0/mtu")
		}
	})
	c.Step("published ports", func() {
		for _, h := range c.Hosts {
			c.sees(client, h.Addr, "8080", client.Addr)
			if _, _, err := seen(client, h.Addr, "8081"); err != nil {
				t.Errorf("%s: %v", h.Name, err)
			}
			for _, o := range c.Hosts {
				if _, _, err := seen(h, o.Addr, "8080"); err != nil {
					t.Errorf("%s asks %s: %v", h.Name, o.Name, err)
				}
			}
		}
	})
	c.Step("down", func() { c.Run(c.Hosts[2], "down") })
}
