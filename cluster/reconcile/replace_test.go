package reconcile

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func TestAnOldTaskIsDrainedBeforeItStops(t *testing.T) {
	web := stack.Service{Name: "web", Replicas: 1}
	other := &stack.Task{ID: "b", Service: "web", Slot: 1, Node: "n1", Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: stack.TaskRunning}}
	old := &stack.Task{ID: "a", Service: "web", Slot: 2, Node: "n1", Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: stack.TaskRunning}}
	in := Input{
		Stack: "s", Nodes: []*stack.Node{{ID: "n1"}}, Now: int64(time.Hour), DrainGrace: 3 * time.Second, Tasks: []*stack.Task{old, other},
		Services: []Service{{Spec: &web, Version: 1, Desired: stack.DesiredRun}}, // scaled to 1
	}
	for _, step := range []struct {
		after time.Duration
		want  stack.Desired
	}{{0, stack.DesiredRun}, {2 * time.Second, stack.DesiredRun}, {3 * time.Second, stack.DesiredRemove}} {
		in.Now = int64(time.Hour + step.after)
		r := Stack(in)
		for i := range r.Changes {
			in.Tasks = []*stack.Task{&r.Changes[i].Task, other}
		}
		now := in.Tasks[0]
		if now.Desired != step.want || now.Draining != int64(time.Hour) {
			t.Errorf("after %s: %s, draining since %d", step.after, now.Desired, now.Draining)
		}
		if step.want == stack.DesiredRun && r.Again != int64(time.Hour+3*time.Second) {
			t.Errorf("after %s: looks again at %d", step.after, r.Again)
		}
	}
	if end := in.Tasks[0].End; end == nil || end.Why != "scaled down" || end.State != stack.TaskRunning {
		t.Errorf("end %+v", end)
	}
}

func TestTheOnlyTaskOfAServiceIsNotDrained(t *testing.T) {
	web := stack.Service{Name: "web"}
	in := Input{
		Stack: "s", Nodes: []*stack.Node{{ID: "n1"}}, Now: int64(time.Hour), DrainGrace: 3 * time.Second,
		Tasks:    []*stack.Task{{ID: "a", Service: "web", Slot: 1, Node: "n1", Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: stack.TaskRunning}}},
		Services: []Service{{Spec: &web, Version: 1, Desired: stack.DesiredRun}}, // scaled to 0
	}
	r := Stack(in)
	if len(r.Changes) != 1 || r.Changes[0].Task.Desired != stack.DesiredRemove || r.Again != 0 {
		t.Errorf("changes %+v, again at %d: nobody else takes its requests", r.Changes, r.Again)
	}
}

// The node on which the next task is being prepared dies: the one before goes on
// until another one serves, and does not wait for that node.
func TestANextTaskOnALostNodeIsGivenUp(t *testing.T) {
	spec := stack.Service{Name: "web", Replicas: 1}
	task := func(id, node string, state stack.TaskState) *stack.Task {
		return &stack.Task{ID: id, Stack: "shop", Service: "web", Slot: 1, Node: node, Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: state}}
	}
	for _, state := range []stack.TaskState{stack.TaskPreparing, stack.TaskRunning} {
		old, next := task("a", "n1", stack.TaskRunning), task("b", "n2", state)
		next.Replaces = "a"
		r := Stack(Input{Stack: "shop", Nodes: []*stack.Node{{ID: "n1", Availability: stack.Drain}, {ID: "n2", Down: true}, {ID: "n3"}}, Tasks: []*stack.Task{old, next},
			Services: []Service{{Spec: &spec, Version: 1, Desired: stack.DesiredRun}}})
		if got := replaced(r); len(got) != 1 || got[0] != "b" {
			t.Errorf("%v: ends %q, want the one on the dead node", state, got)
		}
	}
}
