package reconcile

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func TestALostNodesTasksAreReplacedAtOnce(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "web", Replicas: 4}, 1)
	m.settle()
	m.lose("n1")
	for range 3 { // at one moment: nothing is waited for
		m.decide()
	}
	placed, going := 0, 0
	for _, task := range m.of("web") {
		switch {
		case task.Node == "n1" && task.Desired == stack.DesiredRemove:
			going++
		case task.Node == "n2":
			placed++
		}
	}
	if placed != 4 || going != 2 {
		t.Fatalf("%d tasks on the other node, %d of the lost ones are to go, want 4 and 2:\n%s", placed, going, m)
	}
	m.settle()
	m.back("n1")
	m.settle()
	if len(m.of("web")) != 4 || len(m.runs["n1"]) != 0 || len(m.runs["n2"]) != 4 {
		t.Errorf("the node is back: %v run:\n%s", m.runs, m)
	}
}

func TestATaskThatOnlyItsNodeCanRunWaitsForIt(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "db", Replicas: 1}, 1)
	m.settle()
	task := m.of("db")[0]
	m.lose(task.Node)
	m.node("n2", func(n *stack.Node) { n.Availability = stack.Paused }) // the scheduler refuses
	m.settle()
	if all := m.of("db"); len(all) != 2 || all[0].Desired != stack.DesiredRun || all[1].Node != "" {
		t.Fatalf("want the task as it was and one that waits:\n%s", m)
	}
	m.back(task.Node)
	m.settle()
	if all := m.of("db"); len(all) != 1 || all[0].ID != task.ID || !m.runs[task.Node][task.ID] {
		t.Errorf("want the task of before to go on:\n%s", m)
	}
}

func TestExclusiveTasksAreReplacedWhenTheLeaseHasEnded(t *testing.T) {
	for _, removed := range []bool{false, true} {
		m := newModel("n1", "n2", "n3")
		m.put(stack.Service{Name: "db", Replicas: 1, Exclusive: true}, 1)
		m.settle()
		node := m.of("db")[0].Node
		m.lose(node)
		if removed {
			m.forget(node)
		}
		for range 10 {
			if _, again := m.decide(); again == 0 || again > m.now+int64(time.Second) {
				t.Fatalf("looks again at %d, now is %d", again, m.now)
			}
			m.now += int64(time.Second)
			m.work()
		}
		if all := m.of("db"); len(all) != 1 {
			t.Fatalf("removed %t: replaced before the lease has ended:\n%s", removed, m)
		}
		m.expire(node)
		m.settle()
		running := 0
		for _, tasks := range m.runs {
			running += len(tasks)
		}
		if running != 1 || len(m.runs[node]) > 0 {
			t.Errorf("removed %t: %v run:\n%s", removed, m.runs, m)
		}
	}
}

func TestWhatWasDoneOnALostNodeIsDone(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "job", Mode: stack.ReplicatedJob, Replicas: 3}, 1)
	m.settle()
	m.lose("n1")
	m.settle()
	m.forget("n1")
	m.settle()
	m.node("n2", func(n *stack.Node) { n.Availability = stack.Drain })
	m.settle()
	if m.ids != 3 || len(m.of("job")) != 3 {
		t.Errorf("%d tasks were made, %d are there, want 3:\n%s", m.ids, len(m.of("job")), m)
	}
	m.node("n2", func(n *stack.Node) { n.Availability = stack.Active })
	m.put(stack.Service{Name: "job", Mode: stack.ReplicatedJob, Replicas: 3}, 2)
	m.settle()
	for _, task := range m.of("job") {
		if task.Version != 2 || task.Status.State != stack.TaskCompleted {
			t.Errorf("a new version runs again: %+v", task)
		}
	}
}

func TestDrainStartsTheReplacementFirst(t *testing.T) {
	for name, spec := range map[string]stack.Service{
		"plain":            {Name: "web", Replicas: 3},
		"port of the node": {Name: "web", Replicas: 3, Container: stack.ContainerSpec{Ports: []stack.Port{{HostPort: 80}}}},
	} {
		m := newModel("n1", "n2")
		m.put(spec, 1)
		m.settle()
		m.node("n1", func(n *stack.Node) { n.Availability = stack.Drain })
		for range 20 {
			m.round()
			if n := m.out("web"); n > 0 {
				t.Fatalf("%s: %d are out:\n%s", name, n, m)
			}
			m.work()
		}
		if len(m.runs["n1"]) != 0 || len(m.runs["n2"]) != 3 {
			t.Errorf("%s: %v run:\n%s", name, m.runs, m)
		}
	}
}

func TestADrainWithoutRoomEndsNevertheless(t *testing.T) {
	m := newModel("n1")
	m.put(stack.Service{Name: "web", Replicas: 2}, 1)
	m.settle()
	m.node("n1", func(n *stack.Node) { n.Availability = stack.Drain })
	since := m.now
	for len(m.runs["n1"]) > 0 && m.now < since+int64(time.Hour) {
		m.round()
		m.work()
	}
	if took := time.Duration(m.now - since); took < time.Minute || took > 70*time.Second {
		t.Errorf("the node is empty after %s, want a minute of patience:\n%s", took, m)
	}
	m.settle()
	for _, task := range m.of("web") {
		if task.Status.Message != "no node fits" {
			t.Errorf("%s.%d says %q", task.Service, task.Slot, task.Status.Message)
		}
	}
}

func TestPauseKeepsTasks(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "web", Replicas: 4}, 1)
	m.put(stack.Service{Name: "agent", Mode: stack.Global}, 1)
	m.settle()
	made := m.ids
	m.node("n1", func(n *stack.Node) { n.Availability = stack.Paused })
	m.settle()
	if m.ids != made || len(m.runs["n1"]) != 3 {
		t.Errorf("%d tasks were made for it, %v run", m.ids-made, m.runs)
	}
}

func TestGlobalTasksOfALostNodeWaitForIt(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "agent", Mode: stack.Global}, 1)
	m.put(stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "agent", Condition: stack.Healthy}}}, 1)
	m.settle()
	m.lose("n1")
	m.put(stack.Service{Name: "agent", Mode: stack.Global}, 2)
	m.put(stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "agent", Condition: stack.Healthy}}}, 2)
	m.settle()
	for _, service := range []string{"agent", "web"} {
		if u := m.services[service].Update; u.State != stack.UpdateCompleted {
			t.Errorf("%s: a node that is down holds the update: %+v\n%s", service, u, m)
		}
	}
	m.back("n1")
	m.settle()
	for _, task := range m.of("agent") {
		if task.Version != 2 || !good(task) {
			t.Errorf("the node is back and has not been updated:\n%s", m)
		}
	}
}

func TestADownNodeHoldsNoRemoval(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(stack.Service{Name: "db", Replicas: 2}, 1)
	m.put(stack.Service{Name: "web", Replicas: 2, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Healthy}}}, 1)
	m.settle()
	m.lose("n1")
	m.removeAll()
	for range 6 {
		m.round()
		m.work()
	}
	if len(m.services)+len(m.tasks) > 0 {
		t.Fatalf("the removal waits for a node that is down:\n%s", m)
	}
	m.back("n1")
	if len(m.runs["n1"]) != 0 {
		t.Errorf("%v run", m.runs)
	}
}
