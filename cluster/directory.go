package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Topics are the networks of which a node is told, by name: those of its tasks
// and plain containers, and "", that of published ports, in an open cluster.
func (m *Manager) Topics(node string) []string {
	snap := m.store.Snapshot()
	topics := map[string]bool{}
	if c := snap.Cluster(); c != nil && c.Open && snap.Node(node) != nil {
		topics[""] = true
	}
	for _, t := range snap.NodeTasks(node) {
		for _, a := range t.Addresses {
			topics[a.Network] = true
		}
	}
	for _, e := range snap.NodeEndpoints(node) {
		topics[e.Network] = true
	}
	return slices.Sorted(maps.Keys(topics))
}

// Directory is what is known of a topic; with keys, of these alone.
func (m *Manager) Directory(topic string, keys []string) *stack.Directory {
	return directoryOf(m.store.Snapshot(), topic, keys)
}

func directoryOf(snap *state.Snapshot, topic string, keys []string) *stack.Directory {
	d := directory{snap: snap, topic: topic, out: &stack.Directory{}, services: map[[2]string]*state.Service{}}
	c := snap.Cluster()
	switch {
	case topic == "" && (c == nil || !c.Open):
	case keys == nil && topic == "":
		d.allPublished()
	case keys == nil:
		d.all()
	default:
		d.some(keys)
	}
	d.sort()
	return d.out
}

// directory is one that is being put together.
type directory struct {
	snap     *state.Snapshot
	topic    string
	out      *stack.Directory
	services map[[2]string]*state.Service
}

func (d *directory) all() {
	for _, t := range d.snap.NetworkTasks(d.topic) {
		d.task(t)
	}
	for _, e := range d.snap.Endpoints(d.topic) {
		d.plain(e)
	}
	for _, s := range d.snap.Stacks() {
		for _, n := range s.Spec.Networks {
			if n.Name != d.topic {
				continue
			}
			for _, sv := range d.snap.Services(s.Name) {
				d.service(sv)
			}
			break
		}
	}
}

func (d *directory) allPublished() {
	for _, s := range d.snap.Stacks() {
		for _, sv := range d.snap.Services(s.Name) {
			if !d.published(sv) {
				continue
			}
			for _, t := range d.snap.ServiceTasks(sv.Stack, sv.Name) {
				d.task(t)
			}
		}
	}
}

// some looks at what the keys name; what is not there any more is left out.
func (d *directory) some(keys []string) {
	for _, key := range keys {
		kind, name, _ := strings.Cut(key, "/")
		switch kind {
		case "endpoint":
			if t := d.snap.Task(name); t != nil {
				d.task(t)
			} else if e := d.snap.Endpoint(name, d.topic); e != nil {
				d.plain(e)
			}
		case "service", "published":
			stackName, service, _ := strings.Cut(name, "/")
			sv := d.snap.Service(stackName, service)
			switch {
			case sv == nil:
			case d.topic == "":
				d.published(sv)
			default:
				d.service(sv)
			}
		}
	}
}

func (d *directory) sort() {
	slices.SortFunc(d.out.Endpoints, func(a, b stack.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(d.out.Services, func(a, b stack.ServiceAddress) int { return strings.Compare(a.Service, b.Service) })
	slices.SortFunc(d.out.Published, func(a, b stack.Published) int { return strings.Compare(a.Service, b.Service) })
}

func (d *directory) serviceOf(t *stack.Task) *state.Service {
	key := [2]string{t.Stack, t.Service}
	sv, ok := d.services[key]
	if !ok {
		sv = d.snap.Service(t.Stack, t.Service)
		d.services[key] = sv
	}
	return sv
}

// down reports whether a node's containers cannot be reached.
func (d *directory) down(id string) bool {
	n := d.snap.Node(id)
	return n == nil || n.Down
}

// plain adds a container without a task.
func (d *directory) plain(e *state.Endpoint) {
	out := e.Endpoint
	out.Up = out.Up && !d.down(e.Node)
	out.Ready = out.Ready && out.Up
	d.out.Endpoints = append(d.out.Endpoints, out)
}

// task adds a task that has an address in the topic's network.
func (d *directory) task(t *stack.Task) {
	sv := d.serviceOf(t)
	if sv == nil {
		return
	}
	spec, _ := sv.SpecOf(t.Version)
	if spec == nil {
		return
	}
	at, ok := d.address(t, sv, spec)
	if !ok {
		return
	}
	e := stack.Endpoint{
		ID: t.ID, Network: at.Network, Node: t.Node, Container: t.Status.ContainerID, Name: containerName(d.snap, t),
		Service: t.Key(), IPv4: at.IPv4, IPv6: at.IPv6,
		Up: t.Status.State == stack.TaskRunning && !d.down(t.Node),
	}
	e.Ready = e.Up && !t.Status.Paused && (t.Status.Health == "" || t.Status.Health == "healthy") && t.Draining == 0 && t.Desired == stack.DesiredRun
	if d.topic != "" {
		d.names(&e, t, spec)
	}
	d.out.Endpoints = append(d.out.Endpoints, e)
}

// address is what a task has in the topic's network; behind published ports, in
// the network of its default route, which may be another one for each family.
func (d *directory) address(t *stack.Task, sv *state.Service, spec *stack.Service) (at stack.TaskAddress, ok bool) {
	if d.topic != "" {
		i := slices.IndexFunc(t.Addresses, func(a stack.TaskAddress) bool { return a.Network == d.topic })
		if i < 0 {
			return at, false
		}
		return t.Addresses[i], true
	}
	if len(sv.Spec.IngressPorts()) == 0 {
		return at, false
	}
	four := d.exit(t, spec, func(a stack.TaskAddress) string { return a.IPv4 })
	six := d.exit(t, spec, func(a stack.TaskAddress) string { return a.IPv6 })
	at = stack.TaskAddress{Network: cmp.Or(four.Network, six.Network), IPv4: four.IPv4, IPv6: six.IPv6}
	return at, at.Network != ""
}

// attached are the real names of the networks that a task is in, in the order of
// its spec. Its stack may call them otherwise by now, or have them no more: the
// task's addresses say which they were.
func attached(snap *state.Snapshot, t *stack.Task, spec *stack.Service) []string {
	names := snap.Attached(t.Stack, spec)
	if len(t.Addresses) == len(names) {
		for i, a := range t.Addresses {
			names[i] = a.Network
		}
	}
	return names
}

// names are what a task is called in the topic's network.
func (d *directory) names(e *stack.Endpoint, t *stack.Task, spec *stack.Service) {
	if len(e.Container) >= 12 {
		e.Names = append(e.Names, e.Container[:12])
	}
	if h := spec.Container.Hostname; h != "" {
		e.Names = append(e.Names, h)
	}
	e.Aliases = []string{t.Service}
	for i, name := range attached(d.snap, t, spec) {
		if name != d.topic {
			continue
		}
		at := spec.Container.Networks[i]
		for _, a := range at.Aliases {
			if !slices.Contains(e.Aliases, a) {
				e.Aliases = append(e.Aliases, a)
			}
		}
		e.MAC = at.MacAddress
		if e.MAC == "" && i == 0 {
			e.MAC = spec.Container.MacAddress
		}
	}
}

// exit is what a task has in the network of its default route, as on its node:
// of those where it has an address of the family the one with the highest
// GwPriority, then Priority, then the first of the file; never an internal one.
func (d *directory) exit(t *stack.Task, spec *stack.Service, of func(stack.TaskAddress) string) (best stack.TaskAddress) {
	var won stack.Attachment
	names := attached(d.snap, t, spec)
	for i, at := range spec.Container.Networks {
		n := d.snap.Network(names[i])
		has := slices.IndexFunc(t.Addresses, func(a stack.TaskAddress) bool { return a.Network == names[i] && of(a) != "" })
		if n == nil || n.Internal || has < 0 {
			continue
		}
		if best.Network == "" || at.GwPriority > won.GwPriority || at.GwPriority == won.GwPriority && at.Priority > won.Priority {
			best, won = t.Addresses[has], at
		}
	}
	return best
}

// service adds a service that has or is to have tasks in the topic's network.
func (d *directory) service(sv *state.Service) {
	i := slices.Index(d.snap.Attached(sv.Stack, &sv.Spec), d.topic)
	if !sv.Spec.Container.OwnNetworks() {
		i = -1
	}
	a := slices.IndexFunc(sv.Addresses, func(a stack.TaskAddress) bool { return a.Network == d.topic })
	if i < 0 && a < 0 {
		return
	}
	out := stack.ServiceAddress{
		Service: sv.Stack + "/" + sv.Name, Names: []string{sv.Name}, Sticky: sv.Spec.Sticky,
		Single: sv.Spec.Mode == stack.Replicated && sv.Spec.Replicas <= 1,
	}
	if a >= 0 {
		out.IPv4, out.IPv6 = sv.Addresses[a].IPv4, sv.Addresses[a].IPv6
	}
	if i >= 0 {
		for _, alias := range sv.Spec.Container.Networks[i].Aliases {
			if !slices.Contains(out.Names, alias) {
				out.Names = append(out.Names, alias)
			}
		}
	}
	out.Names = append(out.Names, sv.Name+"."+sv.Stack)
	d.out.Services = append(d.out.Services, out)
}

// published adds a service whose ports all nodes publish, and reports whether it is one.
func (d *directory) published(sv *state.Service) bool {
	ports := chosenPorts(sv)
	if len(ports) == 0 {
		return len(sv.Spec.IngressPorts()) > 0
	}
	d.out.Published = append(d.out.Published, stack.Published{
		Service: sv.Stack + "/" + sv.Name, Ports: ports, Sticky: sv.Spec.Sticky, Local: sv.Spec.PreferLocal,
	})
	return true
}

// topics says which records of directories a change of the state concerns.
func (c core) topics(snap *state.Snapshot, list []state.Touched) map[string][]string {
	out := topicKeys{}
	cl := snap.Cluster()
	open := cl != nil && cl.Open
	for i := range list {
		t := &list[i]
		switch t.Table {
		case state.TableTask:
			out.task(t.Key, t.Networks, open)
		case state.TableEndpoint:
			out.add(t.Networks, dispatch.EndpointKey(state.ContainerOf(t.Key)))
		case state.TableService:
			out.add(t.Networks, dispatch.ServiceKey(t.Key))
			if open {
				out.add([]string{""}, dispatch.PublishedKey(t.Key))
				if t.Outward {
					for _, task := range snap.ServiceTasks(t.Stack, t.Key[len(t.Stack)+1:]) {
						out.add([]string{""}, dispatch.EndpointKey(task.ID))
					}
				}
			}
		case state.TableNetwork:
			out[t.Key] = nil
		case state.TableCluster:
			out[""] = nil
		case state.TableNode:
			if t.Life {
				out.node(snap, t.Key, open)
			}
		}
	}
	return out
}

// topicKeys are keys by topic; nil: all.
type topicKeys map[string][]string

func (k topicKeys) add(topics []string, key string) {
	for _, topic := range topics {
		if keys, ok := k[topic]; (!ok || keys != nil) && (len(keys) == 0 || keys[len(keys)-1] != key) {
			k[topic] = append(keys, key)
		}
	}
}

func (k topicKeys) task(id string, networks []string, open bool) {
	if len(networks) == 0 {
		return
	}
	k.add(networks, dispatch.EndpointKey(id))
	if open {
		k.add([]string{""}, dispatch.EndpointKey(id))
	}
}

// node adds what a node has that came or went.
func (k topicKeys) node(snap *state.Snapshot, node string, open bool) {
	for _, t := range snap.NodeTasks(node) {
		networks := make([]string, len(t.Addresses))
		for i, a := range t.Addresses {
			networks[i] = a.Network
		}
		k.task(t.ID, networks, open)
	}
	for _, e := range snap.NodeEndpoints(node) {
		k.add([]string{e.Network}, dispatch.EndpointKey(e.ID))
	}
}
