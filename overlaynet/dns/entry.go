package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/overlaynet"
)

// host is one container in one network. It is never changed, but for box.
type host struct {
	overlaynet.Host
	zone *zone
	box  *box
}

// service is one service in one network, with the containers that belong to
// it. It is never changed: another content is another service.
type service struct {
	overlaynet.Service
	known bool // by itself, not through its containers only
	hosts []*host
}

// entry is what a name means in one network: whose own it is, who shares it,
// which services are called so. It is never changed either.
type entry struct {
	own      []*host
	shared   []*host
	services []*service

	once   sync.Once
	groups []group // what the above come to; see meaning
}

// group is one of the things that a name means.
type group struct {
	service string // "shop/web"; "": a plain container, or several that share the name
	stack   string
	single  bool
	ready   bool
	many    bool // the name with "tasks." before it means something too
	addrs   addrs
	tasks   addrs
}

// addrs are a group's addresses by family.
type addrs struct{ v4, v6 []netip.Addr }

// meaning is worked out when the name is first asked for: loading thousands of
// containers of one service costs no answers that nobody wants.
func (e *entry) meaning() []group {
	e.once.Do(func() {
		for _, s := range e.services {
			g := group{service: s.Service.Service, single: s.Single, many: true}
			g.tasks, g.ready = serving(s.hosts)
			if g.addrs = g.tasks; len(s.Addrs) > 0 {
				g.addrs = families(s.Addrs)
			}
			e.groups = append(e.groups, g)
		}
		e.sharing()
		for _, h := range e.own {
			if !e.serves(h.Service) && !slices.Contains(e.shared, h) {
				e.groups = append(e.groups, group{service: h.Service, ready: h.Ready, addrs: families(h.Addrs)})
			}
		}
		for i := range e.groups {
			e.groups[i].stack = stackOf(e.groups[i].service)
		}
	})
	return e.groups
}

// sharing makes one group per service of those that share the name without
// being called so by a service, and one of all that have no service.
func (e *entry) sharing() {
	of := map[string][]*host{}
	var order []string
	for _, h := range e.shared {
		if h.Service != "" && e.serves(h.Service) {
			continue
		}
		if of[h.Service] == nil {
			order = append(order, h.Service)
		}
		of[h.Service] = append(of[h.Service], h)
	}
	for _, name := range order {
		g := group{service: name, many: true}
		g.tasks, g.ready = serving(of[name])
		g.addrs = g.tasks
		e.groups = append(e.groups, g)
	}
}

func (e *entry) serves(name string) bool {
	return slices.ContainsFunc(e.services, func(s *service) bool { return s.Service.Service == name })
}

func (e *entry) empty() bool { return len(e.own)+len(e.shared)+len(e.services) == 0 }

// serving returns the addresses of the ready ones, or of all when none is.
func serving(hosts []*host) (addrs, bool) {
	var all, ready []netip.Addr
	for _, h := range hosts {
		all = append(all, h.Addrs...)
		if h.Ready {
			ready = append(ready, h.Addrs...)
		}
	}
	if len(ready) > 0 {
		return families(ready), true
	}
	return families(all), false
}

// families sorts addresses; those of a link mean nothing to an asker who does
// not know which link.
func families(list []netip.Addr) (out addrs) {
	for _, a := range list {
		switch {
		case a.IsLinkLocalUnicast():
		case a.Is4():
			out.v4 = append(out.v4, a)
		default:
			out.v6 = append(out.v6, a)
		}
	}
	return out
}

func stackOf(service string) string {
	name, _, ok := strings.Cut(service, "/")
	if !ok {
		return ""
	}
	return name
}

// bare is a service's name without its stack's.
func bare(service string) string { return service[strings.LastIndexByte(service, '/')+1:] }
