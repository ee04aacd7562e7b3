package reconcile

import (
	"maps"
	"slices"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

func TestScalingInKeepsAnonymousVolumesUntilAllIsToGo(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "db", Replicas: 4}, 1)
	m.settle()
	m.put(stack.Service{Name: "db", Replicas: 1}, 1)
	m.settle()
	if len(m.volumes) != 4 || len(m.services["db"].Left["n1"]) != 3 {
		t.Fatalf("scaled in: volumes %v, left behind %v, want four and three of them", m.volumes, m.services["db"].Left)
	}
	m.down()
	m.settle()
	if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
		t.Errorf("all is to go with its volumes: %v is left\n%s", m.volumes, m)
	}
}

func TestWithoutBeingAskedForVolumesStay(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "db", Replicas: 2}, 1)
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
			m.obeyAll()
		}},
		{"the new task has no container yet", func(m *model) {
			m.round()
			m.obeyAll()
			m.round()
		}},
		{"the new task waits for a dependency", func(m *model) {
			m.round()
			m.obeyAll()
			m.put(stack.Service{Name: "slow", Replicas: 1}, 1)
			m.put(stack.Service{Name: "db", Replicas: 3, DependsOn: []stack.Dependency{{Service: "slow", Condition: stack.Healthy}}}, 2)
			m.round()
		}},
		{"the new task runs", func(m *model) { m.settle() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel()
			m.put(stack.Service{Name: "db", Replicas: 3}, 1)
			m.settle()
			m.put(stack.Service{Name: "db", Replicas: 3}, 2)
			tc.steps(m)
			if len(m.volumes) < 3 {
				t.Fatalf("a volume was lost on the way: %v", slices.Sorted(maps.Keys(m.volumes)))
			}
			m.down()
			m.settle()
			if len(m.services)+len(m.tasks)+len(m.volumes) > 0 {
				t.Errorf("%v is left\n%s", m.volumes, m)
			}
		})
	}
}

func TestVolumesOfALostNodeAreForgotten(t *testing.T) {
	m := newModel()
	m.put(stack.Service{Name: "db", Replicas: 2}, 1)
	m.settle()
	m.put(stack.Service{Name: "db", Replicas: 1}, 1)
	m.settle()
	m.nodes = m.nodes[1:]
	m.down()
	m.settle()
	if len(m.services)+len(m.tasks) > 0 {
		t.Errorf("a service waits for a node that is no more:\n%s", m)
	}
}

// obeyAll lets all agents act once.
func (m *model) obeyAll() {
	for _, id := range sorted(m.tasks) {
		m.obey(m.tasks[id], 0)
	}
}
