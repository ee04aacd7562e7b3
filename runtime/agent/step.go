package agent

import (
	"fmt"
	"path"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Action is the next thing to do for a task.
type Action string

// The actions.
const (
	None     Action = ""
	Create   Action = "create"
	Start    Action = "start"
	Restart  Action = "restart"
	Stop     Action = "stop"
	Pause    Action = "pause"
	Unpause  Action = "unpause"
	Recreate Action = "recreate" // remove the container, because it no longer fits; the next step makes it again
	Remove   Action = "remove"
	Rename   Action = "rename"          // to the name of the slot, which has become free
	Discard  Action = "discard volumes" // anonymous ones that the removed container did not take along
)

// Observed is what is known of a task's container.
type Observed struct {
	Container *runtime.Container // nil: there is none
	Unfit     bool               // it shares namespaces of a container that is gone
	Rename    bool               // it was made beside the container that had its name, which is gone
}

// Step decides what to do next for a task, and what its status is until then.
// Task.Status is what was reported last.
func Step(t stack.Task, o Observed) (Action, stack.TaskStatus) {
	st := status(t, o.Container)
	if o.Container == nil && t.Status.State == stack.TaskRemoved && t.Desired != stack.DesiredRemove {
		return None, t.Status // who has heard of it has another task in its place, or will
	}
	switch t.Desired {
	case stack.DesiredRemove:
		if o.Container == nil {
			st = t.Status
			if t.RemoveVolumes && st.Followed != stack.DesiredRemove && len(t.AnonymousVolumes()) > 0 {
				return Discard, st
			}
			st.State, st.Message = stack.TaskRemoved, ""
			return None, st
		}
		return Remove, st
	case stack.DesiredCreate:
		return createStep(o.Container, st)
	case stack.DesiredStop:
		return stopStep(o.Container, st)
	case stack.DesiredPause:
		return pauseStep(o.Container, st)
	}
	return runStep(t, o, st)
}

// createStep makes a container and leaves it at that.
func createStep(c *runtime.Container, st stack.TaskStatus) (Action, stack.TaskStatus) {
	if c == nil {
		return Create, st
	}
	if c.State.Status == runtime.Created {
		st.Followed = stack.DesiredCreate
	}
	return None, st
}

func stopStep(c *runtime.Container, st stack.TaskStatus) (Action, stack.TaskStatus) {
	if c != nil && (c.State.Status == runtime.Running || c.State.Status == runtime.Paused || c.State.Status == runtime.Restarting) {
		return Stop, st
	}
	st.Followed = stack.DesiredStop
	if st.State < stack.TaskCompleted {
		st.State, st.Message = stack.TaskReady, "stopped"
	}
	return None, st
}

func pauseStep(c *runtime.Container, st stack.TaskStatus) (Action, stack.TaskStatus) {
	if c != nil && c.State.Status == runtime.Running {
		return Pause, st
	}
	if c != nil && c.State.Status == runtime.Paused {
		st.Followed = stack.DesiredPause
	}
	return None, st
}

func runStep(t stack.Task, o Observed, st stack.TaskStatus) (Action, stack.TaskStatus) {
	asked := t.Restarts > t.Status.Restarts
	if o.Container == nil {
		if ended(t.Status) && !asked {
			return None, t.Status
		}
		return Create, st
	}
	if o.Unfit && (asked || st.State < stack.TaskCompleted) && st.Message != stack.StoppedByHand {
		return Recreate, st
	}
	switch o.Container.State.Status {
	case runtime.Created:
		return Start, st
	case runtime.Running, runtime.Restarting:
		if asked {
			return Restart, st
		}
		if o.Rename {
			return Rename, st
		}
	case runtime.Paused:
		if asked || t.Status.Followed == stack.DesiredPause {
			return Unpause, st
		}
	case runtime.Exited, runtime.Dead:
		if asked {
			return Start, st
		}
	}
	return None, st
}

// ended reports whether a task's process ran and ended for good, as opposed to
// a task that could not be started.
func ended(st stack.TaskStatus) bool {
	return st.State == stack.TaskCompleted || st.State == stack.TaskFailed && st.ContainerID != ""
}

// status translates a container into the task's status.
func status(t stack.Task, c *runtime.Container) stack.TaskStatus {
	st := stack.TaskStatus{
		State: stack.TaskPreparing, Restarts: t.Status.Restarts, Followed: t.Status.Followed, Time: t.Status.Time,
		Anonymous: t.Status.Anonymous, ImageID: t.Status.ImageID,
	}
	if c == nil {
		if t.Desired != stack.DesiredRun && ended(t.Status) {
			return t.Status
		}
		return st
	}
	st.ContainerID, st.ImageID = c.ID, c.ImageID
	st.RestartCount, st.ExitCode = c.RestartCount, c.State.ExitCode
	st.Anonymous = anonymous(c)
	if c.State.Health != nil {
		st.Health = c.State.Health.Status
		if st.Health == "unhealthy" {
			st.Message = complaint(t.Status, c)
		}
	}
	switch c.State.Status {
	case runtime.Running:
		st.State, st.ExitCode = stack.TaskRunning, 0
	case runtime.Paused:
		st.State, st.Paused, st.ExitCode = stack.TaskRunning, true, 0
	case runtime.Restarting:
		st.State, st.Message, st.Health = stack.TaskReady, "restarts after "+exit(c), ""
	case runtime.Exited, runtime.Dead:
		st.State, st.Message = stopped(t, c)
		st.Health = ""
	case runtime.Created:
		st.State, st.Health = stack.TaskReady, ""
	default:
		st.State = stack.TaskReady
	}
	return st
}

// complaint is the last line that the health check printed when the container
// became unhealthy. What later checks print is no change worth telling.
func complaint(reported stack.TaskStatus, c *runtime.Container) string {
	if reported.Health == "unhealthy" && reported.ContainerID == c.ID {
		return reported.Message
	}
	log := c.State.Health.Log
	if len(log) == 0 {
		return ""
	}
	out := strings.TrimSpace(strings.ToValidUTF8(log[len(log)-1].Output, "?"))
	line := out[strings.LastIndexByte(out, '\n')+1:]
	return line[:min(len(line), 300)]
}

// stopped tells why a container that is not to be restarted by its policy does not run.
func stopped(t stack.Task, c *runtime.Container) (stack.TaskState, string) {
	switch {
	case c.State.ManuallyStopped && t.Desired == stack.DesiredRun:
		return stack.TaskReady, stack.StoppedByHand
	case c.State.ManuallyStopped:
		return stack.TaskReady, "stopped"
	case c.State.ExitCode == 0 && c.State.Error == "":
		return stack.TaskCompleted, ""
	}
	return stack.TaskFailed, exit(c)
}

// exit is "exit code 137, out of memory".
func exit(c *runtime.Container) string {
	s := fmt.Sprintf("exit code %d", c.State.ExitCode)
	if c.State.OOMKilled {
		s += ", out of memory"
	}
	if c.State.Error != "" {
		s += ": " + c.State.Error
	}
	return s
}

// anonymous are the container's own anonymous volumes, without those that it
// takes from other containers.
func anonymous(c *runtime.Container) map[string]string {
	own := map[string]bool{}
	for _, m := range c.Spec.Mounts {
		own[path.Clean("/"+m.Target)] = true
	}
	var out map[string]string
	for _, m := range c.Mounts {
		if m.Type != stack.MountVolume || !m.Anonymous || m.Name == "" || !own[path.Clean("/"+m.Target)] {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[m.Target] = m.Name
	}
	return out
}

// follow is the task's status after act has succeeded.
func follow(t stack.Task, act Action) stack.TaskStatus {
	st := t.Status
	switch act {
	case Start, Restart:
		st.Restarts, st.Followed = t.Restarts, stack.DesiredRun
	case Unpause:
		st.Followed = stack.DesiredRun
	case Stop:
		st.Followed = stack.DesiredStop
	case Pause:
		st.Followed = stack.DesiredPause
	case Discard:
		st.Followed = stack.DesiredRemove
	}
	return st
}
