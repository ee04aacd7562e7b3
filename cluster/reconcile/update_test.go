package reconcile

import (
	"slices"
	"testing"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// updating is a service of four tasks whose first ones are of the new version.
func updating(rule stack.UpdateRule, now time.Time, states ...stack.TaskState) Input {
	spec := stack.Service{Name: "web", Replicas: 4, Deploy: stack.Deploy{Update: &rule}}
	old := spec.Clone()
	in := Input{
		Stack: "shop", Now: now.UnixNano(), Nodes: []*stack.Node{{ID: "n1"}},
		Services: []Service{{Spec: &spec, Version: 2, Desired: stack.DesiredRun, Versions: map[uint64]*stack.Service{1: &old}}},
	}
	for slot := 1; slot <= 4; slot++ {
		t := &stack.Task{ID: string(rune('a' + slot - 1)), Stack: "shop", Service: "web", Slot: slot, Node: "n1", Version: 1, Desired: stack.DesiredRun}
		t.Status = stack.TaskStatus{State: stack.TaskRunning, Time: time.Unix(100, 0)}
		if slot <= len(states) {
			t.Version, t.Status.State = 2, states[slot-1]
			if t.Status.State == stack.TaskRunning {
				t.Serving = time.Unix(100, 0).UnixNano()
			}
		}
		in.Tasks = append(in.Tasks, t)
	}
	return in
}

// replaced are the tasks that the round ends.
func replaced(r Result) []string {
	var ids []string
	for _, c := range r.Changes {
		if c.Task.Desired == stack.DesiredRemove {
			ids = append(ids, c.Task.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestUpdateRules(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	run, failed := stack.TaskRunning, stack.TaskFailed
	for _, tc := range []struct {
		name   string
		rule   stack.UpdateRule
		now    time.Time
		states []stack.TaskState // running: since 100
		want   []string
		again  int64 // seconds
	}{
		{"two at once", stack.UpdateRule{Parallelism: 2}, at(100), nil, []string{"a", "b"}, 0},
		{"the next when the first has run for a moment", stack.UpdateRule{Parallelism: 1}, at(101), []stack.TaskState{run}, []string{"b"}, 105},
		{"which takes a second", stack.UpdateRule{Parallelism: 1}, at(100), []stack.TaskState{run}, nil, 101},
		{"not before the first runs", stack.UpdateRule{Parallelism: 1}, at(100), []stack.TaskState{stack.TaskPreparing}, nil, 0},
		{"watched for a time", stack.UpdateRule{Parallelism: 1, Monitor: 5 * time.Second}, at(104), []stack.TaskState{run}, nil, 105},
		{"then the delay", stack.UpdateRule{Parallelism: 1, Monitor: 5 * time.Second, Delay: 2 * time.Second}, at(106), []stack.TaskState{run}, nil, 107},
		{"and on", stack.UpdateRule{Parallelism: 1, Monitor: 5 * time.Second}, at(105), []stack.TaskState{run}, []string{"b"}, 0},
		{"a failure pauses", stack.UpdateRule{Parallelism: 2}, at(200), []stack.TaskState{run, failed}, nil, 0},
		{"unless so many may fail", stack.UpdateRule{Parallelism: 2, MaxFailureRatio: 0.25}, at(200), []stack.TaskState{run, failed}, []string{"c", "d"}, 0},
		{"or failures do not matter", stack.UpdateRule{Parallelism: 2, FailureAction: "continue"}, at(200), []stack.TaskState{failed, failed}, []string{"c", "d"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.rule.Order = "stop-first"
			r := Stack(updating(tc.rule, tc.now, tc.states...))
			if got := replaced(r); !slices.Equal(got, tc.want) {
				t.Errorf("replaces %q, want %q", got, tc.want)
			}
			if got := r.Again / int64(time.Second); got != tc.again {
				t.Errorf("looks again at %d s, want %d s", got, tc.again)
			}
		})
	}
}

func TestCreatedButNotStarted(t *testing.T) {
	spec := stack.Service{Name: "web", Replicas: 1, DependsOn: []stack.Dependency{{Service: "db", Condition: stack.Healthy}}}
	db := stack.Service{Name: "db", Replicas: 1}
	grace := 3 * time.Second
	in := Input{Stack: "shop", Nodes: []*stack.Node{{ID: "n1"}}, Services: []Service{
		{Spec: &spec, Version: 1, Desired: stack.DesiredCreate}, {Spec: &db, Version: 1, Desired: stack.DesiredCreate}}}
	r := Stack(in)
	for _, c := range r.Changes {
		if !c.New || !c.Place || c.Task.Desired != stack.DesiredCreate {
			t.Errorf("%s: %+v, want a new task to be placed and created, without waiting for what it depends on", c.Task.Service, c)
		}
	}
	if len(r.Changes) != 2 {
		t.Fatalf("%d changes, want 2", len(r.Changes))
	}
	task := r.Changes[0].Task
	task.ID, task.Node, task.Status = "a", "n1", stack.TaskStatus{State: stack.TaskReady, Followed: stack.DesiredCreate}
	in.Tasks = []*stack.Task{&task}
	for i := range in.Services {
		in.Services[i].Desired, in.Services[i].Grace = stack.DesiredStop, &grace
	}
	r = Stack(in)
	if len(r.Changes) != 1 || r.Changes[0].Task.Desired != stack.DesiredStop || r.Changes[0].Task.Grace != &grace {
		t.Errorf("stop: %+v, want the task to stop with the grace that was given", r.Changes)
	}
}

// A new version that is created but not started never takes over, so it cannot
// wait for its old task to be replaced from beside.
func TestANewVersionThatIsNotStartedReplacesTheOldOne(t *testing.T) {
	spec := stack.Service{Name: "web", Replicas: 1}
	old := &stack.Task{ID: "a", Stack: "shop", Service: "web", Slot: 1, Node: "n1", Version: 1, Desired: stack.DesiredRun, Status: stack.TaskStatus{State: stack.TaskRunning}}
	r := Stack(Input{Stack: "shop", Nodes: []*stack.Node{{ID: "n1"}}, Tasks: []*stack.Task{old}, Services: []Service{
		{Spec: &spec, Version: 2, Desired: stack.DesiredCreate, Versions: map[uint64]*stack.Service{1: &spec}}}})
	if len(r.Changes) != 1 || r.Changes[0].Task.ID != "a" || r.Changes[0].Task.Desired != stack.DesiredRemove {
		t.Errorf("%+v, want the old task to make room", r.Changes)
	}
}

// What is not started is never seen to be good, so the next slot does not wait for it.
func TestAllSlotsOfAVersionThatIsNotStartedAreReplacedAtOnce(t *testing.T) {
	in := updating(stack.UpdateRule{Parallelism: 1, Delay: time.Minute}, time.Unix(100, 0), stack.TaskReady)
	in.Services[0].Desired = stack.DesiredCreate
	in.Tasks[0].Desired = stack.DesiredCreate
	if got := replaced(Stack(in)); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("replaces %q, want all others", got)
	}
}
