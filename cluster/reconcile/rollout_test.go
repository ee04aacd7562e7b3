package reconcile

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// out counts the slots of a service in which nothing that works is left to work.
func (m *model) out(service string) int {
	ok := map[slotKey]bool{}
	for _, t := range m.of(service) {
		ok[keyOf(t)] = ok[keyOf(t)] || m.live(t) && good(t) && t.Desired != stack.DesiredRemove
	}
	n := 0
	for _, k := range ok {
		if !k {
			n++
		}
	}
	return m.services[service].Spec.Replicas - len(ok) + n
}

// An update never has more slots out than it may, whatever the agents do first;
// start-first has none out.
func TestAvailabilityDuringUpdates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, h := newModel("n1", "n2", "n3"), newHistory()
		spec := stack.Service{Name: "web", Replicas: rapid.IntRange(1, 6).Draw(t, "replicas")}
		rule := &stack.UpdateRule{
			Parallelism: rapid.IntRange(1, 3).Draw(t, "parallelism"), Delay: time.Duration(rapid.IntRange(0, 3).Draw(t, "delay")) * time.Second,
			Order:         rapid.SampledFrom([]string{"start-first", "stop-first"}).Draw(t, "order"),
			FailureAction: rapid.SampledFrom([]string{"pause", "rollback"}).Draw(t, "action"),
		}
		spec.Deploy.Update, spec.Deploy.Rollback = rule, &stack.UpdateRule{Parallelism: rule.Parallelism, Order: rule.Order}
		m.put(spec, 1)
		m.calm(t, h)
		if rapid.Bool().Draw(t, "bad") {
			spec.Labels = map[string]string{"bad": "yes"}
		}
		m.put(spec, 2)
		limit := rule.Parallelism
		if rule.Order == "start-first" {
			limit = 0
		}
		for range 60 {
			m.cascade(t, h)
			if n := m.out("web"); n > limit {
				t.Fatalf("%d slots are out, %d may be:\n%s", n, limit, m)
			}
			m.now += int64(time.Second) / 2
			for _, id := range sorted(m.tasks) {
				if rapid.IntRange(0, 2).Draw(t, "agent") == 0 {
					m.obey(m.tasks[id], 0)
				}
			}
		}
		m.calm(t, h)
		m.outcome(t, spec, rule)
	})
}

// outcome checks how an update came out.
func (m *model) outcome(t *rapid.T, spec stack.Service, rule *stack.UpdateRule) {
	want := stack.UpdateCompleted
	if spec.Labels["bad"] != "" {
		want = stack.UpdatePaused
		if rule.FailureAction == "rollback" {
			want = stack.RollbackCompleted
		}
	}
	s := m.services["web"]
	if s.Update.State != want || want == stack.RollbackCompleted && (s.Version != 1 || m.out("web") != 0) {
		t.Fatalf("ended as %+v, want %s:\n%s", s.Update, want, m)
	}
}

func TestARollbackGoesBackOnceAndSaysWhy(t *testing.T) {
	m := newModel()
	spec := stack.Service{Name: "web", Replicas: 4}
	spec.Deploy.Update = &stack.UpdateRule{Parallelism: 1, FailureAction: "rollback"}
	m.put(spec, 1)
	m.settle()
	before := m.of("web")
	spec.Labels = map[string]string{"bad": "yes"}
	m.put(spec, 2)
	states := []stack.UpdateState{}
	for range 60 {
		m.round()
		m.work()
		if u := m.services["web"].Update; len(states) == 0 || states[len(states)-1] != u.State {
			states = append(states, u.State)
		}
	}
	want := []stack.UpdateState{stack.Updating, stack.RollbackStarted, stack.RollbackCompleted}
	if len(states) != 3 || states[0] != want[0] || states[1] != want[1] || states[2] != want[2] {
		t.Errorf("went through %v, want %v", states, want)
	}
	if u := m.services["web"].Update; u.Message != "web.1: exit code 1" || u.To != 2 || u.Completed == 0 {
		t.Errorf("update %+v", u)
	}
	for i, task := range m.of("web") {
		if task.ID != before[i].ID || task.Desired != stack.DesiredRun {
			t.Errorf("task %s took the place of %s, which was never out of order", task.ID, before[i].ID)
		}
	}
	if n := len(m.past["web"]); n != 1 || m.past["web"][0].End.State != stack.TaskFailed {
		t.Errorf("%d ended tasks are remembered, want the one that failed", n)
	}
}

func TestARollbackThatFailsPauses(t *testing.T) {
	m := newModel()
	spec := stack.Service{Name: "web", Replicas: 2}
	spec.Deploy.Update = &stack.UpdateRule{Parallelism: 1, FailureAction: "rollback", Order: "stop-first"}
	m.put(spec, 1)
	m.settle()
	m.services["web"].Versions[1].Labels = map[string]string{"bad": "yes"} // it would not start again
	next := spec.Clone()
	next.Labels = map[string]string{"bad": "yes"}
	m.put(next, 2)
	for range 80 {
		m.round()
		m.work()
	}
	if u := m.services["web"].Update; u.State != stack.RollbackPaused {
		t.Errorf("update %+v\n%s", u, m)
	}
}

func TestAPausedUpdateGoesOnWhenTheTaskRecovers(t *testing.T) {
	m := newModel()
	spec := stack.Service{Name: "web", Replicas: 2}
	spec.Deploy.Update = &stack.UpdateRule{Parallelism: 1}
	m.put(spec, 1)
	m.settle()
	m.broken["n1"], m.broken["n2"] = true, true
	m.put(spec, 2)
	m.settle()
	if u := m.services["web"].Update; u.State != stack.UpdatePaused || u.Message != "web.1: create: disk is full" {
		t.Fatalf("update %+v\n%s", u, m)
	}
	clear(m.broken)
	m.settle()
	if u := m.services["web"].Update; u.State != stack.UpdateCompleted || u.Message != "" {
		t.Errorf("update %+v\n%s", u, m)
	}
}

func TestStartFirstWithoutRoomStopsFirst(t *testing.T) {
	m := newModel("n1")
	m.room = 2
	spec := stack.Service{Name: "web", Replicas: 2}
	spec.Deploy.Update = &stack.UpdateRule{Parallelism: 1, Order: "start-first"}
	m.put(spec, 1)
	m.settle()
	m.put(spec, 2)
	m.settle()
	for _, task := range m.of("web") {
		if task.Version != 2 || !good(task) {
			t.Fatalf("not updated:\n%s", m)
		}
	}
}

func TestOrders(t *testing.T) {
	data := []stack.Mount{{Type: stack.MountVolume, Source: "data", Target: "/data"}}
	for _, tc := range []struct {
		name string
		spec stack.Service
		both bool // the old task and the new one are there at once
	}{
		{"nothing in the way", stack.Service{Replicas: 1}, true},
		{"asked for", stack.Service{Replicas: 1, Deploy: stack.Deploy{Update: &stack.UpdateRule{Order: "stop-first"}}}, false},
		{"one writer", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Mounts: data}}, false},
		{"several writers", stack.Service{Replicas: 2, Container: stack.ContainerSpec{Mounts: data}}, true},
		{"a reader", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountVolume, Source: "data", ReadOnly: true}}}}, true},
		{"docker's socket", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Mounts: []stack.Mount{{Type: stack.MountBind, Source: "/var/run/docker.sock"}}}}, true},
		{"a port of the host", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Ports: []stack.Port{{HostPort: 80, Mode: "host"}}}}, false},
		{"a port that its tasks share", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Ports: []stack.Port{{HostPort: 80}}}}, true},
		{"any port", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Ports: []stack.Port{{ContainerPort: 80}}}}, true},
		{"the host's network", stack.Service{Replicas: 1, Container: stack.ContainerSpec{NetworkMode: "host"}}, false},
		{"a name", stack.Service{Replicas: 1, ContainerName: "x"}, false},
		{"an address", stack.Service{Replicas: 1, Container: stack.ContainerSpec{Networks: []stack.Attachment{{IPv4: "10.0.0.9"}}}}, false},
		{"exclusive", stack.Service{Replicas: 1, Exclusive: true}, false},
		{"no node for more", stack.Service{Replicas: 2, Deploy: stack.Deploy{MaxReplicasPerNode: 1}}, false},
		{"a node for more", stack.Service{Replicas: 3, Deploy: stack.Deploy{MaxReplicasPerNode: 2}}, true},
		{"a job", stack.Service{Replicas: 1, Mode: stack.ReplicatedJob}, false},
		{"everywhere", stack.Service{Mode: stack.Global}, true},
		{"anonymous volumes", keeper(1), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel()
			tc.spec.Name = "web"
			m.put(tc.spec, 1)
			m.round()
			m.work() // a job still runs
			m.put(tc.spec, 2)
			both := false
			for range 20 {
				m.round()
				live := map[slotKey]int{}
				for _, task := range m.of("web") {
					if live[keyOf(task)]++; live[keyOf(task)] == 2 {
						both = both || task.Desired != stack.DesiredRemove && m.tasks[task.Replaces] != nil
					}
				}
				m.work()
			}
			if both != tc.both {
				t.Errorf("both at once: %t, want %t\n%s", both, tc.both, m)
			}
		})
	}
}
