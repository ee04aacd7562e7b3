package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// need is what one task of a service asks for and takes, read from its spec once.
type need struct {
	service string // STACK/SERVICE
	number  uint64 // of its version
	spec    *stack.Service
	filter  *Filter
	near    []affinity
	social  bool  // wants to be with itself: one task of it changes the test of all nodes
	cpu     int64 // billionths
	memory  int64 // bytes
	generic []amount
	ports   []hostPort
	limit   int      // max_replicas_per_node; 0: none
	spread  []string // keys, outermost first
	image   string
	repels  []string // services that must not be where this one is

	sig   string // needs with equal signatures treat a node without tasks of the service alike
	tasks int    // that hold it

	why    string // the last refusal of a plain request,
	whyAt  uint64 // the change that it is true at,
	whySig string // and its signature
}

// amount is a number of generic resources of one kind.
type amount struct {
	kind string
	n    int64
}

// affinity is a constraint about services, with their full names.
type affinity struct {
	names []string
	with  bool
	text  string // "service == db"
	self  bool   // names the service itself
}

// hostPort is a port that a container takes on its node.
type hostPort struct {
	port  uint16
	proto string
	ip    netip.Addr // zero: all
	owner string     // service whose tasks share it and take turns; "": nobody shares it
}

func newNeed(key string, s *stack.Service) *need {
	if s == nil {
		return &need{service: key, filter: &Filter{}}
	}
	n := &need{
		service: key, spec: s, filter: NewFilter(s),
		cpu: s.Container.Resources.ReservedNanoCPUs, memory: s.Container.Resources.ReservedMemory,
		limit: s.Deploy.MaxReplicasPerNode, image: s.Container.ImageID, ports: hostPorts(key, &s.Container),
	}
	if n.image == "" {
		n.image = cmp.Or(s.Container.Digest, s.Container.Image)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Container.Resources.Generic)) {
		n.generic = append(n.generic, amount{kind, s.Container.Resources.Generic[kind]})
	}
	for _, p := range s.Deploy.Preferences {
		if k, err := stack.ParseSpread(p); err == nil { // Validate has seen the others
			n.spread = append(n.spread, k)
		}
	}
	n.affinities()
	n.sig = n.signature()
	return n
}

func (n *need) affinities() {
	stackName, _, _ := strings.Cut(n.service, "/")
	for _, c := range n.filter.services {
		a := affinity{with: c.Op == stack.Equal || c.Op == stack.In, text: c.String()}
		for _, name := range c.Values {
			if !strings.Contains(name, "/") {
				name = stackName + "/" + name
			}
			a.names = append(a.names, name)
			a.self = a.self || name == n.service
		}
		if !a.with {
			n.repels = append(n.repels, a.names...)
		}
		n.social = n.social || a.with && a.self
		n.near = append(n.near, a)
	}
}

// signature leaves out max_replicas_per_node and the spread: they say nothing
// about a node that has no task of the service. The image counts only when some node has it.
func (n *need) signature() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%q|%d|%d|%v|", n.filter.platform, n.filter.texts, n.cpu, n.memory, n.filter.bad)
	for _, g := range n.generic {
		fmt.Fprintf(&b, "%q=%d|", g.kind, g.n)
	}
	for _, p := range n.ports {
		fmt.Fprintf(&b, "%s %d/%s|", p.ip, p.port, p.proto)
	}
	for _, a := range n.near {
		fmt.Fprintf(&b, "%t%q|", a.with, a.names)
	}
	return b.String()
}

// platforms are what the image of a request can run on.
func (n *need) platforms(r *Request) []string {
	if r.Platforms == nil && n.spec != nil {
		return n.spec.Container.Platforms
	}
	return r.Platforms
}

// hostPorts are the ports that a container takes on its node: for itself alone
// in mode host, for its service otherwise, whose tasks take turns at it. Dynamic ports and ranges find a free one there; a container in the host's
// network only says what it may listen on.
func hostPorts(service string, c *stack.ContainerSpec) []hostPort {
	if c.NetworkMode == "host" || c.NetworkMode == "none" {
		return nil
	}
	var out []hostPort
	for _, p := range c.Ports {
		if p.HostPort == 0 || p.HostPortEnd > p.HostPort {
			continue
		}
		h := hostPort{port: p.HostPort, proto: p.Protocol}
		if h.proto == "" {
			h.proto = "tcp"
		}
		if p.Mode != "host" {
			h.owner = service
		}
		if ip, err := netip.ParseAddr(p.HostIP); err == nil && (!ip.IsUnspecified() || ip.Is6()) {
			h.ip = ip.Unmap()
		}
		if !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	return out
}

// conflicts says whether two containers on one node cannot both have the port.
// No address and 0.0.0.0 are all addresses; [::] is all of IPv6.
func (p hostPort) conflicts(o hostPort) bool {
	switch {
	case p.port != o.port || p.proto != o.proto || p.owner != "" && p.owner == o.owner:
		return false
	case !p.ip.IsValid() || !o.ip.IsValid() || p.ip == o.ip:
		return true
	}
	return p.ip.Is6() && o.ip.Is6() && (p.ip.IsUnspecified() || o.ip.IsUnspecified())
}

// String is "0.0.0.0:80/tcp", "80/tcp".
func (p hostPort) String() string {
	at := fmt.Sprintf("%d/%s", p.port, p.proto)
	if !p.ip.IsValid() {
		return at
	}
	return netip.AddrPortFrom(p.ip, p.port).String() + "/" + p.proto
}
