package reconcile

import (
	"maps"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func TestScalingInKeepsAnonymousVolumesUntilAllIsToGo(t *testing.T) {
	m := newModel("n1")
	m.put(keeper(4), 1)
	m.settle()
	m.put(keeper(1), 1)
	m.settle()
	if len(m.volumes) != 4 || len(m.services["db"].Left["n1"]) != 3 {
		t.Fatalf("scaled in: volumes %v, left behind %v, want four and three of them", m.volumes, m.services["db"].Left)
	}
	m.removeAll()
	m.settle()
	if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
		t.Errorf("all is to go with its volumes: %v is left\n%s", m.volumes, m)
	}
}

func TestWithoutBeingAskedForVolumesStay(t *testing.T) {
	m := newModel()
	m.put(keeper(2), 1)
	m.settle()
	c := *m.services["db"]
	c.Removing = true
	m.services["db"] = &c
	m.settle()
	if len(m.services)+len(m.tasks) > 0 || len(m.volumes) != 2 {
		t.Errorf("volumes %v, want both\n%s", m.volumes, m)
	}
}

// Each state of a replacement, in which a removal with volumes may come.
func TestARemovalWithVolumesDuringAReplacement(t *testing.T) {
	for _, tc := range []struct {
		name  string
		steps func(m *model)
	}{
		{"the old task is about to go", func(m *model) { m.round() }},
		{"the old task is gone", func(m *model) {
			m.round()
			m.work()
		}},
		{"the new task has no container yet", func(m *model) {
			m.round()
			m.work()
			m.round()
		}},
		{"the new task waits for a dependency", func(m *model) {
			m.round()
			m.work()
			m.put(stack.Service{Name: "slow", Replicas: 1}, 1)
			db := keeper(3)
			db.DependsOn = []stack.Dependency{{Service: "slow", Condition: stack.Healthy}}
			m.put(db, 2)
			m.round()
		}},
		{"the new task runs", func(m *model) { m.settle() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel()
			m.put(keeper(3), 1)
			m.settle()
			m.put(keeper(3), 2)
			tc.steps(m)
			if len(m.volumes) < 3 {
				t.Fatalf("a volume was lost on the way: %v", slices.Sorted(maps.Keys(m.volumes)))
			}
			m.removeAll()
			m.settle()
			if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
				t.Errorf("%v is left\n%s", m.volumes, m)
			}
		})
	}
}

func TestVolumesOfALostNodeAreForgotten(t *testing.T) {
	m := newModel()
	m.put(keeper(2), 1)
	m.settle()
	m.put(keeper(1), 1)
	m.settle()
	m.nodes = m.nodes[1:]
	m.removeAll()
	m.settle()
	if len(m.services)+len(m.tasks) > 0 {
		t.Errorf("a service waits for a node that is no more:\n%s", m)
	}
}

// keeper is a service with an anonymous volume.
func keeper(replicas int) stack.Service {
	return stack.Service{Name: "db", Replicas: replicas, Labels: map[string]string{"anonymous": "yes"}}
}

func TestATaskThatMovesDoesNotInherit(t *testing.T) {
	m := newModel("n1", "n2")
	m.put(keeper(1), 1)
	m.settle()
	m.node("n1", func(n *stack.Node) { n.Availability = stack.Drain })
	m.settle()
	if len(m.tasks) != 1 || len(m.volumes) != 2 || len(m.services["db"].Left["n1"]) != 1 {
		t.Fatalf("volumes %v, left behind %v, want a new one and the old one on n1\n%s", m.volumes, m.services["db"].Left, m)
	}
	for _, task := range m.tasks {
		if task.Node != "n2" || task.Anonymous != nil || m.volumes[task.Status.Anonymous["/data"]] != "n2" {
			t.Errorf("task %+v", task)
		}
	}
	m.removeAll()
	m.settle()
	if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
		t.Errorf("%v is left\n%s", m.volumes, m)
	}
}
