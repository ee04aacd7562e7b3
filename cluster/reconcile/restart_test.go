package reconcile

import (
	"maps"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func TestFailedTasksAreReplacedByPolicy(t *testing.T) {
	failing := map[string]string{"bad": "yes"}
	for _, tc := range []struct {
		name   string
		policy stack.RestartPolicy
		made   int             // tasks in ten minutes
		gaps   []time.Duration // between the first ones
	}{
		{"no policy", stack.RestartPolicy{}, 1, nil},
		{"attempts", stack.RestartPolicy{Condition: "on-failure", MaxAttempts: 2}, 3, []time.Duration{5 * time.Second, 10 * time.Second}},
		{"growing delays", stack.RestartPolicy{Condition: "always", Delay: 20 * time.Second}, 5, []time.Duration{20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second}},
		{"attempts within a window", stack.RestartPolicy{Condition: "on-failure", MaxAttempts: 1, Window: time.Second, Delay: time.Minute}, 4, []time.Duration{time.Minute, 2 * time.Minute}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel("n1")
			m.put(stack.Service{Name: "web", Replicas: 1, Labels: failing, Container: stack.ContainerSpec{Restart: tc.policy}}, 1)
			begin, created := m.now, map[string]int64{}
			for m.now < begin+int64(10*time.Minute) {
				m.round()
				m.work()
				for id, task := range m.tasks {
					created[id] = task.Created
				}
			}
			if len(created) != tc.made {
				t.Fatalf("%d tasks were made, want %d:\n%s", len(created), tc.made, m)
			}
			ids := sorted(created)
			for i, want := range tc.gaps {
				got := time.Duration(created[ids[i+1]] - created[ids[i]])
				if got < want || got > want+6*time.Second {
					t.Errorf("attempt %d after %s, want %s and a little", i+1, got, want)
				}
			}
		})
	}
}

func TestWhatCannotStartGoesToABetterNode(t *testing.T) {
	m := newModel("n1", "n2")
	m.broken["n1"] = true
	m.put(stack.Service{Name: "web", Replicas: 1}, 1)
	m.put(stack.Service{Name: "db", Replicas: 1, Container: stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountVolume, Source: "data"}}}}, 1)
	m.round()
	m.set("web", stack.TaskStatus{State: stack.TaskFailed, NotStarted: true, Message: "create: disk is full"})
	for id, task := range m.tasks { // both were put on the node that cannot
		c := *task
		c.Node = "n1"
		m.tasks[id] = &c
	}
	m.settle()
	web, db := m.of("web"), m.of("db")
	if len(web) != 1 || len(m.past["web"]) == 0 || len(db) != 1 || len(m.past["db"]) != 0 {
		t.Fatalf("want web to have been moved, and db, which has its data there, not:\n%s", m)
	}
	past := m.past["web"][0]
	if past.End.State != stack.TaskFailed || past.End.Why != "failed" || past.End.Message != "create: disk is full" {
		t.Errorf("history says %+v", past.End)
	}
	if got := Failures(web, m.past["web"], past.End.Time+1); got["n1"] == 0 || got["n2"] != 0 {
		t.Errorf("failures by node: %v", got)
	}
	if got := Failures(nil, m.past["web"], past.End.Time+int64(time.Hour)); len(got) != 0 {
		t.Errorf("an hour later: %v", got)
	}
}

func TestOnOneNodeItGoesOnTrying(t *testing.T) {
	m := newModel("n1")
	m.broken["n1"] = true
	m.put(stack.Service{Name: "web", Replicas: 1}, 1)
	m.settle()
	if m.ids != 1 {
		t.Errorf("%d tasks were made, and the first would have done as well", m.ids)
	}
	clear(m.broken)
	m.settle()
	if task := m.of("web")[0]; !good(task) {
		t.Errorf("%+v", task.Status)
	}
}

func TestFailuresCountInPlace(t *testing.T) {
	tasks := []*stack.Task{
		{Node: "n1", Status: stack.TaskStatus{State: stack.TaskFailed, RestartCount: 2}},
		{Node: "n2", Status: stack.TaskStatus{State: stack.TaskReady, RestartCount: 4}},
		{Node: "n3", Status: stack.TaskStatus{State: stack.TaskRunning, RestartCount: 4}},
		{},
	}
	if got, want := Failures(tasks, nil, 0), map[string]int{"n1": 3, "n2": 4}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
