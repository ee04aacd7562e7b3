package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dhow-project/dhow/overlaynet"
)

// table is a map that is read without waiting for those who write.
type table[K comparable, V any] struct{ m sync.Map }

func (t *table[K, V]) get(k K) (v V) {
	if x, ok := t.m.Load(k); ok {
		v = x.(V)
	}
	return v
}

func (t *table[K, V]) set(k K, v V) { t.m.Store(k, v) }
func (t *table[K, V]) drop(k K)     { t.m.Delete(k) }

func (t *table[K, V]) size() (n int) {
	t.m.Range(func(any, any) bool { n++; return true })
	return n
}

// zone is one network's names.
type zone struct {
	now     atomic.Pointer[overlaynet.Zone]
	names   table[string, *entry]       // lower case, no final dot
	addrs   table[netip.Addr, *host]    // whose address
	virtual table[netip.Addr, *service] // whose virtual one
	hosts   map[string]*host            // by sandbox; of the writer
	members map[string]*service         // by name; of the writer
}

// box is one container of this node as an asker.
type box struct{ hosts atomic.Pointer[[]*host] }

func (b *box) list() []*host {
	if p := b.hosts.Load(); p != nil {
		return *p
	}
	return nil
}

// records is everything that the resolver knows. Whoever changes it holds a
// lock; whoever reads needs none, and sees of each name what it was before a
// change or what it is after.
type records struct {
	zones map[string]*zone           // by network ID; of the writer
	boxes map[string]*box            // by sandbox; of the writer
	of    table[netip.Addr, []*host] // by address, over all networks: who asks
}

func newRecords() *records {
	return &records{zones: map[string]*zone{}, boxes: map[string]*box{}}
}

func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (r *records) setZone(z overlaynet.Zone) {
	x := r.zones[z.Network]
	if x == nil {
		x = &zone{hosts: map[string]*host{}, members: map[string]*service{}}
		r.zones[z.Network] = x
	}
	x.now.Store(&z)
}

func (r *records) removeZone(network string) {
	z := r.zones[network]
	if z == nil {
		return
	}
	for _, h := range z.hosts {
		r.replace(z, h, nil)
	}
	delete(r.zones, network)
}

func (r *records) setHost(h overlaynet.Host) {
	if z := r.zones[h.Network]; z != nil {
		r.replace(z, z.hosts[h.Sandbox], &host{Host: h, zone: z})
	}
}

func (r *records) removeHost(sandbox, network string) {
	if z := r.zones[network]; z != nil && z.hosts[sandbox] != nil {
		r.replace(z, z.hosts[sandbox], nil)
	}
}

// replace puts next in the place of old; either may be nil. What both have in
// common is never missing in between.
func (r *records) replace(z *zone, old, next *host) {
	var was, is overlaynet.Host
	if old != nil {
		was = old.Host
	}
	if next != nil {
		is = next.Host
		z.hosts[is.Sandbox] = next
		r.enter(next)
	} else {
		delete(z.hosts, was.Sandbox)
	}
	r.member(z, was.Service, is.Service, old, next)
	if next != nil {
		for _, a := range is.Addrs {
			z.addrs.set(a, next)
		}
	}
	for name := range folded(was.Names, was.Shared, is.Names, is.Shared) {
		own, shared := has(is.Names, name), has(is.Shared, name)
		z.edit(name, func(e *entry) {
			e.own = swap(e.own, old, when(own, next))
			e.shared = swap(e.shared, old, when(shared, next))
		})
	}
	if old != nil {
		for _, a := range was.Addrs {
			if z.addrs.get(a) == old {
				z.addrs.drop(a)
			}
		}
		r.exit(old)
	}
}

// enter lets a container of this node ask; in the place of an older one of it
// in the same network.
func (r *records) enter(h *host) {
	if h.Remote {
		return
	}
	if h.box = r.boxes[h.Sandbox]; h.box == nil {
		h.box = &box{}
		r.boxes[h.Sandbox] = h.box
	}
	list := slices.DeleteFunc(slices.Clone(h.box.list()), func(x *host) bool { return x.zone == h.zone })
	list = append(list, h)
	h.box.hosts.Store(&list)
	for _, a := range h.Addrs {
		r.of.set(a, append(slices.Clip(r.of.get(a)), h))
	}
}

func (r *records) exit(h *host) {
	if h.box == nil {
		return
	}
	for _, a := range h.Addrs {
		if rest := swap(r.of.get(a), h, nil); len(rest) > 0 {
			r.of.set(a, rest)
		} else {
			r.of.drop(a)
		}
	}
	list := swap(h.box.list(), h, nil)
	h.box.hosts.Store(&list)
	if len(list) == 0 && r.boxes[h.Sandbox] == h.box {
		delete(r.boxes, h.Sandbox)
	}
}

// member moves a container between the services was and is, often the same.
func (r *records) member(z *zone, was, is string, old, next *host) {
	if was != is {
		z.join(was, old, nil)
		old = nil
	}
	z.join(is, old, next)
}

func (z *zone) join(name string, old, next *host) {
	if name == "" || old == nil && next == nil {
		return
	}
	x := service{Service: overlaynet.Service{Service: name}}
	if cur := z.members[name]; cur != nil {
		x = *cur
	}
	x.hosts = swap(x.hosts, old, next)
	z.setService(x)
}

// setService replaces what is known of a service.
func (z *zone) setService(x service) {
	old, next := z.members[x.Service.Service], &x
	if !x.known && len(x.hosts) == 0 {
		next = nil
		delete(z.members, x.Service.Service)
	} else {
		z.members[x.Service.Service] = next
	}
	var was overlaynet.Service
	if old != nil {
		was = old.Service
	}
	for _, a := range x.Addrs {
		z.virtual.set(a, next)
	}
	for name := range folded(was.Names, x.Names) {
		called := has(x.Names, name)
		z.edit(name, func(e *entry) { e.services = swap(e.services, old, when(called, next)) })
	}
	for _, a := range was.Addrs {
		if z.virtual.get(a) == old {
			z.virtual.drop(a)
		}
	}
}

// edit replaces the entry of a name.
func (z *zone) edit(name string, change func(*entry)) {
	next := &entry{}
	if e := z.names.get(name); e != nil {
		next.own, next.shared, next.services = e.own, e.shared, e.services
	}
	change(next)
	if next.empty() {
		z.names.drop(name)
	} else {
		z.names.set(name, next)
	}
}

// folded is the set of names in the lists.
func folded(lists ...[]string) map[string]bool {
	out := map[string]bool{}
	for _, l := range lists {
		for _, n := range l {
			if n = fold(n); n != "" {
				out[n] = true
			}
		}
	}
	return out
}

func has(list []string, name string) bool {
	return slices.ContainsFunc(list, func(n string) bool { return fold(n) == name })
}

func when[T any](yes bool, v *T) *T {
	if yes {
		return v
	}
	return nil
}

// swap returns the list with next in the place of old; without a place it is
// put at the end, without next it is taken out. The list itself stays as it is
// for those who read it; what it becomes is the only one that is changed again,
// so that thousands are not copied once for each that joins them.
func swap[T any](list []*T, old, next *T) []*T {
	i := -1
	if old != nil {
		i = slices.Index(list, old)
	}
	switch {
	case i < 0 && next == nil:
		return list
	case i < 0:
		return append(list, next)
	case next == nil:
		return slices.Delete(slices.Clone(list), i, i+1)
	}
	out := slices.Clone(list)
	out[i] = next
	return out
}
