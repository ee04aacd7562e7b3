package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
)

// zone is one network's names.
type zone struct {
	overlaynet.Zone
	own    map[string][]*host // lower case, no final dot
	shared map[string][]*host
}

// host is one container in one network.
type host struct{ overlaynet.Host }

// client is one container as an asker.
type client struct {
	zones []*zone // in which it is
	dns   []string
}

// records is everything that the resolver knows. Its owner has a lock.
type records struct {
	zones map[string]*zone                // by network ID
	hosts map[[2]string]*host             // by sandbox and network ID
	addrs map[string]map[netip.Addr]*host // by network ID: whose address
	of    map[netip.Addr][]*host          // by address, over all networks: who asks
	by    map[string][]*host              // by sandbox
}

func newRecords() *records {
	return &records{map[string]*zone{}, map[[2]string]*host{}, map[string]map[netip.Addr]*host{}, map[netip.Addr][]*host{}, map[string][]*host{}}
}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (r *records) setZone(z overlaynet.Zone) {
	if old := r.zones[z.Network]; old != nil {
		old.Zone = z
		return
	}
	r.zones[z.Network] = &zone{Zone: z, own: map[string][]*host{}, shared: map[string][]*host{}}
	r.addrs[z.Network] = map[netip.Addr]*host{}
}

func (r *records) removeZone(network string) {
	for k, h := range r.hosts {
		if k[1] == network {
			r.removeHost(h.Sandbox, network)
		}
	}
	delete(r.zones, network)
	delete(r.addrs, network)
}

func (r *records) setHost(h overlaynet.Host) {
	r.removeHost(h.Sandbox, h.Network)
	z := r.zones[h.Network]
	if z == nil {
		return
	}
	x := &host{h}
	r.hosts[[2]string{h.Sandbox, h.Network}] = x
	for _, n := range h.Names {
		add(z.own, fold(n), x)
	}
	for _, n := range h.Shared {
		add(z.shared, fold(n), x)
		add(z.shared, "tasks."+fold(n), x)
	}
	for _, a := range h.Addrs {
		r.addrs[h.Network][a] = x
		r.of[a] = append(r.of[a], x)
	}
	r.by[h.Sandbox] = append(r.by[h.Sandbox], x)
}

func (r *records) removeHost(sandbox, network string) {
	x := r.hosts[[2]string{sandbox, network}]
	if x == nil {
		return
	}
	delete(r.hosts, [2]string{sandbox, network})
	if z := r.zones[network]; z != nil {
		for _, n := range x.Names {
			drop(z.own, fold(n), x)
		}
		for _, n := range x.Shared {
			drop(z.shared, fold(n), x)
			drop(z.shared, "tasks."+fold(n), x)
		}
	}
	for _, a := range x.Addrs {
		if r.addrs[network][a] == x {
			delete(r.addrs[network], a)
		}
		drop(r.of, a, x)
	}
	drop(r.by, sandbox, x)
}

func add(m map[string][]*host, k string, x *host) {
	if k != "" && !slices.Contains(m[k], x) {
		m[k] = append(m[k], x)
	}
}

func drop[K comparable](m map[K][]*host, k K, x *host) {
	rest := slices.DeleteFunc(slices.Clone(m[k]), func(h *host) bool { return h == x })
	if len(rest) == 0 {
		delete(m, k)
	} else {
		m[k] = rest
	}
}

// ask finds the asker by its address and the address that was asked.
func (r *records) ask(from, at netip.Addr) (client, bool) {
	for _, h := range r.of[from] {
		z := r.zones[h.Network]
		if z == nil || at.IsValid() && !slices.Contains(z.Gateways, at) && len(r.of[from]) > 1 {
			continue
		}
		c := client{dns: ownServers(h)}
		for _, x := range r.by[h.Sandbox] {
			if z := r.zones[x.Network]; z != nil {
				c.zones = append(c.zones, z)
			}
		}
		return c, true
	}
	return client{}, false
}

// ownServers are a container's own resolvers. One on a loopback address runs
// in the container itself, whose loopback is not ours: it is asked at the
// container's address.
func ownServers(h *host) []string {
	out := slices.Clone(h.DNS)
	for i, s := range out {
		if a, err := netip.ParseAddr(s); err == nil && a.IsLoopback() && len(h.Addrs) > 0 {
			out[i] = h.Addrs[0].String()
		}
	}
	return out
}

// lookup returns the addresses of a name in the asker's networks; known tells
// whether the name exists at all.
func (c client) lookup(name string) (out []netip.Addr, known bool) {
	for _, z := range c.zones {
		hosts := z.find(name)
		if hosts == nil {
			if bare, ok := strings.CutSuffix(name, "."+fold(z.Name)); ok {
				hosts = z.find(bare)
			}
		}
		for _, h := range hosts {
			known = true
			for _, a := range h.Addrs {
				if !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return out, known
}

// find prefers a container's own name; of a shared one it returns the ready
// containers, or all when none is ready.
func (z *zone) find(name string) []*host {
	shared := z.shared[name]
	var ready []*host
	for _, h := range shared {
		if h.Ready {
			ready = append(ready, h)
		}
	}
	if ready == nil {
		ready = shared
	}
	// A name that is both (a container called like a service) means both.
	for _, h := range z.own[name] {
		if !slices.Contains(shared, h) {
			ready = append(slices.Clone(ready), h)
		}
	}
	return ready
}

// reverse returns the name of an address in the asker's networks.
func (r *records) reverse(c client, a netip.Addr) (string, bool) {
	for _, z := range c.zones {
		if h := r.addrs[z.Network][a]; h != nil && len(h.Names) > 0 {
			return fold(h.Names[0]) + "." + fold(z.Name) + ".", true
		}
	}
	return "", false
}

// outside tells whether the asker may ask the world.
func (c client) outside() bool {
	return slices.ContainsFunc(c.zones, func(z *zone) bool { return !z.Internal })
}
