package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// model is a state, agents and a scheduler with nothing but their meaning.
type model struct {
	services map[string]*Service
	tasks    map[string]*stack.Task
	past     map[string][]*stack.Task
	nodes    []*stack.Node
	volumes  map[string]string          // anonymous ones that there are, and their nodes
	runs     map[string]map[string]bool // by node: tasks whose process runs, whatever the managers know
	ended    map[string]bool            // nodes whose lease has ended
	broken   map[string]bool            // nodes that cannot start anything
	room     int                        // tasks that a node takes; 0: any number
	now      int64
	ids      int
}

func newModel(nodes ...string) *model {
	m := &model{
		services: map[string]*Service{}, tasks: map[string]*stack.Task{}, past: map[string][]*stack.Task{}, volumes: map[string]string{},
		runs: map[string]map[string]bool{}, ended: map[string]bool{}, broken: map[string]bool{}, now: int64(time.Hour),
	}
	if len(nodes) == 0 {
		nodes = []string{"n1", "n2"}
	}
	for _, id := range nodes {
		m.nodes = append(m.nodes, &stack.Node{ID: id})
		m.runs[id] = map[string]bool{}
	}
	return m
}

func (m *model) input() Input {
	in := Input{Stack: "s", Nodes: m.nodes, Now: m.now}
	for _, name := range sorted(m.services) {
		in.Services = append(in.Services, *m.services[name])
	}
	for _, id := range sorted(m.tasks) {
		in.Tasks = append(in.Tasks, m.tasks[id])
	}
	in.Past = func(service string) []*stack.Task { return m.past[service] }
	in.Bound = func(s *stack.Service) bool { return len(s.Container.Mounts) > 0 }
	in.LeaseEnded = func(node string) bool { return m.ended[node] }
	return in
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// node changes a node.
func (m *model) node(id string, f func(*stack.Node)) {
	for i, n := range m.nodes {
		if n.ID == id {
			c := *n
			f(&c)
			m.nodes[i] = &c
		}
	}
}

func (m *model) find(id string) *stack.Node {
	for _, n := range m.nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// round reconciles once, a second later, and reports whether anything changed.
func (m *model) round() bool {
	m.now += int64(time.Second)
	changed, _ := m.decide()
	return changed
}

// decide reconciles once; it returns whether anything changed and when to look again.
func (m *model) decide() (changed bool, again int64) {
	res := Stack(m.input())
	changed = len(res.Delete)+len(res.Retire)+len(res.Gone)+len(res.Left)+len(res.Rollout) > 0
	for _, id := range res.Delete {
		delete(m.tasks, id)
	}
	for _, t := range res.Retire {
		delete(m.tasks, t.ID)
		m.past[t.Service] = append(m.past[t.Service], &t)
	}
	for _, c := range res.Changes {
		changed = m.apply(c) || changed
	}
	for _, u := range res.Rollout {
		s := *m.services[u.Service]
		s.Update = u.Update
		if u.Back != 0 {
			spec := s.Versions[u.Back].Clone()
			spec.Replicas = s.Spec.Replicas
			s.Spec, s.Version = &spec, u.Back
		}
		m.services[u.Service] = &s
	}
	for name, left := range res.Left {
		s := *m.services[name]
		s.Left = left
		m.services[name] = &s
	}
	for _, name := range res.Gone {
		delete(m.services, name)
		delete(m.past, name)
	}
	return changed, res.Again
}

func (m *model) apply(c Change) bool {
	t := c.Task
	if c.New {
		m.ids++
		t.ID = fmt.Sprintf("t%04d", m.ids)
	}
	if c.Place {
		t.Node = m.place(&t)
		t.Status = stack.TaskStatus{State: stack.TaskAssigned}
		if t.Node == "" {
			t.Status = stack.TaskStatus{State: stack.TaskPending, Message: "no node fits"}
		}
	}
	if old := m.tasks[t.ID]; old != nil && fmt.Sprint(*old) == fmt.Sprint(t) {
		return false
	}
	m.tasks[t.ID] = &t
	return true
}

// place takes the node with the fewest tasks, but where the volumes are.
func (m *model) place(t *stack.Task) string {
	load := map[string]int{}
	for _, o := range m.tasks {
		if o.Status.State < stack.TaskCompleted {
			load[o.Node]++
		}
	}
	best := ""
	for _, n := range m.nodes {
		if n.Down || n.Availability != stack.Active || t.Pin != "" && t.Pin != n.ID || m.room > 0 && load[n.ID] >= m.room {
			continue
		}
		if n.ID == t.AnonymousNode {
			return n.ID
		}
		if best == "" || load[n.ID] < load[best] {
			best = n.ID
		}
	}
	return best
}

// live reports whether a task's agent can talk to the managers.
func (m *model) live(t *stack.Task) bool {
	n := m.find(t.Node)
	return n != nil && !n.Down
}

// obey lets the agent bring one task where it is wanted; false when it is there or cannot.
func (m *model) obey(t *stack.Task, exit int) bool {
	if !m.live(t) {
		return false
	}
	st, running := t.Status, m.runs[t.Node]
	switch {
	case t.Desired == stack.DesiredRemove:
		st.State = stack.TaskRemoved
		delete(running, t.ID)
		if t.RemoveVolumes && len(t.AnonymousVolumes()) > 0 {
			st.Followed = stack.DesiredRemove
			for _, name := range t.AnonymousVolumes() {
				delete(m.volumes, name)
			}
		}
	case t.Desired == stack.DesiredStop:
		st.Followed = stack.DesiredStop
		delete(running, t.ID)
		if st.State < stack.TaskCompleted {
			st.State = stack.TaskReady
		}
	case t.Desired == stack.DesiredRun && m.broken[t.Node] && (st.State < stack.TaskRunning || st.NotStarted):
		st.State, st.NotStarted, st.Message = stack.TaskFailed, true, "create: disk is full"
	case t.Desired == stack.DesiredRun && (st.State < stack.TaskRunning || st.NotStarted || t.Restarts > st.Restarts || st.State == stack.TaskRunning && !running[t.ID]):
		st.State, st.Health, st.Restarts, st.Followed, st.Message, st.NotStarted = stack.TaskRunning, "healthy", t.Restarts, stack.DesiredRun, "", false
		if m.bad(t) {
			st.Health = "starting"
		}
		running[t.ID] = true
		m.mount(t, &st)
	case t.Desired == stack.DesiredRun && st.State == stack.TaskRunning && (m.oneShot(t) || m.bad(t)):
		st.State, st.Health = stack.TaskCompleted, ""
		delete(running, t.ID)
		if exit != 0 || m.bad(t) {
			st.State, st.Message = stack.TaskFailed, "exit code 1"
		}
	}
	if fmt.Sprint(st) == fmt.Sprint(t.Status) {
		return false
	}
	c := *t
	c.Status = st
	c.Status.Time = time.Unix(0, m.now)
	m.tasks[t.ID] = &c
	return true
}

// mount gives a container that wants one its anonymous volume.
func (m *model) mount(t *stack.Task, st *stack.TaskStatus) {
	if s := m.services[t.Service]; s == nil || s.Spec.Labels["anonymous"] == "" || st.Anonymous != nil {
		return
	}
	st.Anonymous = t.Inherited()
	if st.Anonymous == nil {
		st.Anonymous = map[string]string{"/data": "of " + t.ID}
		m.volumes["of "+t.ID] = t.Node
	}
}

func (m *model) oneShot(t *stack.Task) bool {
	s := m.services[t.Service]
	return s != nil && job(s.Spec.Mode)
}

// bad tells of tasks that end with an error soon after they started.
func (m *model) bad(t *stack.Task) bool {
	s := m.services[t.Service]
	if s == nil {
		return false
	}
	spec := s.Spec
	if t.Version != s.Version {
		spec = s.Versions[t.Version]
	}
	return spec != nil && spec.Labels["bad"] != ""
}

// lose cuts a node off: its containers go on running.
func (m *model) lose(id string) {
	m.node(id, func(n *stack.Node) { n.Down = true })
	m.ended[id] = false
}

// expire ends a lost node's lease: it stops what is exclusive by itself.
func (m *model) expire(id string) {
	for task := range m.runs[id] {
		if t := m.tasks[task]; t == nil || m.services[t.Service] == nil || m.services[t.Service].Spec.Exclusive {
			delete(m.runs[id], task)
		}
	}
	m.ended[id] = true
}

// back brings a node back: what it knows no task of, it ends.
func (m *model) back(id string) {
	m.node(id, func(n *stack.Node) { n.Down = false })
	maps.DeleteFunc(m.runs[id], func(task string, _ bool) bool { return m.tasks[task] == nil })
}

// forget removes a lost node for good, as `node rm --force`.
func (m *model) forget(id string) {
	m.nodes = slices.DeleteFunc(m.nodes, func(n *stack.Node) bool { return n.ID == id })
	maps.DeleteFunc(m.volumes, func(_, node string) bool { return node == id })
}

// put applies a spec: as a new version, unless it is of the version there is.
func (m *model) put(spec stack.Service, version uint64) *Service {
	s := &Service{Spec: &spec, Version: version, Desired: stack.DesiredRun, Versions: map[uint64]*stack.Service{version: &spec}}
	if old := m.services[spec.Name]; old != nil {
		s.Left, s.Update = old.Left, old.Update
		for v, o := range old.Versions {
			if v != version {
				s.Versions[v] = o
			}
		}
		if version != old.Version {
			s.Update = &stack.UpdateStatus{State: stack.Updating, From: old.Version, To: version, Started: m.now}
			if u := old.Update; u.Active() && (u.State != stack.Updating || len(u.Failed) > 0) {
				s.Update.From = old.Update.From
			}
		}
	}
	m.services[spec.Name] = s
	return s
}

// work lets all agents take one step; it reports whether any did.
func (m *model) work() (moved bool) {
	for _, id := range sorted(m.tasks) {
		moved = m.obey(m.tasks[id], 0) || moved
	}
	return moved
}

func (m *model) settle() {
	for range 80 {
		m.round()
		m.work()
	}
}

// set gives the only task of a service a status.
func (m *model) set(service string, st stack.TaskStatus) {
	for id, t := range m.tasks {
		if t.Service == service {
			c := *t
			c.Status = st
			m.tasks[id] = &c
		}
	}
}

// of returns the tasks of a service, by ID.
func (m *model) of(service string) (out []*stack.Task) {
	for _, id := range sorted(m.tasks) {
		if m.tasks[id].Service == service {
			out = append(out, m.tasks[id])
		}
	}
	return out
}

func (m *model) String() string {
	var b strings.Builder
	for _, n := range m.nodes {
		fmt.Fprintf(&b, "%s down=%t %s\n", n.ID, n.Down, n.Availability)
	}
	for _, name := range sorted(m.services) {
		s := m.services[name]
		fmt.Fprintf(&b, "%s v%d %s mode=%s n=%d update=%+v\n", name, s.Version, s.Desired, s.Spec.Mode, s.Spec.Replicas, s.Update)
	}
	for _, id := range sorted(m.tasks) {
		t := m.tasks[id]
		fmt.Fprintf(&b, "%s %s.%d%s v%d node=%s %s state=%d serving=%d replaces=%s retry=%d %s\n", id, t.Service, t.Slot, t.Pin, t.Version, t.Node, t.Desired, t.Status.State, t.Serving/1e9, t.Replaces, t.Retry/1e9, t.Status.Message)
	}
	return b.String()
}
