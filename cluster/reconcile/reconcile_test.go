package reconcile

import (
	"slices"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

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

// TestNobodyWaitsForAServiceAtZero: but for who shares something with its tasks.
func TestNobodyWaitsForAServiceAtZero(t *testing.T) {
	shares := stack.Service{Name: "web", Replicas: 1}
	shares.Container.NetworkMode = "service:db"
	for _, c := range []struct {
		web  stack.Service
		mode stack.Mode
		want string
	}{
		{stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Started}}}, stack.Replicated, ""},
		{stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Healthy}}}, stack.Replicated, ""},
		{stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Completed}}}, stack.ReplicatedJob, ""},
		{stack.Service{Name: "web", Replicas: 1, Links: []string{"db:d"}}, stack.Replicated, ""},
		{shares, stack.Replicated, "waits for db, which has no tasks"},
	} {
		m := newModel()
		m.put(stack.Service{Name: "db", Mode: c.mode}, 1)
		m.put(c.web, 1)
		m.round()
		if len(m.tasks) != 1 {
			t.Fatalf("%d tasks:\n%s", len(m.tasks), m)
		}
		for _, task := range m.tasks {
			if got := task.Status.Message; got != c.want || (task.Node != "") != (c.want == "") {
				t.Errorf("%+v: web says %q on node %q, want %q", c.web, got, task.Node, c.want)
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

func TestAFailingUpdatePauses(t *testing.T) {
	for order, want := range map[string]int{"stop-first": 3, "start-first": 4} {
		m := newModel()
		spec := stack.Service{Name: "web", Replicas: 4, Deploy: stack.Deploy{Update: &stack.UpdateRule{Parallelism: 1, Order: order}}}
		m.put(spec, 1)
		m.settle()
		spec.Labels = map[string]string{"bad": "yes"}
		m.put(spec, 2)
		m.settle()
		old := 0
		for _, task := range m.tasks {
			if task.Version == 1 && task.Status.State == stack.TaskRunning {
				old++
			}
		}
		if u := m.services["web"].Update; old != want || u.State != stack.UpdatePaused || u.Message != "web.1: exit code 1" {
			t.Errorf("%s: %d of the old tasks run, want %d; update %+v\n%s", order, old, want, u, m)
		}
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
	m.round() // db's old task gets a successor, web's does not
	if len(m.of("db")) != 2 || len(m.of("web")) != 1 {
		t.Fatalf("after one round:\n%s", m)
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
	m.put(keeper(1), 1)
	m.settle()
	m.set("db", stack.TaskStatus{State: stack.TaskRunning, Anonymous: map[string]string{"/data": "v1"}})
	m.put(keeper(1), 2)
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
