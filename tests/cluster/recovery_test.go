package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// kept is a stack with what a state has to keep: a secret that can be read.
const kept = `
name: kept
services:
  web:
    image: busybox:latest
    command: ["sleep", "1000000"]
    network_mode: host
    stop_grace_period: 1s
    secrets: [word]
    deploy: {replicas: 3}
secrets:
  word: {file: ./word}
`

// keep writes the stack and its secret.
func (c *C) keep() {
	c.Helper()
	c.Compose(kept)
	if err := os.WriteFile(filepath.Join(c.Dir, "word"), []byte("open sesame"), 0o600); err != nil {
		c.Fatal(err)
	}
}

// reads reports whether the container of a stack's service can read its secret.
func (c *C) reads(h *netlab.Host, word string) {
	c.Helper()
	netlab.Eventually(c, 20*time.Second, "the secret can be read", func() error {
		r := c.Try(h, "exec", "-T", "web", "cat", "/run/secrets/word")
		if r.Code != 0 || strings.TrimSpace(r.Stdout) != word {
			return fmt.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}

func TestLostQuorumIsRecoveredByOneCommand(t *testing.T) {
	c := New(t, "when most managers are lost, reads go on, writes say what to do, one command recovers, and nothing is lost", 3, 1, "busybox:latest")
	a, b, m3, w := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3]
	c.keep()
	c.Run(w, "up", "-d", "--wait")
	b.Kill()
	m3.Kill()
	c.Step("what reads goes on, what writes says what to do", func() {
		c.refuses(w, []string{"swarm", "join-token", "--rotate", "worker"}, "majority", "--force-new-cluster")
		c.refuses(a, []string{"node", "ls"}, "majority", "--stale")
		for _, h := range []*netlab.Host{a, w} {
			if out := c.Run(h, "node", "ls", "--stale", "--format", "{{.Hostname}}"); !strings.Contains(out, m3.Name) {
				t.Errorf("stale: %s", out)
			}
		}
	})
	c.Step("one manager goes on alone", func() {
		c.refuses(w, []string{"swarm", "init", "--force-new-cluster"}, "manager")
		c.Run(a, "swarm", "init", "--force-new-cluster")
		c.shows(a, a.Name, "Ready Active Leader")
		c.shows(w, w.Name, "Ready Active")
		c.Runs(20*time.Second, "kept", "web", 3, a, w)
		c.reads(w, "open sesame")
	})
	c.Step("the others come back as workers, and can be promoted again", func() {
		b.Start()
		m3.Start()
		c.shows(w, b.Name, "Ready Active")
		c.shows(w, m3.Name, "Ready Active")
		c.Run(w, "node", "promote", b.Name, m3.Name)
		c.shows(m3, b.Name, "Ready Active Reachable")
		c.shows(m3, m3.Name, "Ready Active Reachable")
		c.Runs(20*time.Second, "kept", "web", 3)
		a.Kill()
		c.Run(m3, "up", "-d")
		a.Start()
	})
}

func TestSnapshotsRestore(t *testing.T) {
	c := New(t, "a snapshot brings back what the cluster knew, on the same cluster and on a new one after the loss of all", 3, 0, "busybox:latest")
	a, b := c.Hosts[0], c.Hosts[1]
	file := filepath.Join(c.Dir, "state.snap")
	c.keep()
	c.Step("save from any node", func() {
		c.Run(b, "up", "-d", "--wait")
		c.Run(b, "node", "update", "--label-add", "zone=x", b.Name)
		c.Run(c.Hosts[2], "swarm", "snapshot", "save", file)
		if out := c.Run(b, "swarm", "snapshot", "inspect", "--format", "{{.Nodes}} {{.Stacks}} {{.Services}} {{.Tasks}}", file); strings.TrimSpace(out) != "3 1 1 3" {
			t.Errorf("inspect: %s", out)
		}
	})
	c.Step("restore on the same cluster undoes what came after", func() {
		c.Run(b, "down")
		c.Runs(10*time.Second, "kept", "web", 0)
		c.Run(b, "swarm", "snapshot", "restore", "--force", file)
		c.Runs(20*time.Second, "kept", "web", 3)
		c.reads(b, "open sesame")
		c.SameState()
	})
	c.Step("another manager can read the secrets too", func() {
		lead := c.Leader(b)
		lead.Stop()
		c.Run(c.Others(lead)[0], "restart", "web")
		c.reads(c.Others(lead)[0], "open sesame")
		lead.Start()
	})
	c.Step("all are lost; a new cluster of the same machines takes the snapshot", func() {
		for i := len(c.Hosts) - 1; i >= 0; i-- {
			c.Run(c.Hosts[i], "swarm", "leave", "--force")
		}
		c.Run(a, "swarm", "init", "--advertise-addr", a.Addr)
		for _, h := range c.Others(a) {
			h.Join(a, "manager")
		}
		c.Run(b, "swarm", "snapshot", "restore", "--force", file)
		c.Runs(20*time.Second, "kept", "web", 3)
		c.reads(a, "open sesame")
		if n := c.inspectNode(a, b.Name); n.Spec.Labels["zone"] != "x" {
			t.Errorf("labels %v", n.Spec.Labels)
		}
		if out := c.Run(b, "plan"); strings.Contains(out, "web") {
			t.Errorf("the same file is a change: %s", out)
		}
		c.SameState()
	})
}
