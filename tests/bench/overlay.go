package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dhow-project/dhow/tests/netlab"
)

// fabric is a stack whose containers send to each other: client and near on one
// node, far on another.
const fabric = `
name: net
services:
  client: {image: nginx:latest, stop_signal: SIGKILL, deploy: {placement: {constraints: [node.hostname == %[1]s]}}}
  near: {image: nginx:latest, stop_signal: SIGKILL, deploy: {placement: {constraints: [node.hostname == %[1]s]}}}
  far: {image: nginx:latest, stop_signal: SIGKILL, deploy: {placement: {constraints: [node.hostname == %[2]s]}}}
`

// target is a server as the client finds it.
type target struct {
	direct, virtual string
	place           place
}

// containers of the fabric, on a cluster of dhow's or of Swarm's.
type wiring struct {
	client    place
	resolver  string
	near, far target
}

// wire brings the fabric up and serves iperf3 at both targets.
func (g *grid) wire() wiring {
	g.Helper()
	a, b := g.hosts[managers], g.hosts[managers+1]
	for _, h := range []*netlab.Host{a, b} {
		h.Load("nginx:latest")
	}
	in := project(g.B, fmt.Sprintf(fabric, a.Name, b.Name))
	g.must(g.hosts[0], in, "up", "-d", "--wait")
	client, _, gateway := g.container(a, "client")
	w := wiring{client: client, resolver: gateway}
	for _, t := range []struct {
		host *netlab.Host
		name string
		to   *target
	}{{a, "near", &w.near}, {b, "far", &w.far}} {
		p, addr, _ := g.container(t.host, t.name)
		p.serve("iperf3", "-s")
		out := g.must(g.hosts[0], in, "exec", "-T", "client", "getent", "ahostsv4", t.name)
		*t.to = target{addr, strings.Fields(out)[0], p}
	}
	return w
}

// container is a service's container on a host: where it is, its address and its gateway.
func (g *grid) container(h *netlab.Host, service string) (p place, addr, gateway string) {
	g.Helper()
	var list []struct{ ID string }
	g.apis[h].call("GET", `/containers/json?filters={"label":["com.docker.compose.service=`+service+`"]}`, nil, &list)
	if len(list) != 1 {
		g.Fatalf("%s has %d containers of %s", h.Name, len(list), service)
	}
	var c struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, Gateway string }
		}
	}
	g.apis[h].call("GET", "/containers/"+list[0].ID+"/json", nil, &c)
	for _, n := range c.NetworkSettings.Networks {
		addr, gateway = n.IPAddress, n.Gateway
	}
	return place{g.B, filepath.Join(h.RunDir, "netns", list[0].ID)}, addr, gateway
}

// bare is a pair of hosts with a VXLAN device each and nothing else, as the
// measure of what an overlay can bring.
func (g *grid) bare() (client place, server string) {
	g.Helper()
	hosts := []*netlab.Host{g.lab.Client(), g.lab.Client()}
	for i, h := range hosts {
		p := place{g.B, "/run/netns/" + h.NetNS}
		p.run("ip", "link", "add", "bare", "type", "vxlan", "id", "7", "dstport", "4790", "local", h.Addr, "remote", hosts[1-i].Addr)
		p.run("ip", "addr", "add", fmt.Sprintf("10.99.0.%d/24", i+1), "dev", "bare")
		p.run("ip", "link", "set", "bare", "up")
		if i == 1 {
			p.serve("iperf3", "-s")
		}
	}
	return place{g.B, "/run/netns/" + hosts[0].NetNS}, "10.99.0.2"
}

// spreading is a stack whose names change: a probe on each node asks for them.
const spreading = `
name: names
services:
  web: {image: busybox:latest, command: [sleep, '100000'], stop_signal: SIGKILL, restart: "no", deploy: {replicas: 5, restart_policy: {condition: any, delay: 1s}}}
  probe: {image: busybox:latest, command: [sleep, '100000'], stop_signal: SIGKILL, deploy: {mode: global}}
`

// news is how long after a task's end is in the replicated state the resolvers
// of all nodes answer without it.
func (g *grid) news(rounds int) samples {
	g.Helper()
	in := project(g.B, spreading)
	g.must(g.hosts[0], in, "up", "-d", "--wait")
	askers := map[*netlab.Host]*netlab.Resolver{}
	for _, h := range g.hosts {
		p, _, gateway := g.container(h, "probe")
		r, err := netlab.NewResolver(p.ns, gateway)
		if err != nil {
			g.Fatal(err)
		}
		defer r.Close()
		askers[h] = r
	}
	leader := g.apis[g.leader()]
	var out samples
	for i := range rounds {
		victim := g.hosts[i%len(g.hosts)]
		for _, r := range askers { // all see all before
			g.until(r, 5)
		}
		var list []struct{ ID string }
		g.apis[victim].call("GET", `/containers/json?filters={"label":["com.docker.compose.service=web"]}`, nil, &list)
		if len(list) == 0 {
			continue
		}
		stored := make(chan time.Time, 1)
		go func() { stored <- g.ended(leader) }()
		var c struct{ State struct{ Pid int } }
		g.apis[victim].call("GET", "/containers/"+list[0].ID+"/json", nil, &c)
		if err := syscall.Kill(c.State.Pid, syscall.SIGKILL); err != nil { // a crash: it is started again
			g.Fatal(err)
		}
		var last time.Time
		for _, r := range askers {
			if at := g.until(r, 4); at.After(last) {
				last = at
			}
		}
		out = append(out, max(0, last.Sub(<-stored)))
	}
	g.must(g.hosts[0], in, "down")
	return out
}

// until asks for the tasks until there are n, and returns when that was.
func (g *grid) until(r *netlab.Resolver, n int) time.Time {
	g.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if found, err := r.Lookup("tasks.web"); err == nil && len(found) == n {
			return time.Now()
		}
	}
	g.Fatalf("tasks.web never had %d addresses", n)
	return time.Time{}
}

// ended returns when the leader's state has a task of web that does not run.
func (g *grid) ended(a api) time.Time {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var st struct {
			Services []struct {
				Name    string `json:"name"`
				Running int    `json:"running"`
			} `json:"services"`
		}
		a.call("GET", "/dhow/v1/stacks/names?consistency=stale", nil, &st)
		for _, s := range st.Services {
			if s.Name == "web" && s.Running < 5 {
				return time.Now()
			}
		}
	}
	return time.Now()
}
