package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

func TestLeadershipMovesWithoutALostWrite(t *testing.T) {
	c := New(t, "the lead moves when its manager is demoted, ends or hangs, and no write is lost", 3, 1)
	w := c.Hosts[3]
	c.Step("the leader is demoted", func() {
		lead := c.Leader(w)
		stop := c.writes(w.Name, w, c.Others(w, lead)[0])
		c.Run(w, "node", "demote", lead.Name)
		c.shows(w, lead.Name, "Ready Active")
		pause(t.Context(), 2*time.Second)
		t.Logf("  %d writes", stop())
		c.Run(w, "node", "promote", lead.Name)
		c.shows(w, lead.Name, "Ready Active Reachable")
	})
	c.Step("the leader's daemon ends", func() {
		lead := c.Leader(w)
		stop := c.writes(w.Name, w, c.Others(w, lead)[0])
		lead.Stop()
		netlab.Eventually(t, 5*time.Second, "another leads", func() error {
			if now := c.Leader(w); now == lead {
				return fmt.Errorf("%s leads", now.Name)
			}
			return nil
		})
		pause(t.Context(), 2*time.Second)
		t.Logf("  %d writes", stop())
		lead.Start()
		c.shows(w, lead.Name, "Ready Active Reachable")
	})
	c.Step("the leader hangs for 30 s, and comes back as one that follows", func() {
		lead := c.Leader(w)
		others := c.Others(w, lead)
		lead.Pause()
		stop := c.writes(w.Name, w, others[0])
		c.shows(w, lead.Name, "Down Active Unreachable")
		pause(t.Context(), 30*time.Second) // it is the length that is tested
		t.Logf("  %d writes", stop())
		last := c.inspectNode(w, w.Name).Spec.Labels["v"]
		lead.Continue()
		if got := c.inspectNode(lead, w.Name).Spec.Labels["v"]; got != last {
			t.Errorf("it shows %q, and the others %q", got, last)
		}
		c.shows(w, lead.Name, "Ready Active Reachable")
		c.Run(lead, "node", "update", "--label-add", "v=after", w.Name)
		if got := c.inspectNode(others[1], w.Name).Spec.Labels["v"]; got != "after" {
			t.Errorf("the label is %q", got)
		}
	})
	c.Step("cut off one way, it is no obstacle", func() {
		lead := c.Leader(w)
		deaf, other := c.Others(w, lead)[0], c.Others(w, lead)[1]
		c.Lab.Cut(deaf, lead)
		stop := c.writes(w.Name, w, other)
		pause(t.Context(), 5*time.Second)
		t.Logf("  %d writes", stop())
		c.Lab.Heal()
		netlab.Eventually(t, 10*time.Second, "all take commands again", func() error {
			return errors.Join(c.Try(deaf, "node", "update", "--label-add", "v=healed", w.Name).Err(),
				c.Try(lead, "node", "update", "--label-add", "v=healed", w.Name).Err())
		})
	})
}

func TestMachinesComeBackWithOtherAddresses(t *testing.T) {
	c := New(t, "a machine that comes back with another address is found again: workers, and all managers one after the other", 3, 1)
	w := c.Hosts[3]
	for _, h := range []*netlab.Host{w, c.Leader(w), c.Others(w, c.Leader(w))[0], c.Others(w, c.Leader(w))[1]} {
		c.Step("another address for "+h.Name, func() {
			h.Stop()
			h.Readdress()
			h.Start()
			netlab.Eventually(t, 15*time.Second, "it is found at its address", func() error {
				for _, o := range c.Hosts {
					got, err := c.nodes(o)
					if err != nil {
						return err
					}
					if !strings.HasPrefix(got[h.Name], "Ready") {
						return fmt.Errorf("%s sees %v", o.Name, got)
					}
					if n := c.inspectNode(o, h.Name); n.Status.Addr != h.Addr {
						return fmt.Errorf("%s knows it at %s, not %s", o.Name, n.Status.Addr, h.Addr)
					}
				}
				return nil
			})
		})
	}
	c.Step("all managers work together", func() {
		lead := c.Leader(w)
		lead.Kill()
		c.Run(w, "node", "update", "--label-add", "v=x", w.Name)
		lead.Start()
		c.SameManagers()
	})
	c.Step("the network changes under a running daemon", func() {
		w.Readdress()
		netlab.Eventually(t, 30*time.Second, "it is found at its address", func() error {
			got, err := c.nodes(c.Hosts[0])
			if n := c.inspectNode(c.Hosts[0], w.Name); err == nil && (n.Status.Addr != w.Addr || got[w.Name] != "Ready Active") {
				err = fmt.Errorf("at %s, not %s: %v", n.Status.Addr, w.Addr, got)
			}
			return err
		})
	})
}

// SameManagers waits until all managers answer.
func (c *C) SameManagers() {
	c.Helper()
	netlab.Eventually(c, 20*time.Second, "all managers answer", func() error {
		got, err := c.nodes(c.Hosts[0])
		for name, is := range got {
			if strings.Contains(is, "Unreachable") || strings.HasPrefix(is, "Down") {
				err = fmt.Errorf("%s is %s", name, is)
			}
		}
		return err
	})
}

func TestAJoinThatIsCutOffIsDoneAgain(t *testing.T) {
	c := New(t, "a join survives the death of the leader and of the machine that joins, and leaves nothing half-done", 3, 0)
	a := c.Hosts[0]
	late := c.Lab.Host()
	token := a.Token("worker")
	c.Step("the machine that joins is killed again and again", func() {
		for i := range 8 {
			cmd := late.Background("swarm", "join", "--token", token, c.Hosts[i%3].Addr)
			pause(t.Context(), time.Duration(5+i*12)*time.Millisecond) // at another moment each time
			late.Kill()
			_ = cmd.Wait() // it fails, or it was done
			late.Start()
		}
		if d := late.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}}"); strings.TrimSpace(d.Stdout) != "active" {
			c.Run(late, "swarm", "join", "--token", token, a.Addr)
		}
		c.shows(a, late.Name, "Ready Active")
		if out := c.Run(a, "node", "ls", "--quiet"); strings.Count(out, "\n") > 5 {
			t.Errorf("more nodes than machines and one that was lost on the way:\n%s", out)
		}
	})
	c.Step("the leader is killed while a machine joins", func() {
		c.Run(late, "swarm", "leave")
		lead := c.Leader(a)
		other := c.Others(lead)[0]
		cmd := late.Background("swarm", "join", "--token", token, other.Addr)
		lead.Kill()
		if err := cmd.Wait(); err != nil {
			t.Errorf("join: %v", err)
		}
		c.shows(other, late.Name, "Ready Active")
		lead.Start()
		c.SameManagers()
	})
}

func TestAFullDiskOnOneManager(t *testing.T) {
	dir := t.TempDir()
	c := New(t, "a manager whose disk is full does not stop the others, and goes on when there is room", 3, 0)
	small := filepath.Join(dir, "small")
	c.mountSmall(small, 96<<20)
	full := c.Lab.HostOn(small)
	full.Join(c.Hosts[0], "manager")
	c.Hosts = append(c.Hosts, full)
	c.shows(c.Hosts[0], full.Name, "Ready Active Reachable")
	c.Run(c.Hosts[0], "node", "demote", c.Hosts[2].Name) // three managers, one of them with the small disk
	c.Step("it leads, and its disk fills up", func() {
		for _, h := range c.Hosts[:2] { // it is the only manager for a moment, so that it leads for certain
			c.Run(c.Hosts[2], "node", "demote", h.Name)
		}
		c.Run(c.Hosts[2], "node", "promote", c.Hosts[0].Name, c.Hosts[1].Name)
		for _, h := range c.Hosts[:2] {
			c.shows(c.Hosts[2], h.Name, "Ready Active Reachable")
		}
		if lead := c.Leader(c.Hosts[2]); lead != full {
			t.Fatalf("%s leads", lead.Name)
		}
		fill := c.fill(small)
		c.handsOver(full, c.Hosts[0])
		stop := c.writes(full.Name, c.Hosts[0], c.Hosts[1])
		pause(t.Context(), 4*time.Second)
		if n := stop(); n < 10 {
			t.Errorf("only %d writes", n)
		}
		c.remove(fill)
	})
	c.Step("with room again it follows, and can lead", func() {
		c.Run(c.Hosts[0], "node", "update", "--label-add", "v=room", full.Name)
		netlab.Eventually(t, 20*time.Second, "its copy is up to date", func() error {
			out := full.Try("node", "inspect", "--stale", "--format", "{{.Spec.Labels.v}}", full.Name)
			if strings.TrimSpace(out.Stdout) != "room" {
				return fmt.Errorf("%s%s", out.Stdout, out.Stderr)
			}
			return nil
		})
		c.Run(c.Hosts[2], "node", "demote", c.Hosts[1].Name)
		c.Run(c.Hosts[2], "node", "update", "--label-add", "v=two", full.Name)
	})
}

// handsOver writes through a host until a leader whose disk is full has used up
// the room that its log had reserved, and another leads. Only the write that met the full
// disk may fail, and says that its outcome is not known.
func (c *C) handsOver(full, via *netlab.Host) {
	c.Helper()
	client, node := socket(via), c.inspectNode(via, full.Name)
	unknown := 0
	for k := range 200 { // 50 MiB: more than the log reserves
		spec := swarm.NodeSpec{Role: node.Spec.Role, Availability: node.Spec.Availability}
		spec.Labels = map[string]string{"large": fmt.Sprint(k, strings.Repeat("x", 256<<10))}
		start := time.Now()
		ctx, end := context.WithTimeout(context.Background(), time.Minute)
		err := request(ctx, client, http.MethodPost, "/nodes/"+node.ID+"/update?version=0", spec, nil)
		end()
		if err != nil && unknown == 0 && strings.Contains(err.Error(), "is not known") {
			unknown, err = 1, nil
		}
		if err != nil {
			c.Errorf("write %d after %s: %v", k, time.Since(start).Round(time.Millisecond), err)
		}
		if lead := c.Leader(via); lead != full {
			c.Logf("  %s leads after %d large writes, the last in %s", lead.Name, k+1, time.Since(start).Round(time.Millisecond))
			return
		}
	}
	c.Fatalf("%s still leads", full.Name)
}
