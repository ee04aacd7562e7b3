package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// C is a cluster under test.
type C struct {
	testing.TB
	Lab      *netlab.Lab
	Hosts    []*netlab.Host // managers first
	Managers int            // how many of them are managers
	Dir      string         // of the stack's files
}

// New makes a cluster of managers and workers for the sentence; with no
// managers the test makes its own. The images are loaded on every host.
func New(t testing.TB, sentence string, managers, workers int, images ...string) *C {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT RUN: clusters are not short")
	}
	t.Log(sentence)
	c := &C{TB: t, Lab: netlab.New(t), Managers: managers, Dir: t.TempDir()}
	if managers > 0 {
		c.Hosts = c.Lab.Cluster(managers, workers)
	}
	netlab.Load(t, c.Hosts, images...)
	return c
}

// Step runs one step; the test ends at the first that fails.
func (c *C) Step(what string, f func()) {
	c.Helper()
	start := time.Now()
	c.Log("step:", what)
	f()
	if c.Failed() {
		c.Fatalf("step failed: %s", what)
	}
	c.Logf("  done in %s", time.Since(start).Round(time.Millisecond))
}

// Compose writes compose.yaml.
func (c *C) Compose(content string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, "compose.yaml"), []byte(content), 0o644); err != nil {
		c.Fatal(err)
	}
}

// Run runs dhow on a host in the stack's directory; it must succeed.
func (c *C) Run(h *netlab.Host, args ...string) string {
	c.Helper()
	r := c.Try(h, args...)
	if r.Code != 0 {
		c.Fatal(r.Err())
	}
	return r.Stdout
}

// Try runs dhow on a host in the stack's directory.
func (c *C) Try(h *netlab.Host, args ...string) netlab.Result {
	return h.TryWith(netlab.Input{Dir: c.Dir}, args...)
}

// Container is a container that runs on a host.
type Container struct {
	ID     string            `json:"Id"`
	State  string            `json:"State"`
	Labels map[string]string `json:"Labels"`
}

// Place is where a service's container belongs: web.2.
func (ct Container) Place() string {
	return ct.Labels["com.docker.compose.service"] + "." + ct.Labels["com.docker.compose.container-number"]
}

// On lists the running containers of a stack that a host's own daemon has.
func (c *C) On(h *netlab.Host, stackName string) ([]Container, error) {
	r := h.Exec("curl", "-sS", "--max-time", "20", "--unix-socket", filepath.Join(h.RunDir, "dhow.sock"), "http://dhow/containers/json")
	if err := r.Err(); err != nil {
		return nil, err
	}
	var list []Container
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		return nil, fmt.Errorf("%w: %s", err, r.Stdout)
	}
	return slices.DeleteFunc(list, func(ct Container) bool {
		return ct.Labels["com.docker.compose.project"] != stackName || ct.State != "running"
	}), nil
}

// Spread is Count for services whose places are taken once in the cluster; it
// fails when two containers have the same place.
func (c *C) Spread(stackName, service string, hosts ...*netlab.Host) (map[string]int, error) {
	return c.count(stackName, service, true, hosts...)
}

// Count counts the running containers of a service on each of the hosts, as
// their own daemons say.
func (c *C) Count(stackName, service string, hosts ...*netlab.Host) (map[string]int, error) {
	return c.count(stackName, service, false, hosts...)
}

func (c *C) count(stackName, service string, once bool, hosts ...*netlab.Host) (map[string]int, error) {
	if len(hosts) == 0 {
		hosts = c.Hosts
	}
	out, places := map[string]int{}, map[string]string{}
	for _, h := range hosts {
		list, err := c.On(h, stackName)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Name, err)
		}
		for _, ct := range list {
			if ct.Labels["com.docker.compose.service"] != service {
				continue
			}
			out[h.Name]++
			if other := places[ct.Place()]; once && other != "" {
				return out, fmt.Errorf("%s runs on %s and on %s", ct.Place(), other, h.Name)
			}
			places[ct.Place()] = h.Name
		}
	}
	return out, nil
}

// Runs waits until exactly n containers of a service run on the hosts, no two of one place.
func (c *C) Runs(limit time.Duration, stackName, service string, n int, hosts ...*netlab.Host) map[string]int {
	c.Helper()
	var got map[string]int
	netlab.Eventually(c, limit, fmt.Sprintf("%d containers of %s run", n, service), func() (err error) {
		got, err = c.Spread(stackName, service, hosts...)
		if sum := total(got); err == nil && sum != n {
			err = fmt.Errorf("%d run: %v", sum, got)
		}
		return err
	})
	return got
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// Leader is the host that leads, as h sees it.
func (c *C) Leader(h *netlab.Host) *netlab.Host {
	c.Helper()
	var found *netlab.Host
	netlab.Eventually(c, 10*time.Second, "there is a leader", func() error {
		r := h.Try("node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
		for line := range strings.Lines(r.Stdout) {
			if name, ok := strings.CutSuffix(strings.TrimSpace(line), " Leader"); ok {
				found = c.Host(name)
				return nil
			}
		}
		return fmt.Errorf("%s%s", r.Stdout, r.Stderr)
	})
	return found
}

// Host finds a host by its name.
func (c *C) Host(name string) *netlab.Host {
	c.Helper()
	for _, h := range c.Hosts {
		if h.Name == name {
			return h
		}
	}
	c.Fatalf("no host is called %s", name)
	return nil
}

// Others are all hosts but some.
func (c *C) Others(not ...*netlab.Host) []*netlab.Host {
	return slices.DeleteFunc(slices.Clone(c.Hosts), func(h *netlab.Host) bool { return slices.Contains(not, h) })
}
