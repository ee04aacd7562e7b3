package address

import (
	"slices"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Books are those of all networks that span nodes. They are used by one
// goroutine at a time.
type Books struct {
	snap     *state.Snapshot // nil: nothing was followed yet
	index    uint64          // up to which the feed was followed
	networks map[string]*book
	held     map[string][]stack.TaskAddress // by task or container: never changed in place
	services map[string][]stack.TaskAddress // by state.ServiceKey: never changed in place
	fixed    map[string][]stack.TaskAddress // that services name, by state.ServiceKey
	ports    map[port]map[string]bool       // services by the host ports that they publish or are to
	claimed  map[string][]port              // the same by service
}

// New returns books that know nothing.
func New() *Books { return &Books{} }

// Reset forgets everything, also what was taken for commands that were not stored.
func (b *Books) Reset() { *b = Books{} }

// Follow catches up with the store.
func (b *Books) Follow(store *state.Store) {
	list, now, known := store.Follow(b.index) // of one moment: an address may pass from one record to another
	old := b.snap
	b.snap, b.index = now, now.Index()
	if !known || old == nil {
		b.rebuild()
		return
	}
	b.follow(list)
}

func (b *Books) rebuild() {
	b.networks, b.held, b.services = map[string]*book{}, map[string][]stack.TaskAddress{}, map[string][]stack.TaskAddress{}
	b.fixed, b.ports, b.claimed = map[string][]stack.TaskAddress{}, map[port]map[string]bool{}, map[string][]port{}
	for _, n := range b.snap.Networks() {
		if n.Spans() {
			b.networks[n.Name] = newBook(n.Network)
		}
	}
	b.snap.EachTask(func(t *stack.Task) bool {
		b.set(hosts, b.held, t.ID, t.Addresses)
		return true
	})
	b.snap.EachEndpoint(func(e *state.Endpoint) bool {
		b.set(hosts, b.held, e.ID, b.ofContainer(e.ID))
		return true
	})
	for _, s := range b.snap.Stacks() {
		for _, sv := range b.snap.Services(s.Name) {
			key := state.ServiceKey(sv.Stack, sv.Name)
			b.set(virtual, b.services, key, sv.Addresses)
			b.service(key, sv)
		}
	}
}

func (b *Books) follow(list []state.Touched) {
	for i := range list {
		if list[i].Table == state.TableNetwork {
			b.touchNetwork(list[i].Key)
		}
	}
	// First what is freed: an address may pass from one record to another.
	for _, only := range []bool{true, false} {
		for i := range list {
			s, to, key, has := b.record(&list[i])
			switch {
			case key == "":
			case only:
				b.shrink(s, to, key, has)
			default:
				b.set(s, to, key, has)
			}
		}
	}
	for i := range list {
		if t := &list[i]; t.Table == state.TableService {
			b.service(t.Key, b.snap.Service(t.Stack, t.Key[len(t.Stack)+1:]))
		}
	}
}

// service notes what a service names; nil: it is gone.
func (b *Books) service(key string, sv *state.Service) {
	if sv == nil {
		b.keep(key, nil)
		b.claim(key, nil, nil)
		return
	}
	b.keep(key, b.named(sv.Stack, &sv.Spec))
	b.claim(key, &sv.Spec, sv.Ports)
}

// record is what the record that was touched has now; key "": none that has addresses.
func (b *Books) record(t *state.Touched) (space, map[string][]stack.TaskAddress, string, []stack.TaskAddress) {
	switch t.Table {
	case state.TableTask:
		var has []stack.TaskAddress
		if task := b.snap.Task(t.Key); task != nil {
			has = task.Addresses
		}
		return hosts, b.held, t.Key, has
	case state.TableEndpoint:
		id := state.ContainerOf(t.Key)
		return hosts, b.held, id, b.ofContainer(id)
	case state.TableService:
		var has []stack.TaskAddress
		if sv := b.snap.Service(t.Stack, t.Key[len(t.Stack)+1:]); sv != nil {
			has = sv.Addresses
		}
		return virtual, b.services, t.Key, has
	}
	return 0, nil, "", nil
}

func (b *Books) ofContainer(id string) (out []stack.TaskAddress) {
	for _, e := range b.snap.ContainerEndpoints(id) {
		out = append(out, stack.TaskAddress{Network: e.Network, IPv4: e.IPv4, IPv6: e.IPv6})
	}
	return out
}

// touchNetwork opens a new book for a network whose addresses are others now.
func (b *Books) touchNetwork(name string) {
	n := b.snap.Network(name)
	old := b.networks[name]
	if n == nil || n.Name != name || !n.Spans() {
		delete(b.networks, name)
		return
	}
	if old != nil && old.same(n.Network) {
		return
	}
	b.networks[name] = b.fill(newBook(n.Network))
}

// fill writes down who is in a network according to the state, and what is kept.
func (b *Books) fill(n *book) *book {
	name := n.network.Name
	for _, t := range b.snap.NetworkTasks(name) {
		n.restoreOf(hosts, t.ID, t.Addresses)
	}
	for _, e := range b.snap.Endpoints(name) {
		n.restoreOf(hosts, e.ID, b.ofContainer(e.ID))
	}
	for _, service := range owners(b.services, name) {
		n.restoreOf(virtual, service, b.services[service])
	}
	for _, service := range owners(b.fixed, name) {
		for _, a := range b.fixed[service] {
			if a.Network == name {
				n.keep(service, a)
			}
		}
	}
	return n
}

// owners are those who have something in a network, sorted.
func owners(of map[string][]stack.TaskAddress, network string) (out []string) {
	for owner, list := range of {
		if slices.ContainsFunc(list, func(a stack.TaskAddress) bool { return a.Network == network }) {
			out = append(out, owner)
		}
	}
	slices.Sort(out)
	return out
}

// shrink frees what an owner has beyond has.
func (b *Books) shrink(s space, to map[string][]stack.TaskAddress, owner string, has []stack.TaskAddress) {
	var keep []stack.TaskAddress
	for _, a := range to[owner] {
		if slices.Contains(has, a) {
			keep = append(keep, a)
		} else if n := b.networks[a.Network]; n != nil {
			n.free(s, owner, a)
		}
	}
	switch {
	case len(keep) == 0:
		delete(to, owner)
	case len(keep) < len(to[owner]):
		to[owner] = keep
	}
}

// set makes has what an owner has.
func (b *Books) set(s space, to map[string][]stack.TaskAddress, owner string, has []stack.TaskAddress) {
	if slices.Equal(to[owner], has) {
		return
	}
	b.shrink(s, to, owner, has)
	for _, a := range has {
		if n := b.networks[a.Network]; n != nil && !slices.Contains(to[owner], a) {
			n.restore(s, owner, a)
		}
	}
	if len(has) > 0 {
		to[owner] = has
	}
}
