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

// up applies a stack of services, all of which sleep in the host's network.
func (c *C) up(h *netlab.Host, services string, args ...string) netlab.Result {
	c.Compose(`
name: place
x-base: &base
  image: busybox:latest
  command: ["sleep", "1000000"]
  network_mode: host
  stop_grace_period: 100ms
services:
` + services)
	return c.Try(h, append([]string{"up", "-d", "--wait", "--remove-orphans"}, args...)...)
}

// must is up that succeeds.
func (c *C) must(h *netlab.Host, services string) {
	c.Helper()
	if err := c.up(h, services).Err(); err != nil {
		c.Fatal(err)
	}
}

// refused fails the test unless up and ps, each on some node, say why a task has no node.
func (c *C) refused(services string, why ...string) {
	c.Helper()
	r := c.up(c.Hosts[2], services, "--wait-timeout", "3")
	ps := c.Run(c.Hosts[1], "ps", "--format", "{{.Name}} {{.State}} {{.Message}}")
	for _, text := range why {
		if r.Code == 0 || !strings.Contains(r.Stderr, text) {
			c.Errorf("up, exit code %d, does not say %q: %s", r.Code, text, r.Stderr)
		}
		if !strings.Contains(ps, text) {
			c.Errorf("ps does not say %q: %s", text, ps)
		}
	}
}

// only fails the test unless all n tasks of a service are on a host.
func (c *C) only(service string, n int, host string) {
	c.Helper()
	if got := c.Runs(10*time.Second, "place", service, n); got[host] != n {
		c.Errorf("%s runs on %v, want %s", service, got, host)
	}
}

func TestTasksGoWhereTheyBelong(t *testing.T) {
	c := New(t, "constraints, spreads, limits, affinity and files decide where tasks go, and a refusal is told by up and ps", 1, 3, "busybox:latest")
	h1, h2, h3, h4 := c.Hosts[0], c.Hosts[1], c.Hosts[2], c.Hosts[3]
	for _, h := range c.Hosts {
		zone := "b"
		if h == h1 {
			zone = "a"
		}
		c.Run(h2, "node", "update", "--label-add", "zone="+zone, h.Name)
	}
	c.Run(h2, "node", "update", "--label-add", "disk=ssd", h4.Name)
	c.Step("spread over zones", func() {
		c.must(h2, "  s: {<<: *base, deploy: {replicas: 4, placement: {preferences: [spread: node.labels.zone]}}}")
		if got := c.Runs(5*time.Second, "place", "s", 4); got[h1.Name] != 2 {
			t.Errorf("%v", got)
		}
	})
	c.Step("constraints", func() {
		c.must(h3, "  s: {<<: *base, deploy: {replicas: 3, placement: {constraints: [node.labels.disk == ssd, node.role == worker]}}}")
		c.only("s", 3, h4.Name)
		c.refused("  s: {<<: *base, deploy: {placement: {constraints: [node.labels.disk == tape]}}}", `4 not matching "node.labels.disk == tape"`)
	})
	c.Step("limits", func() {
		c.refused("  s: {<<: *base, deploy: {replicas: 5, placement: {max_replicas_per_node: 1}}}", "4 at max_replicas_per_node (1)")
		c.refused("  s: {<<: *base, deploy: {resources: {reservations: {memory: 900G}}}}", "4 lack memory (want 900GiB)")
		c.refused("  s: {<<: *base, deploy: {resources: {reservations: {generic_resources: [discrete_resource_spec: {kind: gpu, value: 1}]}}}}", "4 lack gpu (want 1)")
	})
	c.Step("a published port is one of a node", func() {
		c.refused(`  s: {<<: *base, network_mode: bridge, ports: [{target: 80, published: "8080", mode: host}], deploy: {replicas: 5}}`, "4 have port 8080/tcp taken")
		if got := c.Runs(5*time.Second, "place", "s", 4); len(got) != 4 {
			t.Errorf("%v", got)
		}
	})
	c.Step("what shares is together, what keeps away is not", func() {
		c.must(h2, `
  a: {<<: *base, network_mode: none, volumes: [/shared]}
  net: {<<: *base, network_mode: "service:a"}
  vol: {<<: *base, volumes_from: [a]}
  near: {<<: *base, deploy: {placement: {constraints: [service == a]}}}
  far: {<<: *base, deploy: {replicas: 3, placement: {constraints: [service != a]}}}`)
		for host := range c.Runs(5*time.Second, "place", "a", 1) {
			for _, s := range []string{"net", "vol", "near"} {
				c.only(s, 1, host)
			}
			if got := c.Runs(5*time.Second, "place", "far", 3); got[host] != 0 {
				t.Errorf("far runs on %v, beside a on %s", got, host)
			}
		}
	})
	c.Step("files of the project are where it was applied", func() {
		if err := os.WriteFile(filepath.Join(c.Dir, "motd"), []byte("hello"), 0o644); err != nil {
			t.Fatal(err)
		}
		c.must(h3, `  s: {<<: *base, volumes: ["./motd:/motd:ro"], deploy: {replicas: 2}}`)
		c.only("s", 2, h3.Name)
		if r := c.up(h4, `  s: {<<: *base, volumes: [{type: bind, source: ./none, target: /motd, bind: {create_host_path: false}}]}`); r.Code == 0 || !strings.Contains(r.Stderr, "compose.yaml:") {
			t.Errorf("a path that is missing is refused where up is typed: %d %s", r.Code, r.Stderr)
		}
	})
	c.Step("a node whose disk takes nothing more is avoided", func() {
		disk := filepath.Join(h4.DataDir, "engine", "containers")
		for _, args := range [][]string{{"--bind", disk, disk}, {"-o", "remount,ro,bind", disk}} {
			if err := h4.Exec("mount", args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		mounted := true
		unmount := func() {
			if mounted {
				mounted = false
				if err := h4.Exec("umount", disk).Err(); err != nil {
					t.Error(err)
				}
			}
		}
		t.Cleanup(unmount)
		start := time.Now()
		c.must(h1, "  fresh: {<<: *base, deploy: {replicas: 4}}")
		t.Logf("  all run elsewhere after %s", time.Since(start).Round(10*time.Millisecond))
		if got := c.Runs(5*time.Second, "place", "fresh", 4, h1, h2, h3); got[h4.Name] != 0 {
			t.Errorf("%v", got)
		}
		unmount()
	})
	c.Step("down", func() {
		c.Run(h1, "down", "-v")
	})
}

const data = `
name: data
services:
  db:
    image: redis:7
    command: ["redis-server", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--protected-mode", "no"]
    volumes: ["kept:/data"]
    stop_grace_period: 5s
    labels: {version: "%d"}
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 500ms, start_period: 10s}
volumes:
  kept: {}
`

func TestDataStaysOnItsNode(t *testing.T) {
	c := New(t, "a task with a named volume stays where its data is, waits for that node, and goes when the data is removed", 1, 2, "redis:7")
	h1 := c.Hosts[0]
	c.Run(c.Hosts[1], "node", "update", "--availability", "drain", h1.Name) // it leads, and goes on leading
	c.Compose(fmt.Sprintf(data, 1))
	c.Run(c.Hosts[2], "up", "-d", "--wait")
	var home *netlab.Host
	for host := range c.Runs(5*time.Second, "data", "db", 1) {
		home = c.Host(host)
	}
	c.Run(h1, "node", "update", "--availability", "active", h1.Name)
	other := c.Others(home, h1)[0]
	c.Run(other, "exec", "-T", "db", "redis-cli", "set", "a", "kept")
	has := func(h *netlab.Host) {
		t.Helper()
		netlab.Eventually(t, 5*time.Second, "the data is there", func() error {
			r := c.Try(h, "exec", "-T", "db", "redis-cli", "get", "a")
			if strings.TrimSpace(r.Stdout) != "kept" {
				t.Logf("  %q, exit code %d, %s", r.Stdout, r.Code, r.Stderr)
				return errNotYet
			}
			return nil
		})
	}
	here := func() {
		t.Helper()
		if got := c.Runs(10*time.Second, "data", "db", 1); got[home.Name] != 1 {
			t.Errorf("runs on %v, its data is on %s", got, home.Name)
		}
	}
	c.Step("a new version", func() {
		c.Compose(fmt.Sprintf(data, 2))
		c.Run(h1, "up", "-d", "--wait")
		here()
		has(h1)
	})
	c.Step("down and up from elsewhere", func() {
		c.Run(h1, "down")
		c.Run(other, "up", "-d", "--wait")
		here()
		has(other)
	})
	c.Step("its node is down", func() {
		home.Kill()
		want := "1 down, 2 have not volume data_kept (it is on " + home.Name + ")"
		netlab.Eventually(t, 15*time.Second, "ps says what it waits for", func() error {
			r := c.Try(other, "ps", "--format", "{{.Message}}")
			if !strings.Contains(r.Stdout, "volume data_kept (it is on "+home.Name+")") {
				return fmt.Errorf("want %q: %s %s", want, r.Stdout, r.Stderr)
			}
			return nil
		})
		if r := c.Try(other, "volume", "rm", "data_kept"); r.Code == 0 || !strings.Contains(r.Stderr, home.Name) {
			t.Errorf("volume rm: %d %s", r.Code, r.Stderr)
		}
		home.Start()
		here()
		has(other)
	})
	c.Step("down -v removes the data on its node, and it may go anywhere", func() {
		c.Run(other, "down", "-v")
		if r := c.Try(home, "volume", "inspect", "data_kept"); r.Code == 0 {
			t.Errorf("the volume is still there: %s", r.Stdout)
		}
		c.Run(h1, "node", "update", "--availability", "drain", home.Name)
		c.Run(other, "up", "-d", "--wait")
		if got := c.Runs(10*time.Second, "data", "db", 1); got[home.Name] != 0 {
			t.Errorf("runs on %v, though %s is drained", got, home.Name)
		}
	})
	c.Step("an external volume that comes later", func() {
		c.Run(h1, "down", "-v")
		c.Run(h1, "node", "update", "--availability", "active", home.Name)
		c.Run(other, "volume", "create", "late")
		c.Compose(strings.Replace(fmt.Sprintf(data, 1), "kept: {}", "kept: {external: true, name: late}", 1))
		c.Run(home, "up", "-d", "--wait", "--wait-timeout", "20")
		if got := c.Runs(10*time.Second, "data", "db", 1); got[other.Name] != 1 {
			t.Errorf("runs on %v, the volume is on %s", got, other.Name)
		}
		c.Run(h1, "down")
		c.Run(h1, "volume", "rm", "late")
		if r := c.Try(h1, "up", "-d"); r.Code == 0 || !strings.Contains(r.Stderr, "late") {
			t.Errorf("up without the volume: %d %s", r.Code, r.Stderr)
		}
	})
}
