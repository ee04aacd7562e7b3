package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

// writes changes a label of a node again and again through each of the hosts,
// and fails when one change fails. Stop says how many were made.
func (c *C) writes(node string, hosts ...*netlab.Host) (stop func() int) {
	c.Helper()
	n := c.inspectNode(hosts[0], node)
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i, h := range hosts {
		loops.Go(func() {
			client := socket(h)
			for k := 0; ctx.Err() == nil; k++ {
				spec := swarm.NodeSpec{Role: n.Spec.Role, Availability: n.Spec.Availability}
				spec.Labels = map[string]string{"v": fmt.Sprintf("%d.%d", i, k)}
				start := time.Now()
				limited, end := context.WithTimeout(context.Background(), time.Minute)
				err := request(limited, client, http.MethodPost, "/nodes/"+n.ID+"/update?version=0", spec, nil)
				end()
				if err != nil {
					c.Errorf("write %d through %s after %s: %v", k, h.Name, time.Since(start).Round(time.Millisecond), err)
				}
				mu.Lock()
				made++
				mu.Unlock()
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() int {
		cancel()
		loops.Wait()
		return made
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// issuer is who has signed a node's certificate, as docker's node inspect shows it.
func (c *C) issuer(h *netlab.Host, node string) string {
	return string(c.inspectNode(h, node).Description.TLSInfo.CertIssuerPublicKey)
}

func TestTheAuthorityIsRotated(t *testing.T) {
	c := New(t, "the authority is replaced, and nobody is cut off meanwhile", 3, 1)
	a, w := c.Hosts[0], c.Hosts[3]
	stop := c.writes(w.Name, c.Hosts[1], w)
	c.Step("the authority is replaced while writes go on", func() {
		token, old := a.Token("worker"), c.issuer(a, w.Name)
		if old == "" {
			t.Fatal("node inspect shows no issuer")
		}
		c.Run(w, "swarm", "ca", "--rotate", "--quiet")
		for _, h := range c.Hosts {
			if now := c.issuer(a, h.Name); now == old || now == "" {
				t.Errorf("%s still has a certificate of the old authority", h.Name)
			}
		}
		if a.Token("worker") == token {
			t.Error("the join token is the old one")
		}
		late := c.Lab.Host()
		c.refuses(late, []string{"swarm", "join", "--token", token, a.Addr}, "join-token")
		late.Join(a, "worker")
		c.Hosts = append(c.Hosts, late)
	})
	if n := stop(); n < 10 {
		t.Errorf("only %d writes", n)
	}
	for _, h := range c.Hosts {
		if d := h.Try("system", "info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.Error}}"); strings.TrimSpace(d.Stdout) != "active" {
			t.Errorf("%s: %s%s", h.Name, d.Stdout, d.Stderr)
		}
	}
}
