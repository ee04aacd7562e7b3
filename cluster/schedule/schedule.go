package schedule

import (
	"maps"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Cluster is the nodes and what their tasks take. It is kept from round to
// round: SetNode, Add and their opposites follow the state, in any order, and
// Place counts what it places. One made of the same nodes and tasks in one go
// places alike. It is not safe for concurrent use.
type Cluster struct {
	byID     map[string]*host // also hosts of tasks whose node is not known (yet)
	hosts    []*host          // known ones by ID; valid when settled
	settled  bool
	services map[string]*service // by STACK/SERVICE
	needs    map[version]*need
	enough   int               // so many needs that it is time to sweep
	held     map[string]held   // by task ID
	bound    map[string]string // volume to node ID: bound by Place and not yet told of in a request
	images   map[string]int    // how many hosts have the image

	names   map[string][]*host // by host name in lower case; made when needed
	namesAt uint64             // changes.set when it was

	changes changes
	shared  map[string]*index // by signature: nodes without tasks of the service
	owners  []*service        // that have an index
	clock   uint64            // counts uses of indexes
	scan    bool              // tests: look at every node, always
}

// version names one spec of a service.
type version struct {
	service string
	number  uint64
}

// held is what a task was counted as.
type held struct {
	host *host
	need *need
	live bool
}

// tally counts the tasks of a service on a host.
type tally struct {
	all  int32 // also those that are being removed
	live int32
}

// service is what is known of a service across nodes.
type service struct {
	key     string
	own     map[*host]tally
	live    int             // tasks
	idle    int             // hosts of own without a live task
	shunned map[*host]int32 // hosts with tasks that keep away from this service: how many
	index   *index          // of its own; nil until it is worth its price
	debt    int             // work done without index
}

// NewCluster takes the nodes in any order.
func NewCluster(nodes []*stack.Node) *Cluster {
	c := &Cluster{
		byID: make(map[string]*host, len(nodes)), services: map[string]*service{}, needs: map[version]*need{},
		held: map[string]held{}, bound: map[string]string{}, images: map[string]int{}, shared: map[string]*index{},
	}
	for _, n := range nodes {
		c.SetNode(n)
	}
	return c
}

// SetNode adds a node or follows its changes. The node must not change afterwards.
func (c *Cluster) SetNode(n *stack.Node) {
	h := c.host(n.ID)
	old := h.node
	h.node = n
	switch {
	case old == nil:
		c.settled = false
	case old == n:
	case !sameIdentity(old, n):
		c.changes.renew()
	default:
		c.changes.touch(h)
	}
}

// sameIdentity says whether what constraints and spreads look at is unchanged.
func sameIdentity(a, b *stack.Node) bool {
	return a.Hostname == b.Hostname && a.Role == b.Role && a.Addr == b.Addr && a.OS == b.OS && a.Architecture == b.Architecture &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.EngineLabels, b.EngineLabels)
}

// RemoveNode forgets a node. Its tasks, if any are left, count again when it comes back.
func (c *Cluster) RemoveNode(id string) {
	h := c.byID[id]
	if h == nil || h.node == nil {
		return
	}
	c.SetInventory(id, Inventory{})
	h.node, c.settled = nil, false
	c.forget(h)
}

// SetInventory says what a node has.
func (c *Cluster) SetInventory(node string, inv Inventory) {
	h := c.byID[node]
	if h == nil || h.node == nil {
		return
	}
	have := make(map[string]bool, len(inv.Images))
	for _, image := range inv.Images {
		have[image] = true
	}
	if maps.Equal(have, h.images) {
		return
	}
	for image := range h.images {
		if c.images[image]--; c.images[image] == 0 {
			delete(c.images, image)
		}
	}
	for image := range have {
		c.images[image]++
	}
	h.images = have
	c.changes.touch(h)
}

// BindVolume says that a volume is on a node; "" that it is nowhere any more.
// Place knows by itself what it has bound, and what requests say.
func (c *Cluster) BindVolume(name, node string) {
	if node == "" {
		delete(c.bound, name)
		return
	}
	c.bound[name] = node
}

// Add counts a task as it is now, in place of what was known of it. A task that
// has ended, or has no node, takes nothing. S is the spec of its version, nil
// when that is gone. When a spec changes and the version stays (reservations,
// constraints), its tasks are to be added again. A task without ID cannot be
// changed or removed afterwards.
func (c *Cluster) Add(t *stack.Task, s *stack.Service) {
	old, had := c.held[t.ID]
	if t.Node == "" || t.Status.State >= stack.TaskCompleted {
		if had {
			c.Remove(t.ID)
		}
		return
	}
	now := held{c.host(t.Node), c.need(t, s), t.Desired != stack.DesiredRemove}
	if had && old == now {
		return
	}
	c.count(now, 1) // first: a host without node goes with its last task
	if t.ID == "" {
		return
	}
	if had {
		c.count(old, -1)
	}
	c.held[t.ID] = now
}

// Remove forgets a task, by ID. What is not known is no error.
func (c *Cluster) Remove(task string) {
	if old, ok := c.held[task]; ok {
		delete(c.held, task)
		c.count(old, -1)
	}
}

func (c *Cluster) host(id string) *host {
	h := c.byID[id]
	if h == nil {
		h = &host{id: id, pos: -1}
		c.byID[id] = h
	}
	return h
}

// forget drops a host that is neither a node nor has tasks.
func (c *Cluster) forget(h *host) {
	if h.node == nil && h.all == 0 {
		delete(c.byID, h.id)
	}
}

func (c *Cluster) service(key string) *service {
	sv := c.services[key]
	if sv == nil {
		sv = &service{key: key, own: map[*host]tally{}, shunned: map[*host]int32{}}
		c.services[key] = sv
	}
	return sv
}

// need reads the spec of a task's version, once.
func (c *Cluster) need(t *stack.Task, s *stack.Service) *need {
	v := version{ServiceKey(t), t.Version}
	n := c.needs[v]
	if n == nil || n.spec != s {
		n = newNeed(v.service, s)
		n.number = v.number
		c.needs[v] = n
	}
	return n
}

// ServiceKey is STACK/SERVICE.
func ServiceKey(t *stack.Task) string { return t.Stack + "/" + t.Service }

// count adds one task (by 1) or takes it away (by -1).
func (c *Cluster) count(e held, by int32) {
	e.host.take(e.need, int64(by))
	sv := c.service(e.need.service)
	was := sv.own[e.host]
	now := tally{was.all + by, was.live}
	if e.live {
		now.live += by
		sv.live += int(by)
		e.host.tasks += by
	}
	sv.setOwn(e.host, was, now)
	for _, name := range e.need.repels {
		c.service(name).shun(e.host, by)
	}
	e.need.tasks += int(by)
	c.changes.touch(e.host)
	if by < 0 {
		c.forget(e.host)
		c.tidy(sv, e.need)
	}
}

func (sv *service) setOwn(h *host, was, now tally) {
	idle := func(t tally) int {
		if t.all > 0 && t.live == 0 {
			return 1
		}
		return 0
	}
	sv.idle += idle(now) - idle(was)
	if now.all == 0 {
		delete(sv.own, h)
		return
	}
	sv.own[h] = now
}

func (sv *service) shun(h *host, by int32) {
	if sv.shunned[h] += by; sv.shunned[h] == 0 {
		delete(sv.shunned, h)
	}
}

// tidy forgets what nothing uses any more.
func (c *Cluster) tidy(sv *service, n *need) {
	c.drop(sv)
	for _, name := range n.repels {
		c.drop(c.services[name])
	}
	if v := (version{n.service, n.number}); n.tasks == 0 && c.needs[v] == n {
		delete(c.needs, v)
	}
}

func (c *Cluster) drop(sv *service) {
	if sv != nil && len(sv.own) == 0 && len(sv.shunned) == 0 {
		sv.index = nil
		delete(c.services, sv.key)
	}
}

// sweep forgets specs of tasks that were refused and never came back.
func (c *Cluster) sweep() {
	if len(c.needs) < c.enough {
		return
	}
	maps.DeleteFunc(c.needs, func(_ version, n *need) bool { return n.tasks == 0 })
	c.enough = max(1024, 2*len(c.needs))
}

// settle puts the hosts in order after nodes came or went.
func (c *Cluster) settle() {
	if c.settled {
		return
	}
	c.hosts = c.hosts[:0]
	for _, h := range c.byID {
		h.pos = -1
		if h.node != nil {
			c.hosts = append(c.hosts, h)
		}
	}
	slices.SortFunc(c.hosts, func(a, b *host) int { return strings.Compare(a.id, b.id) })
	for i, h := range c.hosts {
		h.pos = i
	}
	c.settled = true
	c.changes.renew()
}

// named returns the hosts of a host name, in whatever case.
func (c *Cluster) named(name string) []*host {
	if c.names == nil || c.namesAt != c.changes.set {
		c.names, c.namesAt = map[string][]*host{}, c.changes.set
		for _, h := range c.hosts {
			low := strings.ToLower(h.node.Hostname)
			c.names[low] = append(c.names[low], h)
		}
	}
	return c.names[strings.ToLower(name)]
}
