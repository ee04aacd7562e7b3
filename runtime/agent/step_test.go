package agent

import (
	"slices"
	"testing"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

func TestStep(t *testing.T) {
	const run, stop, pause, remove = stack.DesiredRun, stack.DesiredStop, stack.DesiredPause, stack.DesiredRemove
	in := func(s runtime.Status) *runtime.Container {
		return &runtime.Container{ID: "c", State: runtime.State{Status: s}}
	}
	exited := func(code int) *runtime.Container {
		return &runtime.Container{ID: "c", State: runtime.State{Status: runtime.Exited, ExitCode: code}}
	}
	byHand := &runtime.Container{ID: "c", State: runtime.State{Status: runtime.Exited, ExitCode: 143, ManuallyStopped: true}}
	killed := &runtime.Container{ID: "c", State: runtime.State{Status: runtime.Exited, ExitCode: 137, OOMKilled: true}}
	sick := func(output string) *runtime.Container {
		return &runtime.Container{ID: "c", State: runtime.State{Status: runtime.Running,
			Health: &runtime.Health{Status: "unhealthy", Log: []runtime.HealthResult{{Output: "ok\n"}, {ExitCode: 1, Output: output}}}}}
	}
	cases := []struct {
		name     string
		desired  stack.Desired
		restarts uint64
		reported stack.TaskStatus
		c        *runtime.Container
		unfit    bool
		want     Action
		state    stack.TaskState
		message  string
	}{
		{"new", run, 0, stack.TaskStatus{State: stack.TaskAssigned}, nil, false, Create, stack.TaskPreparing, ""},
		{"created", run, 0, stack.TaskStatus{}, in(runtime.Created), false, Start, stack.TaskReady, ""},
		{"running", run, 0, stack.TaskStatus{}, in(runtime.Running), false, None, stack.TaskRunning, ""},
		{"unhealthy", run, 0, stack.TaskStatus{}, sick("trying\nno answer\n"), false, None, stack.TaskRunning, "no answer"},
		{"unhealthy still", run, 0, stack.TaskStatus{ContainerID: "c", Health: "unhealthy", Message: "no answer"}, sick("12:30 refused"), false, None, stack.TaskRunning, "no answer"},
		{"vanished", run, 0, stack.TaskStatus{State: stack.TaskRunning, ContainerID: "c"}, nil, false, Create, stack.TaskPreparing, ""},
		{"restarting", run, 0, stack.TaskStatus{}, in(runtime.Restarting), false, None, stack.TaskReady, "restarts after exit code 0"},
		{"completed", run, 0, stack.TaskStatus{}, exited(0), false, None, stack.TaskCompleted, ""},
		{"failed", run, 0, stack.TaskStatus{}, exited(3), false, None, stack.TaskFailed, "exit code 3"},
		{"out of memory", run, 0, stack.TaskStatus{}, killed, false, None, stack.TaskFailed, "exit code 137, out of memory"},
		{"completed, container removed", run, 0, stack.TaskStatus{State: stack.TaskCompleted, ContainerID: "c"}, nil, false, None, stack.TaskCompleted, ""},
		{"completed, asked again", run, 1, stack.TaskStatus{State: stack.TaskCompleted, ContainerID: "c"}, exited(0), false, Start, stack.TaskCompleted, ""},
		{"completed, removed, asked again", run, 1, stack.TaskStatus{State: stack.TaskCompleted, ContainerID: "c"}, nil, false, Create, stack.TaskPreparing, ""},
		{"could not be made", run, 0, stack.TaskStatus{State: stack.TaskFailed, Message: "no image"}, nil, false, Create, stack.TaskPreparing, ""},
		{"restart", run, 1, stack.TaskStatus{}, in(runtime.Running), false, Restart, stack.TaskRunning, ""},
		{"restart followed", run, 1, stack.TaskStatus{Restarts: 1}, in(runtime.Running), false, None, stack.TaskRunning, ""},
		{"stopped by hand", run, 0, stack.TaskStatus{}, byHand, false, None, stack.TaskReady, stack.StoppedByHand},
		{"stopped by hand, asked", run, 1, stack.TaskStatus{}, byHand, false, Start, stack.TaskReady, stack.StoppedByHand},
		{"paused by hand", run, 0, stack.TaskStatus{Followed: run}, in(runtime.Paused), false, None, stack.TaskRunning, ""},
		{"unpause", run, 0, stack.TaskStatus{Followed: pause}, in(runtime.Paused), false, Unpause, stack.TaskRunning, ""},
		{"peer is another one", run, 0, stack.TaskStatus{}, in(runtime.Running), true, Recreate, stack.TaskRunning, ""},
		{"peer is another one, but done", run, 0, stack.TaskStatus{}, exited(0), true, None, stack.TaskCompleted, ""},
		{"stop", stop, 0, stack.TaskStatus{}, in(runtime.Running), false, Stop, stack.TaskRunning, ""},
		{"stop while restarting", stop, 0, stack.TaskStatus{}, in(runtime.Restarting), false, Stop, stack.TaskReady, "restarts after exit code 0"},
		{"stop a frozen one", stop, 0, stack.TaskStatus{}, in(runtime.Paused), false, Stop, stack.TaskRunning, ""},
		{"stopped", stop, 0, stack.TaskStatus{}, byHand, false, None, stack.TaskReady, "stopped"},
		{"stop before there is one", stop, 0, stack.TaskStatus{State: stack.TaskAssigned}, nil, false, None, stack.TaskReady, "stopped"},
		{"stop what has completed", stop, 0, stack.TaskStatus{}, exited(0), false, None, stack.TaskCompleted, ""},
		{"pause", pause, 0, stack.TaskStatus{}, in(runtime.Running), false, Pause, stack.TaskRunning, ""},
		{"paused", pause, 0, stack.TaskStatus{}, in(runtime.Paused), false, None, stack.TaskRunning, ""},
		{"remove", remove, 0, stack.TaskStatus{}, in(runtime.Running), false, Remove, stack.TaskRunning, ""},
		{"removed", remove, 0, stack.TaskStatus{State: stack.TaskRunning}, nil, false, None, stack.TaskRemoved, ""},
		{"removed, then wanted again", run, 0, stack.TaskStatus{State: stack.TaskRemoved}, nil, false, None, stack.TaskRemoved, ""},
		{"removed, then to be made only", stack.DesiredCreate, 0, stack.TaskStatus{State: stack.TaskRemoved}, nil, false, None, stack.TaskRemoved, ""},
		{"removed, then to be stopped", stop, 0, stack.TaskStatus{State: stack.TaskRemoved}, nil, false, None, stack.TaskRemoved, ""},
		{"removed before it was made", remove, 0, stack.TaskStatus{State: stack.TaskAssigned}, nil, false, None, stack.TaskRemoved, ""},
		{"removed after it had failed", remove, 0, stack.TaskStatus{State: stack.TaskFailed, ContainerID: "c", Message: "exit code 1"}, nil, false, None, stack.TaskRemoved, ""},
	}
	for _, c := range cases {
		task := stack.Task{ID: "t", Desired: c.desired, Restarts: c.restarts, Status: c.reported}
		act, st := Step(task, Observed{Container: c.c, Unfit: c.unfit})
		if act != c.want || st.State != c.state || st.Message != c.message {
			t.Errorf("%s: %q %d %q, want %q %d %q", c.name, act, st.State, st.Message, c.want, c.state, c.message)
		}
		if act == None { // what was reported leads to the same
			task.Status = st
			if again, st2 := Step(task, Observed{Container: c.c, Unfit: c.unfit}); again != None || !same(st, st2) {
				t.Errorf("%s: not stable: %q %+v", c.name, again, st2)
			}
		}
	}
}

func TestCreatedContainersAreNotStarted(t *testing.T) {
	task := stack.Task{Desired: stack.DesiredCreate}
	if act, _ := Step(task, Observed{}); act != Create {
		t.Errorf("without a container: %q, want create", act)
	}
	c := &runtime.Container{ID: "c"}
	c.State.Status = runtime.Created
	act, st := Step(task, Observed{Container: c})
	if act != None || st.State != stack.TaskReady || st.Followed != stack.DesiredCreate {
		t.Errorf("with one: %q, %+v, want nothing to do and ready", act, st)
	}
	task.Desired = stack.DesiredRun
	if act, _ := Step(task, Observed{Container: c}); act != Start {
		t.Errorf("later: %q, want start", act)
	}
}

func TestInheritedVolumesAreDiscardedWithoutAContainer(t *testing.T) {
	task := stack.Task{Desired: stack.DesiredRemove, RemoveVolumes: true, Anonymous: map[string]string{"/a": "one", "/b": "two"},
		Status: stack.TaskStatus{State: stack.TaskAssigned, Anonymous: map[string]string{"/a": "one", "/c": "three"}}}
	if got := task.AnonymousVolumes(); !slices.Equal(got, []string{"one", "three", "two"}) {
		t.Errorf("volumes %q", got)
	}
	act, _ := Step(task, Observed{})
	if act != Discard {
		t.Fatalf("%q, want discard", act)
	}
	task.Status = follow(task, act)
	if act, st := Step(task, Observed{}); act != None || st.State != stack.TaskRemoved || st.Followed != stack.DesiredRemove {
		t.Errorf("afterwards %q %+v, want nothing to do and removed", act, st)
	}
	task.RemoveVolumes, task.Status = false, stack.TaskStatus{State: stack.TaskAssigned}
	if act, _ := Step(task, Observed{}); act != None {
		t.Errorf("not asked for: %q, want nothing to do", act)
	}
}

func TestVolumesOfOthersAreNotTheTasks(t *testing.T) {
	c := &runtime.Container{ID: "c"}
	c.Spec.Mounts = []stack.Mount{{Type: stack.MountVolume, Target: "/own/"}}
	c.Mounts = []runtime.MountPoint{
		{Type: stack.MountVolume, Name: "mine", Target: "/own", Anonymous: true},
		{Type: stack.MountVolume, Name: "theirs", Target: "/from", Anonymous: true}, // volumes_from
	}
	if got := anonymous(c); len(got) != 1 || got["/own"] != "mine" {
		t.Errorf("%v, want its own alone", got)
	}
}
