package reconcile

import (
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

func TestAnOldTaskIsDrainedBeforeItStops(t *testing.T) {
	web := stack.Service{Name: "web"}
	old := &stack.Task{ID: "a", Service: "web", Slot: 1, Node: "n1", Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: stack.TaskRunning}}
	in := Input{
		Stack: "s", Nodes: []*stack.Node{{ID: "n1"}}, Now: int64(time.Hour), DrainGrace: 3 * time.Second, Tasks: []*stack.Task{old},
		Services: []Service{{Spec: &web, Version: 1, Desired: stack.DesiredRun}}, // scaled to 0
	}
	for _, step := range []struct {
		after time.Duration
		want  stack.Desired
	}{{0, stack.DesiredRun}, {2 * time.Second, stack.DesiredRun}, {3 * time.Second, stack.DesiredRemove}} {
		in.Now = int64(time.Hour + step.after)
		r := Stack(in)
		for i := range r.Changes {
			in.Tasks = []*stack.Task{&r.Changes[i].Task}
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
