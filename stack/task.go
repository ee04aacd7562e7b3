package stack

import (
	"maps"
	"slices"
	"time"
)

// TaskState is a step in the life of a task. States only grow, but for Ready <-> Running
// when the node restarts the container in place.
type TaskState int

// The states of a task.
const (
	TaskNew       TaskState = 0  // exists, has no node
	TaskPending   TaskState = 10 // waits: Status.Message says for what (a dependency, a node that fits)
	TaskAssigned  TaskState = 20 // has a node
	TaskPreparing TaskState = 30 // image, volumes, networks
	TaskReady     TaskState = 40 // container created, not running (also: between restarts, or stopped by a person)
	TaskRunning   TaskState = 50
	TaskCompleted TaskState = 60 // ended with exit code 0 and is not to be restarted
	TaskFailed    TaskState = 70 // ended otherwise and is not to be restarted, or cannot be started
	TaskRemoved   TaskState = 80 // its container is gone, on request
)

// StoppedByHand is the Status.Message of a task in TaskReady whose container a
// person stopped without asking the cluster; it stays so until the next start or apply.
const StoppedByHand = "stopped by hand"

// NoNodeFits is part of the Status.Message of a task in TaskPending for which no node passes all tests.
const NoNodeFits = "no node fits"

// Desired is what managers want of a task.
type Desired string

// The wishes.
const (
	DesiredCreate Desired = "create" // container made, not started
	DesiredRun    Desired = "run"
	DesiredStop   Desired = "stop"   // container kept, not running
	DesiredPause  Desired = "pause"  // container kept, frozen
	DesiredRemove Desired = "remove" // container stopped and removed
)

// Task is one instance of a service: at most one container.
// Managers write all fields but Status; the node's agent writes Status once
// the task has a node, managers before. Maps are never changed in place.
type Task struct {
	ID       string     `json:"id"`
	Stack    string     `json:"stack"`
	Service  string     `json:"service"`
	Slot     int        `json:"slot"` // 1.. of a replicated service
	Node     string     `json:"node,omitempty"`
	Version  uint64     `json:"version"` // of the service spec that the task runs
	Desired  Desired    `json:"desired"`
	Restarts uint64     `json:"restarts,omitempty"` // grows when a person asks for a restart or a start; the agent follows
	Created  int64      `json:"created"`            // Unix nanoseconds
	Status   TaskStatus `json:"status"`

	Pin           string            `json:"pin,omitempty"`           // node that a global service's task is made for
	Wanted        uint64            `json:"wanted,omitempty"`        // Restarts asked for; Restarts follows when the dependencies allow
	RemoveVolumes bool              `json:"removeVolumes,omitempty"` // with DesiredRemove: its anonymous volumes too
	Grace         *time.Duration    `json:"grace,omitempty"`         // between stop signal and kill, over the spec's
	Anonymous     map[string]string `json:"anonymous,omitempty"`     // anonymous volumes inherited from the task before: target to volume name
	AnonymousNode string            `json:"anonymousNode,omitempty"` // where those are; "": on any node that the task gets

	Addresses []TaskAddress `json:"addresses,omitempty"` // in networks that span nodes, chosen by the managers with the node. Never changed in place

	Replaces string   `json:"replaces,omitempty"` // ID of the task of the same slot that goes when this one serves (start-first), or whose node is lost
	Serving  int64    `json:"serving,omitempty"`  // since when the managers have seen it run, and healthy: noted while they wait for that. Unix nanoseconds
	Draining int64    `json:"draining,omitempty"` // since when it is to get no new requests, before it is told to go. Unix nanoseconds
	Retry    int64    `json:"retry,omitempty"`    // it has failed, and is replaced at this time unless it recovers. Unix nanoseconds
	End      *TaskEnd `json:"end,omitempty"`      // with DesiredRemove: how it stood when it was told to go. Never changed in place
}

// TaskEnd is how a task stood when the managers told it to go.
type TaskEnd struct {
	State      TaskState `json:"state"`                // that it had: TaskFailed, TaskCompleted, TaskRunning, ...
	Message    string    `json:"message,omitempty"`    // of its status
	ExitCode   int       `json:"exitCode,omitempty"`   // of its status
	Restarts   int       `json:"restarts,omitempty"`   // in place, by the restart policy
	NotStarted bool      `json:"notStarted,omitempty"` // of its status: its node could not start it
	Lost       bool      `json:"lost,omitempty"`       // its node was down: it was told to go without having got no new requests for a while
	Why        string    `json:"why"`                  // it had to go: "updated", "scaled down", "node n3 is down", "failed"
	Time       int64     `json:"time"`                 // by the managers' clock, Unix nanoseconds
}

// Left are the anonymous volumes that the tasks of a service have left behind on
// each node and that no other task inherited: by node ID, "" where that is not
// known. Never changed in place.
type Left map[string][]string

// TaskStatus is what the node observed.
type TaskStatus struct {
	State        TaskState `json:"state"`
	Message      string    `json:"message,omitempty"` // what it waits for, or why it failed
	ContainerID  string    `json:"containerID,omitempty"`
	Health       string    `json:"health,omitempty"` // "", "starting", "healthy", "unhealthy"
	ExitCode     int       `json:"exitCode,omitempty"`
	Paused       bool      `json:"paused,omitempty"`
	RestartCount int       `json:"restartCount,omitempty"` // restarts in place by the restart policy
	Restarts     uint64    `json:"restarts,omitempty"`     // Task.Restarts that the container has followed
	NotStarted   bool      `json:"notStarted,omitempty"`   // with TaskFailed: no process ever ran, the node goes on trying
	Time         time.Time `json:"time"`                   // by the node's clock

	ImageID   string            `json:"imageID,omitempty"`   // of the container
	Followed  Desired           `json:"followed,omitempty"`  // last wish that the container was made to follow; what a person did to it since is left alone
	Anonymous map[string]string `json:"anonymous,omitempty"` // its anonymous volumes: target to volume name
}

// Inherited are the anonymous volumes that the task has from the one before it:
// none when they are on another node than its own.
func (t *Task) Inherited() map[string]string {
	if t.AnonymousNode != "" && t.AnonymousNode != t.Node {
		return nil
	}
	return t.Anonymous
}

// AnonymousVolumes are the names of the anonymous volumes that are the task's:
// those of its container and those that it inherited.
func (t *Task) AnonymousVolumes() []string {
	names := slices.AppendSeq(slices.Collect(maps.Values(t.Inherited())), maps.Values(t.Status.Anonymous))
	slices.Sort(names)
	return slices.Compact(names)
}
