package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// model is a state, an agent and a scheduler with nothing but their meaning.
type model struct {
	services map[string]*Service
	tasks    map[string]*stack.Task
	nodes    []*stack.Node
	volumes  map[string]bool // anonymous ones that there are
	now      int64
	ids      int
}

func newModel() *model {
	return &model{services: map[string]*Service{}, tasks: map[string]*stack.Task{}, volumes: map[string]bool{}, nodes: []*stack.Node{{ID: "n1"}, {ID: "n2"}}}
}

func (m *model) input() Input {
	in := Input{Stack: "s", Nodes: m.nodes, Now: m.now}
	for _, name := range sorted(m.services) {
		in.Services = append(in.Services, *m.services[name])
	}
	for _, id := range sorted(m.tasks) {
		in.Tasks = append(in.Tasks, m.tasks[id])
	}
	return in
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// round reconciles once and reports whether anything changed.
func (m *model) round() bool {
	m.now += int64(time.Second)
	res := Stack(m.input())
	changed := len(res.Delete)+len(res.Gone)+len(res.Left) > 0
	for name, left := range res.Left {
		s := *m.services[name]
		s.Left = left
		m.services[name] = &s
	}
	for _, id := range res.Delete {
		delete(m.tasks, id)
	}
	for _, name := range res.Gone {
		delete(m.services, name)
	}
	for _, c := range res.Changes {
		changed = true
		t := c.Task
		if c.New {
			m.ids++
			t.ID = fmt.Sprintf("t%04d", m.ids)
		}
		if c.Place {
			t.Node, t.Status = "n1", stack.TaskStatus{State: stack.TaskAssigned}
			if t.Pin != "" {
				t.Node = t.Pin
			}
		}
		m.tasks[t.ID] = &t
	}
	return changed
}

// obey lets the agent bring one task where it is wanted; false when it is there.
func (m *model) obey(t *stack.Task, exit int) bool {
	if t.Node == "" {
		return false
	}
	st := t.Status
	switch {
	case t.Desired == stack.DesiredRemove:
		st.State = stack.TaskRemoved
		if t.RemoveVolumes && len(t.AnonymousVolumes()) > 0 {
			st.Followed = stack.DesiredRemove
			for _, name := range t.AnonymousVolumes() {
				delete(m.volumes, name)
			}
		}
	case t.Desired == stack.DesiredStop:
		st.Followed = stack.DesiredStop
		if st.State < stack.TaskCompleted {
			st.State = stack.TaskReady
		}
	case t.Desired == stack.DesiredRun && (st.State < stack.TaskRunning || t.Restarts > st.Restarts):
		st.State, st.Health, st.Restarts, st.Followed, st.Message = stack.TaskRunning, "healthy", t.Restarts, stack.DesiredRun, ""
		st.Anonymous = t.Anonymous
		if st.Anonymous == nil {
			st.Anonymous = map[string]string{"/data": "of " + t.ID}
			m.volumes["of "+t.ID] = true
		}
	case t.Desired == stack.DesiredRun && st.State == stack.TaskRunning && m.oneShot(t):
		st.State, st.Health = stack.TaskCompleted, ""
		if exit != 0 {
			st.State, st.Message = stack.TaskFailed, fmt.Sprintf("exit code %d", exit)
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

func (m *model) oneShot(t *stack.Task) bool {
	s := m.services[t.Service]
	return s != nil && s.Spec.Mode == stack.ReplicatedJob
}

// calm runs rounds and agents until nothing changes any more.
func (m *model) calm(t *rapid.T) {
	for i := 0; ; i++ {
		if i > 400 {
			t.Fatalf("does not converge:\n%s", m)
		}
		moved := m.round()
		m.check(t)
		for _, id := range sorted(m.tasks) {
			moved = m.obey(m.tasks[id], 0) || moved
			m.check(t)
		}
		if !moved {
			break
		}
	}
	if res := Stack(m.input()); len(res.Changes)+len(res.Delete)+len(res.Gone)+len(res.Left) > 0 {
		t.Fatalf("not idempotent: %+v", res)
	}
}

// check holds at every moment: one task a slot, and no volume lost that one runs on.
func (m *model) check(t *rapid.T) {
	seen := map[string]string{}
	for _, id := range sorted(m.tasks) {
		task := m.tasks[id]
		key := fmt.Sprintf("%s.%d@%s", task.Service, task.Slot, task.Pin)
		if other := seen[key]; other != "" {
			t.Fatalf("%s has tasks %s and %s:\n%s", key, other, id, m)
		}
		seen[key] = id
		for _, name := range task.Status.Anonymous {
			if up(task) && task.Desired != stack.DesiredRemove && !m.volumes[name] {
				t.Fatalf("%s runs without its volume %q:\n%s", key, name, m)
			}
		}
	}
}

func (m *model) String() string {
	var b strings.Builder
	for _, id := range sorted(m.tasks) {
		t := m.tasks[id]
		fmt.Fprintf(&b, "%s %s.%d%s v%d node=%s %s state=%d %s\n", id, t.Service, t.Slot, t.Pin, t.Version, t.Node, t.Desired, t.Status.State, t.Status.Message)
	}
	return b.String()
}

// mutate draws one thing that a person or the world does.
func (m *model) mutate(t *rapid.T) {
	names := []string{"a", "b", "c", "d"}
	i := rapid.IntRange(0, len(names)-1).Draw(t, "service")
	name := names[i]
	s := m.services[name]
	switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); {
	case s == nil || kind <= 2:
		spec := &stack.Service{Name: name, Replicas: rapid.IntRange(0, 4).Draw(t, "replicas")}
		spec.Mode = rapid.SampledFrom([]stack.Mode{"", "", stack.Global, stack.ReplicatedJob}).Draw(t, "mode")
		if rapid.Bool().Draw(t, "rule") {
			spec.Deploy.Update = &stack.UpdateRule{Parallelism: rapid.IntRange(0, 2).Draw(t, "parallelism"), Delay: time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Second}
		}
		for _, other := range names[:i] { // no cycles
			if rapid.Bool().Draw(t, "depends") {
				spec.DependsOn = append(spec.DependsOn, stack.Dependency{Service: other, Condition: stack.Started, Optional: rapid.Bool().Draw(t, "optional")})
			}
		}
		version := uint64(1)
		if s != nil {
			version = s.Version + 1
		}
		fresh := &Service{Spec: spec, Version: version, Desired: stack.DesiredRun}
		if s != nil {
			fresh.Left = s.Left
		}
		m.services[name] = fresh
	case kind == 3:
		c := *s
		c.Desired = rapid.SampledFrom([]stack.Desired{stack.DesiredRun, stack.DesiredStop, stack.DesiredPause, stack.DesiredRemove}).Draw(t, "desired")
		m.services[name] = &c
	case kind == 4:
		c := *s
		c.Removing, c.RemoveVolumes = true, true
		m.services[name] = &c
	case kind == 5:
		for _, id := range sorted(m.tasks) {
			if task := *m.tasks[id]; task.Service == name && task.Node != "" && task.Desired != stack.DesiredRemove {
				task.Wanted = max(task.Wanted, task.Restarts) + 1
				m.tasks[id] = &task
			}
		}
	case kind == 6:
		for _, id := range sorted(m.tasks) {
			if task := m.tasks[id]; task.Service == name {
				m.obey(task, 1)
			}
		}
	default:
		m.round()
		for _, id := range sorted(m.tasks) {
			if rapid.Bool().Draw(t, "agent") {
				m.obey(m.tasks[id], 0)
			}
		}
	}
}

func TestOneTaskASlotAndConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			m.mutate(t)
			m.check(t)
		}
		m.calm(t)
		m.counts(t)
		m.down()
		m.calm(t)
		if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
			t.Fatalf("all is to go with its volumes, and there are %d services and the volumes %v:\n%s", len(m.services), m.volumes, m)
		}
	})
}

// counts checks what is left when all is calm.
func (m *model) counts(t *rapid.T) {
	for _, name := range sorted(m.services) {
		s := m.services[name]
		if s.Removing {
			t.Fatalf("%s is still there:\n%s", name, m)
		}
		n, want := 0, s.Spec.Replicas
		if s.Spec.Mode == stack.Global {
			want = len(m.nodes)
		}
		for _, task := range m.tasks {
			if task.Service != name {
				continue
			}
			n++
			if s.Desired == stack.DesiredStop && up(task) {
				t.Fatalf("%s is stopped but runs:\n%s", name, m)
			}
		}
		switch {
		case s.Desired == stack.DesiredRun && n != want, s.Desired == stack.DesiredRemove && n != 0, n > want:
			t.Fatalf("%s has %d tasks, wanted %d (%s):\n%s", name, n, want, s.Desired, m)
		}
	}
}

// down asks for the end of everything, with its volumes.
func (m *model) down() {
	for name, s := range m.services {
		c := *s
		c.Removing, c.RemoveVolumes = true, true
		m.services[name] = &c
	}
}

func (m *model) put(spec stack.Service, version uint64) *Service {
	s := &Service{Spec: &spec, Version: version, Desired: stack.DesiredRun}
	m.services[spec.Name] = s
	return s
}

func (m *model) settle() {
	for range 50 {
		m.round()
		for _, id := range sorted(m.tasks) {
			m.obey(m.tasks[id], 0)
		}
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

func TestGates(t *testing.T) {
	running := func(health string) stack.TaskStatus {
		return stack.TaskStatus{State: stack.TaskRunning, Health: health}
	}
	cases := []struct {
		condition stack.Condition
		db        stack.TaskStatus
		optional  bool
		want      string // "" is open
	}{
		{stack.Started, stack.TaskStatus{State: stack.TaskAssigned}, false, "waits for db to start"},
		{stack.Started, running(""), false, ""},
		{stack.Started, stack.TaskStatus{State: stack.TaskCompleted}, false, ""},
		{stack.Started, stack.TaskStatus{State: stack.TaskFailed, Message: "exit code 1"}, false, "depends on db, which failed: exit code 1"},
		{stack.Started, stack.TaskStatus{State: stack.TaskFailed, Message: "exit code 1"}, true, ""},
		{stack.Healthy, running("starting"), false, "waits for db to be healthy"},
		{stack.Healthy, running("starting"), true, "waits for db to be healthy"},
		{stack.Healthy, running("healthy"), false, ""},
		{stack.Healthy, running("unhealthy"), false, "depends on db, which is unhealthy"},
		{stack.Healthy, running(""), false, "depends on db to be healthy, which has no health check"},
		{stack.Healthy, stack.TaskStatus{State: stack.TaskCompleted}, false, "depends on db to be healthy, which has ended: exit code 0"},
		{stack.Completed, running(""), false, "waits for db to complete"},
		{stack.Completed, stack.TaskStatus{State: stack.TaskCompleted}, false, ""},
		{stack.Completed, stack.TaskStatus{State: stack.TaskFailed, Message: "exit code 3"}, false, "depends on db, which failed: exit code 3"},
	}
	for _, c := range cases {
		m := newModel()
		m.put(stack.Service{Name: "db", Replicas: 1}, 1)
		m.put(stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: c.condition, Optional: c.optional}}}, 1)
		m.round()
		m.set("db", c.db)
		m.round()
		for _, task := range m.tasks {
			if task.Service != "web" {
				continue
			}
			if got := task.Status.Message; got != c.want || (task.Node != "") != (c.want == "") {
				t.Errorf("%s, db %+v: web says %q on node %q, want %q", c.condition, c.db, got, task.Node, c.want)
			}
		}
	}
}

func TestUpdateByParallelism(t *testing.T) {
	m := newModel()
	spec := stack.Service{Name: "web", Replicas: 5, Deploy: stack.Deploy{Update: &stack.UpdateRule{Parallelism: 2}}}
	m.put(spec, 1)
	m.settle()
	m.put(spec, 2)
	for range 60 {
		m.round()
		out := 0
		for _, task := range m.tasks {
			if task.Status.State != stack.TaskRunning || task.Desired == stack.DesiredRemove {
				out++
			}
		}
		if out > 2 {
			t.Fatalf("%d tasks are out at once:\n%s", out, m)
		}
		for _, id := range sorted(m.tasks) { // one at a time: the worst order
			if m.obey(m.tasks[id], 0) {
				break
			}
		}
	}
	for _, task := range m.tasks {
		if task.Version != 2 || task.Status.State != stack.TaskRunning {
			t.Fatalf("not updated:\n%s", m)
		}
	}
}

func TestAFailingUpdateStops(t *testing.T) {
	m := newModel()
	spec := stack.Service{Name: "web", Replicas: 4, Deploy: stack.Deploy{Update: &stack.UpdateRule{Parallelism: 1}}}
	m.put(spec, 1)
	m.settle()
	m.put(spec, 2)
	for range 40 {
		m.round()
		for _, id := range sorted(m.tasks) {
			if task := *m.tasks[id]; task.Version == 2 {
				task.Status = stack.TaskStatus{State: stack.TaskFailed, Message: "exit code 1"}
				m.tasks[id] = &task
			} else {
				m.obey(&task, 0)
			}
		}
	}
	old := 0
	for _, task := range m.tasks {
		if task.Version == 1 && task.Status.State == stack.TaskRunning {
			old++
		}
	}
	if old != 3 {
		t.Errorf("%d of the old tasks run, want 3:\n%s", old, m)
	}
}

func TestOldTasksStayWhileTheNewCouldNotStart(t *testing.T) {
	m := newModel()
	web := stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Healthy}}}
	m.put(stack.Service{Name: "db", Replicas: 1}, 1)
	m.put(web, 1)
	m.settle()
	m.put(stack.Service{Name: "db", Replicas: 1}, 2)
	m.put(web, 2)
	m.round() // db's old task is to go, web's is not
	for _, task := range m.tasks {
		if (task.Desired == stack.DesiredRemove) != (task.Service == "db") {
			t.Fatalf("after one round:\n%s", m)
		}
	}
	m.settle()
	for _, task := range m.tasks {
		if task.Version != 2 || task.Status.State != stack.TaskRunning {
			t.Fatalf("not updated:\n%s", m)
		}
	}
}

func TestScalingDownRemovesTheHighest(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "web", Replicas: 5}, 1)
	m.settle()
	m.put(stack.Service{Name: "web", Replicas: 2}, 1)
	m.settle()
	var left []int
	for _, task := range m.tasks {
		left = append(left, task.Slot)
	}
	slices.Sort(left)
	if !slices.Equal(left, []int{1, 2}) {
		t.Errorf("left: %v", left)
	}
}

func TestAnonymousVolumesAreInherited(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "db", Replicas: 1}, 1)
	m.settle()
	m.set("db", stack.TaskStatus{State: stack.TaskRunning, Anonymous: map[string]string{"/data": "v1"}})
	m.put(stack.Service{Name: "db", Replicas: 1}, 2)
	m.settle()
	for _, task := range m.tasks {
		if task.Version != 2 || task.Anonymous["/data"] != "v1" {
			t.Errorf("task %+v", task)
		}
	}
}

func TestJobsRunAFewAtATime(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "job", Mode: stack.ReplicatedJob, Replicas: 5, MaxConcurrent: 2}, 1)
	for range 40 {
		m.round()
		busy := 0
		for _, task := range m.tasks {
			if task.Status.State < stack.TaskCompleted {
				busy++
			}
		}
		if busy > 2 {
			t.Fatalf("%d at once:\n%s", busy, m)
		}
		for _, id := range sorted(m.tasks) {
			if m.obey(m.tasks[id], 0) {
				break
			}
		}
	}
	for _, task := range m.tasks {
		if task.Status.State != stack.TaskCompleted {
			t.Fatalf("not done:\n%s", m)
		}
	}
	if len(m.tasks) != 5 {
		t.Errorf("%d tasks", len(m.tasks))
	}
}
