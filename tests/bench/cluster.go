package bench

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

// quietly keeps the daemons' logs out of the measurement.
var quietly = []string{"--log-level", "error"}

// grid is a cluster to measure.
type grid struct {
	*testing.B
	report
	lab   *netlab.Lab
	hosts []*netlab.Host // three managers, then workers
	apis  map[*netlab.Host]api
}

// managers of a grid.
const managers = 3

// newGrid makes a cluster of three managers and workers that have busybox.
func newGrid(b *testing.B, workers int) *grid {
	b.Helper()
	g := &grid{B: b, lab: netlab.New(b), apis: map[*netlab.Host]api{}}
	g.hosts = g.lab.Cluster(managers, workers, quietly...)
	for _, h := range g.hosts {
		h.Load("busybox:latest")
		g.apis[h] = newAPI(b, h.RunDir+"/dhow.sock")
	}
	return g
}

// must runs dhow on a host in a directory.
func (g *grid) must(h *netlab.Host, in netlab.Input, args ...string) string {
	g.Helper()
	r := h.TryWith(in, args...)
	if err := r.Err(); err != nil {
		g.Fatal(err)
	}
	return r.Stdout
}

// project is a directory with a Compose file.
func project(b *testing.B, text string) netlab.Input {
	b.Helper()
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	return netlab.Input{Dir: dir}
}

// others are all hosts but one.
func (g *grid) others(h *netlab.Host) []*netlab.Host {
	return slices.DeleteFunc(slices.Clone(g.hosts), func(o *netlab.Host) bool { return o == h })
}

// running waits until n containers with a label run on the machines, as their
// own daemons say.
func running(b *testing.B, machines []api, label string, n int, limit time.Duration) {
	b.Helper()
	filter := url.QueryEscape(fmt.Sprintf(`{"label":[%q],"status":["running"]}`, label))
	deadline := time.Now().Add(limit)
	for {
		sum := 0
		for _, a := range machines {
			var list []idAnswer
			a.call("GET", "/containers/json?filters="+filter, nil, &list)
			sum += len(list)
		}
		if sum == n {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d containers run after %s", sum, n, limit)
		}
		time.Sleep(look)
	}
}

// look is the time between two looks at what is waited for.
const look = 15 * time.Millisecond

// running waits for a stack's containers on hosts.
func (g *grid) running(hosts []*netlab.Host, stack string, n int) {
	g.Helper()
	var list []api
	for _, h := range hosts {
		list = append(list, g.apis[h])
	}
	running(g.B, list, "com.docker.compose.project="+stack, n, time.Minute)
}

// leader is the host that leads.
func (g *grid) leader() *netlab.Host {
	g.Helper()
	var nodes []swarm.Node
	name := ""
	netlab.Eventually(g, time.Minute, "one leads and all are ready", func() error {
		if err := g.apis[g.hosts[0]].try(context.Background(), "GET", "/nodes", nil, &nodes); err != nil {
			return err
		}
		name = ""
		for _, n := range nodes {
			if n.Status.State != swarm.NodeStateReady {
				return fmt.Errorf("%s is %s", n.Description.Hostname, n.Status.State)
			}
			if n.ManagerStatus != nil && n.ManagerStatus.Leader {
				name = n.Description.Hostname
			}
		}
		if name == "" {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	i := slices.IndexFunc(g.hosts, func(h *netlab.Host) bool { return h.Name == name })
	if i < 0 {
		g.Fatalf("no host is called %q", name)
	}
	return g.hosts[i]
}

// accepted writes a node's label through a until that is accepted, as a person
// who types the command again when it was refused, and returns when it was.
func accepted(b *testing.B, a api, node, value string) time.Time {
	b.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // and asks anew
		err := write(ctx, a, node, value)
		cancel()
		if err == nil {
			return time.Now()
		}
		if time.Now().After(deadline) {
			b.Fatalf("no write was accepted: %v", err)
		}
		time.Sleep(look)
	}
}

func write(ctx context.Context, a api, node, value string) error {
	var n swarm.Node
	if err := a.try(ctx, "GET", "/nodes/"+node, nil, &n); err != nil {
		return err
	}
	n.Spec.Labels = map[string]string{"bench": value}
	return a.try(ctx, "POST", fmt.Sprintf("/nodes/%s/update?version=%d", node, n.Version.Index), n.Spec, nil)
}

// all does f for each of them at once.
func all[T any](list []T, f func(T)) {
	var wg sync.WaitGroup
	for _, v := range list {
		wg.Go(func() { f(v) })
	}
	wg.Wait()
}

// replicasOf is a stack of one service that needs nothing of its node.
func replicasOf(stack string, n int) string {
	return fmt.Sprintf("name: %s\nservices:\n  s: {image: 'busybox:latest', command: [sleep, '100000'], stop_signal: SIGKILL, network_mode: host, deploy: {replicas: %d}}\n", stack, n)
}

// services is a stack of n services with one container each.
func services(stack string, n int) string {
	var f strings.Builder
	fmt.Fprintf(&f, "name: %s\nservices:\n", stack)
	for i := range n {
		fmt.Fprintf(&f, "  s%d: {image: 'busybox:latest', command: [sleep, '100000'], stop_signal: SIGKILL, environment: {N: '%d'}}\n", i, i)
	}
	return f.String()
}
