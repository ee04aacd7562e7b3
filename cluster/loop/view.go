package loop

import (
	"maps"
	"reflect"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// view is what decisions are made from: a snapshot, and beside it what is kept
// from round to round because making it anew costs as much as the cluster is large.
type view struct {
	snap    *state.Snapshot // nil: nothing was followed yet
	index   uint64          // up to which the feed was followed
	cluster *schedule.Cluster
	nodes   []*stack.Node // all, by ID
	byID    map[string]*stack.Node
	specs   map[[2]string]map[uint64]*specRecord // by stack and service, and version
	filters filters
	books   *address.Books
	have    map[string]map[string]bool // volumes that nodes are known to have: node IDs by name
	seen    map[string]inventoryOf     // by node
	asked   time.Time                  // when inventories were last asked for

	inventoryChanged <-chan struct{} // closed: nodes have something else since; nil: not all were asked
}

// specRecord keeps one pointer for a spec as long as it says the same: the
// state makes a new record whenever anything about a service changes.
type specRecord struct {
	spec *stack.Service
	raw  *stack.Service // as the state has it
}

type inventoryOf struct {
	version uint64
	volumes []string
}

// touches is whom the changes since the last round concern.
type touches struct {
	stacks []string // in the order in which they were touched; some more than once
	nodes  []string // of which something changed that matters for tasks
	freed  bool     // a task takes less than before
}

// follow catches up with the store; false when everything is to be looked at.
func (v *view) follow(store *state.Store) (touches, bool) {
	list, now, known := store.Since(v.index)
	old := v.snap
	v.snap = store.Snapshot() // has at least what the feed told of
	v.index = now
	v.books.Follow(store)
	if !known || old == nil {
		v.rebuild()
		return touches{}, false
	}
	var t touches
	for i := range list {
		v.touch(&list[i], old, &t)
	}
	if v.nodes == nil {
		v.nodes = v.snap.Nodes()
	}
	return t, true
}

func (v *view) rebuild() {
	v.nodes = v.snap.Nodes()
	v.byID = make(map[string]*stack.Node, len(v.nodes))
	for _, n := range v.nodes {
		v.byID[n.ID] = n
	}
	v.cluster = schedule.NewCluster(v.nodes)
	v.specs, v.filters = map[[2]string]map[uint64]*specRecord{}, filters{}
	v.seen, v.have, v.asked = map[string]inventoryOf{}, map[string]map[string]bool{}, time.Time{}
	v.inventoryChanged = nil
	for _, vol := range v.snap.Volumes() {
		v.cluster.BindVolume(vol.Name, vol.Node)
	}
	v.snap.EachTask(func(t *stack.Task) bool {
		if t.Node != "" {
			v.cluster.Add(t, v.spec(t))
		}
		return true
	})
}

func (v *view) touch(what *state.Touched, old *state.Snapshot, t *touches) {
	if n := len(t.stacks); what.Stack != "" && (n == 0 || t.stacks[n-1] != what.Stack) {
		t.stacks = append(t.stacks, what.Stack)
	}
	switch what.Table {
	case state.TableTask:
		task := v.snap.Task(what.Key)
		if task == nil {
			v.cluster.Remove(what.Key)
			t.freed = true
			t.stacks = append(t.stacks, v.owners(what)...)
			return
		}
		v.cluster.Add(task, v.spec(task))
		t.freed = t.freed || task.Status.State >= stack.TaskCompleted || task.Desired == stack.DesiredRemove
	case state.TableNode:
		v.touchNode(what.Key, old, t)
	case state.TableVolume:
		node := ""
		if vol := v.snap.Volume(what.Key); vol != nil {
			node = vol.Node
		}
		v.cluster.BindVolume(what.Key, node)
	case state.TableCluster:
		if c := old.Cluster(); c == nil || !c.Open { // it may have been opened
			for _, s := range v.snap.Stacks() {
				t.stacks = append(t.stacks, s.Name)
			}
		}
	case state.TableEndpoint:
		if v.gone(what.Key) {
			t.freed = true
			t.stacks = append(t.stacks, v.owners(what)...)
		}
	case state.TableNetwork:
		t.stacks = append(t.stacks, v.users(what.Key)...)
	case state.TableService:
		v.touchService(old, what.Stack, what.Key[len(what.Stack)+1:])
	}
}

// gone reports whether an endpoint is no more, so that others may have its addresses.
func (v *view) gone(key string) bool {
	id := state.ContainerOf(key)
	return v.snap.Endpoint(id, key[len(id)+1:]) == nil
}

// owners are the stacks of the networks that a task or an endpoint was in: they
// may wait for its end.
func (v *view) owners(gone *state.Touched) (stacks []string) {
	for _, name := range gone.Networks {
		if n := v.snap.Network(name); n != nil && n.Network.Stack != "" && n.Network.Stack != gone.Stack {
			stacks = append(stacks, n.Network.Stack)
		}
	}
	return stacks
}

// users are the stacks whose services may be in a network, by whatever name they give it.
func (v *view) users(network string) (names []string) {
	for _, s := range v.snap.Stacks() {
		for _, n := range s.Spec.Networks {
			if n.Name == network {
				names = append(names, s.Name)
				break
			}
		}
	}
	return names
}

func (v *view) touchNode(id string, old *state.Snapshot, t *touches) {
	was, now := old.Node(id), v.snap.Node(id)
	v.nodes = nil
	if now == nil {
		v.cluster.RemoveNode(id)
		delete(v.byID, id)
	} else {
		v.cluster.SetNode(now)
		v.byID[id] = now
	}
	if was == nil {
		v.inventoryChanged = nil // it may have said what it has before it was a node
	}
	if was == nil || now == nil || !sameForTasks(was, now) {
		t.nodes = append(t.nodes, id)
	}
}

// sameForTasks leaves out what a node's call changes all the time.
func sameForTasks(a, b *stack.Node) bool {
	return a.Hostname == b.Hostname && a.Role == b.Role && a.Availability == b.Availability && a.Down == b.Down &&
		a.OS == b.OS && a.Architecture == b.Architecture && a.NanoCPUs == b.NanoCPUs && a.Memory == b.Memory && a.Addr == b.Addr &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.EngineLabels, b.EngineLabels) && maps.Equal(a.Generic, b.Generic)
}

// touchService counts the tasks of a service anew when one of its specs says something else.
func (v *view) touchService(old *state.Snapshot, stackName, name string) {
	if was := old.Service(stackName, name); was != nil {
		delete(v.filters, &was.Spec) // it would keep the record that was replaced
	}
	key := [2]string{stackName, name}
	cached := v.specs[key]
	sv := v.snap.Service(stackName, name)
	if sv == nil {
		for _, r := range cached {
			delete(v.filters, r.spec)
		}
		delete(v.specs, key)
		return
	}
	stale := false
	for version, r := range cached {
		raw, _ := sv.SpecOf(version)
		switch {
		case raw == nil:
			delete(v.filters, r.spec)
			delete(cached, version)
		case raw != r.raw && !reflect.DeepEqual(raw, r.spec):
			delete(v.filters, r.spec)
			r.spec, stale = raw, true
		}
		r.raw = raw
	}
	if !stale {
		return
	}
	for _, t := range v.snap.ServiceTasks(stackName, name) {
		v.cluster.Add(t, v.spec(t))
	}
}

// spec returns the spec of a task's version, nil when that is gone.
func (v *view) spec(t *stack.Task) *stack.Service {
	key := [2]string{t.Stack, t.Service}
	cached := v.specs[key]
	if r := cached[t.Version]; r != nil {
		return r.spec
	}
	sv := v.snap.Service(t.Stack, t.Service)
	if sv == nil {
		return nil
	}
	spec, _ := sv.SpecOf(t.Version)
	if spec == nil {
		return nil
	}
	if cached == nil {
		cached = map[uint64]*specRecord{}
		v.specs[key] = cached
	}
	cached[t.Version] = &specRecord{spec: spec, raw: spec}
	return spec
}

// inventoryEvery is how often nodes are asked what they have when that changed:
// mostly it changes where tasks are better off, not where they can be. For tasks
// that wait, perhaps for a volume, it is inventoryWanted.
const (
	inventoryEvery  = 5 * time.Second
	inventoryWanted = 20 * time.Millisecond
)

// inventory asks what the nodes have and reports whether that may let a task be
// placed that could not. Wanted is true when tasks wait.
func (v *view) inventory(inv Inventory, now time.Time, wanted bool) (news bool) {
	pause := inventoryEvery
	if wanted {
		pause = inventoryWanted
	}
	if inv == nil || now.Sub(v.asked) < pause || !v.stale() {
		return false
	}
	v.inventoryChanged = inv.Changed() // before asking: what comes in between is asked for again
	v.asked = now
	for _, n := range v.nodes {
		images, volumes, version := inv.Inventory(n.ID)
		old := v.seen[n.ID]
		if version == old.version {
			continue
		}
		v.seen[n.ID] = inventoryOf{version, volumes}
		v.cluster.SetInventory(n.ID, schedule.Inventory{Images: images})
		for _, name := range old.volumes {
			delete(v.have[name], n.ID)
		}
		for _, name := range volumes {
			if v.have[name] == nil {
				v.have[name] = map[string]bool{}
			}
			v.have[name][n.ID] = true
		}
		news = true
	}
	return news
}

// stale reports whether nodes may have something else than when they were asked.
func (v *view) stale() bool {
	select {
	case <-v.inventoryChanged:
		return true
	default:
		return v.inventoryChanged == nil
	}
}
