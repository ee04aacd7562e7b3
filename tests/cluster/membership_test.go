package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

// outsider is a host of the lab that is in no cluster yet.
func (c *C) outsider() *netlab.Host {
	c.Helper()
	h := c.Lab.Host()
	return h
}

// refuses runs dhow on a host; it must fail and say all of the words.
func (c *C) refuses(h *netlab.Host, args []string, words ...string) {
	c.Helper()
	r := c.Try(h, args...)
	if r.Code == 0 {
		c.Errorf("dhow %s: succeeded", strings.Join(args, " "))
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			c.Errorf("dhow %s: %q does not say %q", strings.Join(args, " "), r.Stderr, w)
		}
	}
}

// nodes is what a host says of all nodes: "role status availability manager-status" by host name.
func (c *C) nodes(h *netlab.Host) (map[string]string, error) {
	r := h.Try("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}")
	if err := r.Err(); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(r.Stdout) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[name] = strings.TrimSpace(rest)
	}
	return out, nil
}

// shows waits until a host says this of a node; "" is that there is none of the name.
func (c *C) shows(h *netlab.Host, name, want string) {
	c.Helper()
	netlab.Eventually(c, 20*time.Second, fmt.Sprintf("%s shows %s as %q", h.Name, name, want), func() error {
		got, err := c.nodes(h)
		if err == nil && got[name] != want {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
}

func (c *C) inspectNode(h *netlab.Host, ref string) (n swarm.Node) {
	c.Helper()
	if err := json.Unmarshal([]byte(c.Run(h, "node", "inspect", ref, "--format", "json")), &n); err != nil {
		c.Fatal(err)
	}
	return n
}

func TestMachinesJoinAndLeave(t *testing.T) {
	c := New(t, "machines join with a token, change their roles and leave, and what is refused says why", 3, 1)
	a, b, m3, w := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3]
	out := c.outsider()
	c.Step("tokens that are not good are refused", func() {
		addr := a.Addr + ":2377"
		old := a.Token("worker")
		c.refuses(out, []string{"swarm", "join", "--token", "nonsense", addr}, "join token")
		c.refuses(out, []string{"swarm", "join", "--token", old[:len(old)-4] + "aaaa", addr}, "join token", "join-token")
		c.Run(b, "swarm", "join-token", "--rotate", "worker")
		c.refuses(out, []string{"swarm", "join", "--token", old, addr}, "was replaced", "dhow swarm join-token")
		c.refuses(out, []string{"swarm", "join", "--token", old, "--advertise-addr", "nosuch0", addr}, "nosuch0", "interface")
		c.refuses(w, []string{"swarm", "join", "--token", old, addr}, "already part of a swarm")
	})
	c.Step("a machine with stacks of its own is refused", func() {
		out.Load("busybox:latest")
		c.Compose(plain)
		c.Run(out, "up", "-d")
		c.refuses(out, []string{"swarm", "join", "--token", a.Token("worker"), a.Addr}, "shop", "take it down")
		c.Run(out, "down")
	})
	c.Step("it joins through a manager that does not lead, by the name of its interface", func() {
		c.Run(out, "swarm", "join", "--token", a.Token("worker"), "--advertise-addr", "eth0", "--listen-addr", "eth0:2377", m3.Addr)
		c.Hosts = append(c.Hosts, out)
		for _, h := range c.Hosts {
			c.shows(h, out.Name, "Ready Active")
		}
		if d := out.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{len .Swarm.RemoteManagers}} {{.Swarm.NodeAddr}}"); strings.TrimSpace(d.Stdout) != "active false 3 "+out.Addr {
			t.Errorf("system info: %s%s", d.Stdout, d.Stderr)
		}
	})
	c.Step("promoted, it is a manager; demoted, a worker; again", func() {
		for range 2 {
			c.Run(w, "node", "promote", out.Name)
			c.shows(b, out.Name, "Ready Active Reachable")
			netlab.Eventually(t, 10*time.Second, "it knows itself", func() error {
				if d := out.Try("system", "info", "--format", "{{.Swarm.ControlAvailable}} {{.Swarm.Managers}} {{.Swarm.Nodes}}"); strings.TrimSpace(d.Stdout) != "true 4 5" {
					return fmt.Errorf("system info: %s%s", d.Stdout, d.Stderr)
				}
				return nil
			})
			c.Run(out, "node", "demote", out.Name)
			netlab.Eventually(t, 10*time.Second, "it is a worker", func() error {
				if d := out.Try("system", "info", "--format", "{{.Swarm.ControlAvailable}}"); strings.TrimSpace(d.Stdout) != "false" {
					return fmt.Errorf("system info: %s%s", d.Stdout, d.Stderr)
				}
				return nil
			})
			c.shows(b, out.Name, "Ready Active")
		}
	})
	c.Step("demoted while its daemon is dead, it is a worker when it starts", func() {
		c.Run(w, "node", "promote", out.Name)
		c.shows(b, out.Name, "Ready Active Reachable")
		out.Kill()
		c.Run(w, "node", "demote", out.Name)
		out.Start()
		c.shows(out, out.Name, "Ready Active")
		netlab.Eventually(t, 10*time.Second, "it is a worker", func() error {
			if d := out.Try("system", "info", "--format", "{{.Swarm.ControlAvailable}}"); strings.TrimSpace(d.Stdout) != "false" {
				return fmt.Errorf("system info: %s%s", d.Stdout, d.Stderr)
			}
			return nil
		})
	})
	c.Step("labels and availability are those of every node's view", func() {
		c.Run(w, "node", "update", "--label-add", "zone=x", "--availability", "pause", out.Name)
		c.shows(m3, out.Name, "Ready Pause")
		if n := c.inspectNode(b, out.Name); n.Spec.Labels["zone"] != "x" || n.Status.Addr != out.Addr {
			t.Errorf("node %+v", n)
		}
		c.Run(b, "node", "update", "--label-rm", "zone", "--availability", "active", out.Name)
		c.shows(w, out.Name, "Ready Active")
	})
	c.Step("a node that is up goes only by force, and says so itself", func() {
		c.refuses(b, []string{"node", "rm", out.Name}, "is up", "force")
		c.refuses(b, []string{"node", "rm", m3.Name}, "manager", "demote")
		c.Run(b, "node", "rm", "--force", out.Name)
		c.shows(a, out.Name, "")
		netlab.Eventually(t, 15*time.Second, "it says that it was removed", func() error {
			d := out.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.Error}}")
			if !strings.HasPrefix(d.Stdout, "error ") || !strings.Contains(d.Stdout, "removed") {
				return fmt.Errorf("system info: %s%s", d.Stdout, d.Stderr)
			}
			return nil
		})
		c.refuses(out, []string{"node", "ls"}, "removed from its cluster", "swarm leave --force")
		c.Run(out, "swarm", "leave", "--force")
		c.Run(out, "swarm", "join", "--token", b.Token("worker"), b.Addr)
		c.shows(a, out.Name, "Ready Active")
	})
	c.Step("leave: a worker, a manager, the leader", func() {
		c.Run(out, "swarm", "leave")
		c.shows(w, out.Name, "")
		c.refuses(m3, []string{"swarm", "leave"}, "manager", "demote")
		lead := c.Leader(w)
		c.Run(lead, "swarm", "leave", "--force")
		c.Hosts = c.Others(lead, out)
		c.shows(w, lead.Name, "")
		rest := c.Others(w)
		lead = c.Leader(w)
		c.Run(lead, "swarm", "leave", "--force")
		c.Hosts = c.Others(lead)
		c.shows(w, lead.Name, "")
		last := c.Others(w)[0]
		if !slices.Contains(rest, last) {
			t.Fatal("no manager is left")
		}
		c.refuses(last, []string{"swarm", "leave"}, "last manager", "--force")
		c.refuses(last, []string{"node", "demote", last.Name}, "last manager")
		c.Run(last, "swarm", "leave", "--force")
		if d := last.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}}"); strings.TrimSpace(d.Stdout) != "inactive" {
			t.Errorf("system info: %s%s", d.Stdout, d.Stderr)
		}
		c.Run(w, "swarm", "leave", "--force")
	})
}
