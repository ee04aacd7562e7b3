package cluster

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// at waits until every node knows that a node is at an address.
func (c *C) at(h *netlab.Host, addr string) {
	c.Helper()
	netlab.Eventually(c, 20*time.Second, fmt.Sprintf("%s is at %s", h.Name, addr), func() error {
		for _, o := range c.Hosts {
			r := o.Try("node", "inspect", h.Name, "--format", "{{.Status.State}} {{.Status.Addr}}")
			if strings.TrimSpace(r.Stdout) != "ready "+addr {
				return fmt.Errorf("%s says %s%s", o.Name, r.Stdout, r.Stderr)
			}
		}
		return nil
	})
}

func TestNodesMeetOverIPv6(t *testing.T) {
	t.Parallel()
	c := New(t, "machines without IPv4 are a cluster; an advertised address that has gone gives way to one that is there", 0, 0)
	for range 4 {
		h := c.Lab.Host()
		h.OnlySix()
		h.Load("busybox:latest")
		c.Hosts = append(c.Hosts, h)
	}
	a, b, m3, w := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3]
	second := w.AddSix()
	c.Step("init and join: an address, an address with a port, an interface, one of two addresses", func() {
		c.Run(a, "swarm", "init", "--advertise-addr", a.Addr)
		if r := c.Run(a, "swarm", "join-token", "worker"); !strings.Contains(r, net.JoinHostPort(a.Addr, "2377")) {
			t.Errorf("join-token: %s", r)
		}
		c.Run(b, "swarm", "join", "--token", a.Token("manager"), "--advertise-addr", net.JoinHostPort(b.Addr, "2377"), a.Addr)
		c.Run(m3, "swarm", "join", "--token", a.Token("manager"), "--advertise-addr", "eth0", net.JoinHostPort(a.Addr, "2377"))
		c.Run(w, "swarm", "join", "--token", a.Token("worker"), "--advertise-addr", second, net.JoinHostPort(b.Addr, "2377"))
		for _, h := range []*netlab.Host{a, b, m3} {
			c.at(h, h.Addr)
			c.shows(w, h.Name, c.managerStatus(h, a))
		}
		c.at(w, second)
		if d := w.Try("system", "info", "--format", "{{.Swarm.NodeAddr}} {{len .Swarm.RemoteManagers}}"); strings.TrimSpace(d.Stdout) != second+" 3" {
			t.Errorf("system info: %s%s", d.Stdout, d.Stderr)
		}
	})
	c.Step("a stack spreads, and commands reach it from anywhere", func() {
		c.Compose(plain)
		c.Run(w, "up", "-d", "--wait")
		if got := c.Runs(5*time.Second, "shop", "web", 6); len(got) != 4 {
			t.Errorf("runs on %v", got)
		}
		for _, h := range c.Hosts {
			if out := c.Run(w, "exec", "-T", "--node", h.Name, "web", "echo", "here"); strings.TrimSpace(out) != "here" {
				t.Errorf("exec on %s: %q", h.Name, out)
			}
		}
	})
	c.Step("a dead daemon is found; another leads", func() {
		a.Kill()
		start := time.Now()
		c.shows(b, a.Name, "Down Active Unreachable")
		t.Logf("  noticed after %s", time.Since(start).Round(10*time.Millisecond))
		c.Runs(20*time.Second, "shop", "web", 6, c.Others(a)...)
		a.Start()
		c.shows(w, a.Name, "Ready Active Reachable")
	})
	c.Step("the advertised address is gone when the daemon starts, and is back later", func() {
		w.Stop()
		w.DropSix(second)
		w.Start()
		c.at(w, w.Addr)
		c.Runs(20*time.Second, "shop", "web", 6)
	})
}

// managerStatus is what `node ls` shows of a manager that is up.
func (c *C) managerStatus(h, leader *netlab.Host) string {
	if h == leader {
		return "Ready Active Leader"
	}
	return "Ready Active Reachable"
}
