package bench

import (
	"fmt"
	"path/filepath"
	"strings"

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
type target struct{ direct, virtual string }

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
		*t.to = target{addr, strings.Fields(out)[0]}
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
