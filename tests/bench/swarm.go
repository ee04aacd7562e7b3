package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/dhow-project/dhow/tests/netlab"
)

// rival is a Swarm of three managers and a worker, each a dockerd in a network
// namespace of its own.
type rival struct {
	b     *testing.B
	lab   *netlab.Lab
	nodes []*docker
	ids   map[*docker]string
}

// newRival makes a Swarm whose nodes have busybox; nil when no dockerd is installed.
func newRival(b *testing.B, lab *netlab.Lab) *rival {
	b.Helper()
	if !installed() {
		return nil
	}
	r := &rival{b: b, lab: lab, ids: map[*docker]string{}}
	archive := netlab.Images(b, "busybox:latest")[0]
	for range managers + 1 {
		d := &docker{b: b}
		d.start(lab.Client())
		d.api = newAPI(b, d.dir+"/docker.sock")
		r.nodes = append(r.nodes, d)
	}
	all(r.nodes, func(d *docker) { d.run("load", "--input", archive) })
	first := r.nodes[0]
	first.run("swarm", "init", "--advertise-addr", first.machine.Addr)
	for i, d := range r.nodes[1:] {
		role := "manager"
		if i+1 >= managers {
			role = "worker"
		}
		d.run("swarm", "join", "--advertise-addr", d.machine.Addr, "--token", first.run("swarm", "join-token", "--quiet", role), first.machine.Addr+":2377")
	}
	for _, d := range r.nodes {
		r.ids[d] = d.run("info", "--format", "{{.Swarm.NodeID}}")
	}
	return r
}

// without are all nodes but one.
func (r *rival) without(lost *docker) (out []*docker) {
	for _, d := range r.nodes {
		if d != lost {
			out = append(out, d)
		}
	}
	return out
}

func (r *rival) crises() []struct{ lose, back func(*docker) } {
	return []struct{ lose, back func(*docker) }{
		{(*docker).kill, (*docker).boot},
		{func(d *docker) { r.lab.Isolate(d.machine) }, func(*docker) { r.lab.Heal() }},
	}
}

// lostNode is the time from the loss of the worker until all its tasks run elsewhere.
func (r *rival) lostNode(i int) time.Duration {
	r.b.Helper()
	c, first, worker := r.crises()[i], r.nodes[0], r.nodes[managers]
	first.run("service", "create", "--detach", "--quiet", "--network", "host", "--name", "lost", "--replicas", fmt.Sprint(tasks), "--stop-signal", "KILL", "busybox:latest", "sleep", "100000")
	r.running(r.nodes, tasks)
	start := time.Now()
	c.lose(worker)
	r.running(r.without(worker), tasks)
	took := time.Since(start)
	c.back(worker)
	first.run("service", "rm", "lost")
	r.leader()
	r.running(r.nodes, 0)
	return took
}

func (r *rival) running(nodes []*docker, n int) {
	r.b.Helper()
	var list []api
	for _, d := range nodes {
		list = append(list, d.api)
	}
	running(r.b, list, "com.docker.swarm.service.name=lost", n, 2*time.Minute)
}

// leader waits until all nodes are ready, and finds the one that leads.
func (r *rival) leader() *docker {
	r.b.Helper()
	var found *docker
	netlab.Eventually(r.b, 2*time.Minute, "one leads and all are ready", func() error {
		var nodes []swarm.Node
		if err := r.nodes[0].try(context.Background(), "GET", "/nodes", nil, &nodes); err != nil {
			return err
		}
		found = nil
		for _, n := range nodes {
			if n.Status.State != swarm.NodeStateReady {
				return fmt.Errorf("%s is %s", n.ID, n.Status.State)
			}
			for d, id := range r.ids {
				if id == n.ID && n.ManagerStatus != nil && n.ManagerStatus.Leader {
					found = d
				}
			}
		}
		if found == nil {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	return found
}

// lostLeader is the time from the loss of the leader until a write through
// another manager is accepted: a Swarm's worker takes none.
func (r *rival) lostLeader(i int) time.Duration {
	r.b.Helper()
	c, old := r.crises()[i], r.leader()
	through := r.without(old)[0]
	start := time.Now()
	c.lose(old)
	took := accepted(r.b, through.api, r.ids[r.nodes[managers]], fmt.Sprint(start.UnixNano())).Sub(start)
	c.back(old)
	r.leader()
	return took
}

// wire makes a container on each of two nodes, in one overlay network, and
// serves iperf3 in the far one. They are no services: Swarm's virtual addresses
// need IPVS, which not every kernel has.
func (r *rival) wire() (client place, server string) {
	r.b.Helper()
	r.nodes[0].run("network", "create", "--driver", "overlay", "--attachable", "net")
	var ends []place
	for _, d := range []*docker{r.nodes[managers], r.nodes[0]} {
		id := d.run("run", "--detach", "--network", "net", "--stop-signal", "KILL", "busybox:latest", "sleep", "100000")
		ends = append(ends, place{r.b, "/proc/" + d.run("inspect", "--format", "{{.State.Pid}}", id) + "/ns/net"})
		server = d.run("inspect", "--format", "{{.NetworkSettings.Networks.net.IPAddress}}", id)
	}
	ends[1].serve("iperf3", "-s")
	return ends[0], server
}
