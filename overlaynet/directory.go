package overlaynet

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// distant is a container of another node. The kernel knows the way there from
// when it has an address until that is given back: one that has just started
// is answered, and one whose node has lost the cluster keeps its connections.
// Names and pools have those that are up.
type distant struct {
	stack.Endpoint
	addrs  []netip.Addr
	mac    string
	via    netip.Addr     // of its node, in the underlay
	number uint16         // of its node
	lost   netip.AddrPort // of its node, which the managers hold to be down; invalid: they do not
}

// distantLocked is the endpoint as this node can use it; nil: it cannot.
func (m *Manager) distantLocked(e *stack.Endpoint) *distant {
	p, ok := m.peerLocked(e.Node)
	if !ok {
		return nil
	}
	d := &distant{Endpoint: *e, mac: e.MAC, via: p.Addr, number: p.Number}
	if p.Down {
		d.Up, d.Ready, d.lost = false, false, p.Control
	}
	for _, s := range []string{e.IPv4, e.IPv6} {
		if a, err := netip.ParseAddr(s); err == nil {
			d.addrs = append(d.addrs, a)
		}
	}
	if len(d.addrs) == 0 {
		return nil
	}
	if d.mac == "" {
		d.mac = MAC(d.addrs[0])
	}
	return d
}

// addr is the endpoint's address of a family; invalid: none.
func (d *distant) addr(v6 bool) netip.Addr {
	for _, a := range d.addrs {
		if a.Is6() == v6 {
			return a
		}
	}
	return netip.Addr{}
}

// up reports whether the container has names, and gets requests when it is ready.
func (d *distant) up() bool { return d != nil && d.Up }

func (d *distant) same(o *distant) bool {
	return d == o || d != nil && o != nil && d.via == o.via && d.number == o.number && d.lost == o.lost && sameEndpoint(&d.Endpoint, &o.Endpoint)
}

func sameEndpoint(a, b *stack.Endpoint) bool {
	return a.ID == b.ID && a.Network == b.Network && a.Node == b.Node && a.Container == b.Container && a.Name == b.Name && a.Stack == b.Stack &&
		a.Service == b.Service && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.MAC == b.MAC && a.Up == b.Up && a.Ready == b.Ready &&
		slices.Equal(a.Names, b.Names) && slices.Equal(a.Aliases, b.Aliases)
}

func sameService(a, b *stack.ServiceAddress) bool {
	return a.Service == b.Service && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && a.Single == b.Single && a.Sticky == b.Sticky && slices.Equal(a.Names, b.Names)
}

// each walks over two lists in order of their keys and tells of every key
// whose elements differ; nil stands for an element that is not there.
func each[T any](old, now []T, key func(*T) string, same func(a, b *T) bool, differs func(key string, now *T)) {
	old, now = ordered(old, key), ordered(now, key)
	for i, j := 0, 0; i < len(old) || j < len(now); {
		switch c := compareAt(old, now, i, j, key); {
		case c < 0:
			differs(key(&old[i]), nil)
			i++
		case c > 0:
			differs(key(&now[j]), &now[j])
			j++
		default:
			if !same(&old[i], &now[j]) {
				differs(key(&now[j]), &now[j])
			}
			i, j = i+1, j+1
		}
	}
}

func compareAt[T any](old, now []T, i, j int, key func(*T) string) int {
	if i == len(old) {
		return 1
	}
	if j == len(now) {
		return -1
	}
	return cmp.Compare(key(&old[i]), key(&now[j]))
}

// ordered sorts what should be sorted already.
func ordered[T any](in []T, key func(*T) string) []T {
	order := func(a, b T) int { return cmp.Compare(key(&a), key(&b)) }
	for i := 1; i < len(in); i++ {
		if key(&in[i-1]) > key(&in[i]) {
			in = slices.Clone(in)
			slices.SortStableFunc(in, order)
			break
		}
	}
	return in
}

func endpointID(e *stack.Endpoint) string        { return e.ID }
func serviceName(s *stack.ServiceAddress) string { return s.Service }
func publishedName(p *stack.Published) string    { return p.Service }
func samePublished(a, b *stack.Published) bool   { return reflect.DeepEqual(a, b) }

// contents of a directory that may not be there.
func contents(d *stack.Directory) (z stack.Directory) {
	if d != nil {
		return *d
	}
	return z
}

// followDirectoryLocked takes over what is known of a network. nil is not
// known: what was known stays.
func (m *Manager) followDirectoryLocked(n *network, dir *stack.Directory) {
	if dir == nil || dir == n.dir || !n.def.Spans() {
		return
	}
	old, now := contents(n.dir), contents(dir)
	n.dir = dir
	each(old.Services, now.Services, serviceName, sameService, func(name string, s *stack.ServiceAddress) { m.serviceLocked(n, name, s) })
	each(old.Endpoints, now.Endpoints, endpointID, sameEndpoint, func(id string, e *stack.Endpoint) { m.endpointLocked(n, id, e) })
	if len(n.hosts) == 0 { // what an earlier process has left goes
		m.pending.remotes[n] = true
	}
	m.shapeLocked(n)
}

// lookAgainLocked follows a change of the other nodes.
func (m *Manager) lookAgainLocked(n *network) {
	if n.dir != nil {
		for i := range n.dir.Endpoints {
			m.endpointLocked(n, n.dir.Endpoints[i].ID, &n.dir.Endpoints[i])
		}
	}
	m.shapeLocked(n)
}

// abandonLocked forgets what is known of a network that no container of this
// node is in.
func (m *Manager) abandonLocked(n *network) {
	if n.dir == nil {
		return
	}
	old := *n.dir
	each(old.Endpoints, nil, endpointID, sameEndpoint, func(id string, _ *stack.Endpoint) { m.endpointLocked(n, id, nil) })
	each(old.Services, nil, serviceName, sameService, func(name string, _ *stack.ServiceAddress) { m.serviceLocked(n, name, nil) })
	n.dir = &stack.Directory{}
	m.shapeLocked(n)
}

// endpointLocked follows one container of a directory; nil: it is gone.
func (m *Manager) endpointLocked(n *network, id string, e *stack.Endpoint) {
	var d *distant
	if e != nil {
		d = m.distantLocked(e)
	}
	old := n.hosts[id]
	if d.same(old) {
		return
	}
	for _, x := range []*distant{old, d} {
		if x.up() && x.Service != "" {
			m.touchPoolLocked(n, x.Service)
		}
	}
	if old != nil {
		n.forgetDistant(old)
		delete(n.hosts, id)
	}
	if d != nil {
		n.hosts[id] = d
	}
	switch {
	case d.up():
		n.byService.add(d.Service, id, d)
		for _, a := range d.addrs {
			n.byAddr[a] = id
		}
		if n.live {
			m.opt.Names.SetHost(n.hostOf(d))
		}
	case old.up() && n.live:
		m.opt.Names.RemoveHost(id, n.key())
	}
	if old == nil || d == nil || old.mac != d.mac || old.via != d.via || !slices.Equal(old.addrs, d.addrs) {
		m.pending.remotes[n] = true
	}
	m.partLocked(n, old, d)
}

// partLocked ends connections to where nobody is any more, and datagrams to
// one that is to get no new ones.
func (m *Manager) partLocked(n *network, old, now *distant) {
	if old == nil {
		return
	}
	for _, a := range old.addrs {
		switch {
		case now == nil || !slices.Contains(now.addrs, a):
			m.pending.gone[a] = parting{n: n}
		case old.Up && !now.Up:
			m.pending.gone[a] = parting{n: n, lost: now.lost}
		case old.Ready && !now.Ready:
			m.pending.drained[a] = true
		}
	}
}

func (n *network) forgetDistant(d *distant) {
	n.byService.remove(d.Service, d.ID)
	for _, a := range d.addrs {
		if n.byAddr[a] == d.ID {
			delete(n.byAddr, a)
		}
	}
}

// hostOf is what the resolver learns of a container on another node.
func (n *network) hostOf(d *distant) Host {
	names := make([]string, 0, len(d.Names)+1)
	for _, name := range append([]string{d.Name}, d.Names...) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return Host{Sandbox: d.ID, Network: n.key(), Addrs: d.addrs, Service: d.Service, Remote: true, Names: names, Shared: d.Aliases, Ready: d.Ready}
}

// remoteList is what the kernel learns of the containers on other nodes.
func (n *network) remoteList() []Remote {
	out := make([]Remote, 0, len(n.hosts))
	for _, id := range sortedKeys(n.hosts) {
		d := n.hosts[id]
		out = append(out, Remote{Addrs: d.addrs, MAC: d.mac, Via: d.via})
	}
	return out
}

// index finds what belongs to a service, by ID.
type index[T any] map[string]map[string]T

func (x index[T]) add(service, id string, v T) {
	if service == "" {
		return
	}
	if x[service] == nil {
		x[service] = map[string]T{}
	}
	x[service][id] = v
}

func (x index[T]) remove(service, id string) {
	if delete(x[service], id); len(x[service]) == 0 {
		delete(x, service)
	}
}
