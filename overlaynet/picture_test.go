package overlaynet_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
)

// picture is everything that the kernel and the resolver were made to have.
type picture struct {
	segments map[string]overlaynet.Segment
	remotes  map[string][]overlaynet.Remote
	mesh     *overlaynet.Mesh
	zones    map[string]overlaynet.Zone
	hosts    map[[2]string]overlaynet.Host
	services map[[2]string]overlaynet.Service
	rules
}

type rules struct {
	ruled    map[string]overlaynet.Segment
	fronts   map[overlaynet.Frontend][]overlaynet.Backend
	sticky   map[overlaynet.Frontend]bool
	virtuals map[overlaynet.Virtual]overlaynet.Pool
	locals   map[netip.Addr]bool
	inlets   map[overlaynet.Frontend]bool
	inbound  overlaynet.Inbound
}

func newPicture() picture {
	return picture{
		segments: map[string]overlaynet.Segment{}, remotes: map[string][]overlaynet.Remote{}, zones: map[string]overlaynet.Zone{},
		hosts: map[[2]string]overlaynet.Host{}, services: map[[2]string]overlaynet.Service{},
		rules: rules{
			ruled: map[string]overlaynet.Segment{}, fronts: map[overlaynet.Frontend][]overlaynet.Backend{}, sticky: map[overlaynet.Frontend]bool{},
			virtuals: map[overlaynet.Virtual]overlaynet.Pool{}, locals: map[netip.Addr]bool{}, inlets: map[overlaynet.Frontend]bool{},
		},
	}
}

func (p *rules) apply(c overlaynet.Change) {
	for id, s := range c.Segments {
		if delete(p.ruled, id); s != nil {
			p.ruled[id] = *s
		}
	}
	for f, to := range c.Frontends {
		delete(p.fronts, f)
		delete(p.sticky, f)
		if len(to) > 0 {
			p.fronts[f] = to
		}
		if c.Sticky[f] {
			p.sticky[f] = true
		}
	}
	for v, pool := range c.Virtuals {
		if delete(p.virtuals, v); pool != nil {
			p.virtuals[v] = *pool
		}
	}
	for a, there := range c.Locals {
		if delete(p.locals, a); there {
			p.locals[a] = true
		}
	}
	for f, there := range c.Inlets {
		if delete(p.inlets, f); there {
			p.inlets[f] = true
		}
	}
	if c.Inbound != nil {
		p.inbound = *c.Inbound
	}
}

// show prints what is there. Bridges that no sandbox uses may stay as long as
// their networks exist, and are left out, unless something leads through them.
func (k *kernel) show() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	used := map[string]bool{}
	for _, plugs := range k.sandboxes {
		for _, p := range plugs {
			used[p.Segment.ID] = true
		}
	}
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(k.picture.segments)) {
		s := k.picture.segments[id]
		if used[id] || s.Tunnel != nil {
			fmt.Fprintf(&b, "segment %s mtu %d keep %v virtual %v tunnel %s\n", s.Name, s.MTU, s.Keep, s.Virtual, deref(s.Tunnel))
		}
	}
	fmt.Fprintf(&b, "mesh %s\n", deref(k.picture.mesh))
	lines(&b, "sandbox", k.sandboxes, func(p []overlaynet.Plug) any {
		var out []string
		for _, x := range p {
			out = append(out, fmt.Sprint(x.Segment.Name, x.Segment.MTU, x.Interface, x.Addrs, x.MAC))
		}
		return out
	})
	lines(&b, "remotes", k.picture.remotes, same)
	lines(&b, "host", k.picture.hosts, same)
	lines(&b, "service", k.picture.services, same)
	lines(&b, "front", k.picture.fronts, same)
	lines(&b, "sticky", k.picture.sticky, same)
	lines(&b, "virtual", k.picture.virtuals, same)
	lines(&b, "local", k.picture.locals, same)
	lines(&b, "inlet", k.picture.inlets, same)
	fmt.Fprintf(&b, "inbound %+v\n", k.picture.inbound)
	return b.String()
}

func same[V any](v V) any { return v }

func deref[T any](p *T) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("%+v", *p)
}

func lines[K comparable, V any](b *strings.Builder, what string, m map[K]V, f func(V) any) {
	var out []string
	for k, v := range m {
		out = append(out, fmt.Sprintf("%s %+v: %+v\n", what, k, f(v)))
	}
	slices.Sort(out)
	b.WriteString(strings.Join(out, ""))
}
