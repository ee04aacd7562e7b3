package scenario

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

const verbsStack = `services:
  app:
    image: busybox:latest
    network_mode: host
    command: [sh, -c, 'trap exit TERM; echo hello from $$HOSTNAME; while :; do sleep 1; echo tick; done']
    deploy:
      replicas: 3
`

// Every verb works from any node for containers on any node, and a dead node
// makes none of them fail or hang.
func TestVerbsOfACluster(t *testing.T) {
	netlab.NeedsDocker(t)
	if testing.Short() {
		t.Skip("NOT RUN: needs network namespaces")
	}
	hosts := netlab.New(t).Cluster(1, 2)
	for _, h := range hosts {
		h.Load("busybox:latest")
	}
	leader, near, far := hosts[0], hosts[1], hosts[2]
	up := near.TryWith(netlab.Input{Stdin: verbsStack}, "-p", "shop", "-f", "-", "up", "--wait")
	if up.Code != 0 {
		t.Fatalf("up: %+v", up)
	}
	ok := func(h *netlab.Host, want string, args ...string) string {
		t.Helper()
		start := time.Now()
		r := h.Try(append([]string{"-p", "shop"}, args...)...)
		if r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("%s: %q is not in: %+v", strings.Join(args, " "), want, r)
		}
		if took := time.Since(start); took > 20*time.Second { // it hangs: a busy machine needs five at most
			t.Errorf("%s took %s", strings.Join(args, " "), took)
		}
		return r.Stdout
	}
	for _, h := range hosts {
		ps := ok(h, "NODE", "ps")
		if strings.Count(ps, "shop-app-") != 3 {
			t.Errorf("ps:\n%s", ps)
		}
		ok(h, "tick", "logs", "--tail", "3")
		for _, index := range []string{"1", "2", "3"} {
			ok(h, "through", "exec", "-T", "--index", index, "app", "echo", "through")
		}
		ok(h, "sleep", "top")
		if stats := ok(h, "", "stats", "--no-stream", "--format", "json"); strings.Count(stats, "shop-app-") != 3 {
			t.Errorf("stats: %s", stats)
		}
		ok(h, "Leader", "node", "ls")
		if r := h.Docker("node", "ls"); r.Code != 0 || strings.Count(r.Stdout, "Ready") != 3 {
			t.Errorf("docker node ls: %+v", r)
		}
		if r := h.Docker("info"); !strings.Contains(r.Stdout, "Swarm: active") {
			t.Errorf("docker info: %+v", r)
		}
	}
	if events := ok(near, "start", "events", "--json", "--since", "10m", "--until", "0s"); strings.Count(events, `"action":"start"`) < 3 {
		t.Errorf("events: %s", events)
	}

	logs := near.Background("-p", "shop", "logs", "-f", "--tail", "0")
	defer logs.Process.Kill() //nolint:errcheck // it may have ended
	far.Kill()
	r := near.Try("-p", "shop", "ps")
	if r.Code != 0 || !strings.Contains(r.Stdout, "shop-app-") {
		t.Errorf("ps with a dead daemon: %+v", r)
	}
	netlab.Eventually(t, 10*time.Second, "three run again", func() error {
		ps := near.Try("-p", "shop", "ps", "--format", "json")
		if n := strings.Count(ps.Stdout, `"State":"running"`); n != 3 {
			return fmt.Errorf("%d run: %+v", n, ps)
		}
		return nil
	})
	ok(near, "tick", "logs", "--tail", "2")
	ok(leader, "sleep", "top")
	ok(leader, "", "kill", "-s", "HUP")
	ok(near, "Down", "node", "ls")
}
