package api

import (
	"time"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// ApplyRequest is the body of PUT /dhow/v1/stacks/{name}.
type ApplyRequest struct {
	Stack   stack.Stack  `json:"stack"`
	Options plan.Options `json:"options"`
	DryRun  bool         `json:"dryRun,omitempty"`
	// Logins of the user for the registries of the stack's images, by host
	// ("docker.io"). They are kept like secrets, for the nodes that pull.
	Logins map[string]stack.RegistryAuth `json:"logins,omitempty"`
	// Pins are the images of the node where the request arrived, by service. It adds them itself.
	Pins map[string]stack.Pin `json:"pins,omitzero"`
	// Node is the host name of that node, which fills it in.
	Node string `json:"node,omitempty"`
	// Found is what that node lacks. It adds it itself.
	Found *stack.Findings `json:"found,omitempty"`
}

// ApplyResponse says what an apply does, or with DryRun would do.
type ApplyResponse struct {
	Plan  *plan.Plan `json:"plan"`
	Index uint64     `json:"index"` // of the state that holds the change; 0 for a dry run
}

// Action is what ControlRequest asks for.
type Action string

// The actions on services of a stack.
const (
	ActionStart   Action = "start"
	ActionStop    Action = "stop"
	ActionRestart Action = "restart"
	ActionPause   Action = "pause"
	ActionUnpause Action = "unpause"
	ActionRemove  Action = "rm" // containers of services of which nothing runs
)

// ControlRequest is the body of POST /dhow/v1/stacks/{name}/control.
type ControlRequest struct {
	Action   Action         `json:"action"`
	Services []string       `json:"services,omitempty"` // empty: all
	Volumes  bool           `json:"volumes,omitempty"`  // with rm: anonymous volumes too
	Grace    *time.Duration `json:"grace,omitempty"`    // nanoseconds between stop signal and kill; absent: the services' own
}

// ScaleRequest is the body of POST /dhow/v1/stacks/{name}/scale.
type ScaleRequest struct {
	Counts map[string]int `json:"counts"` // replicas by service
}

// StackStatus is a stack, what is wanted of it and what was observed.
type StackStatus struct {
	Stack    stack.Stack     `json:"stack,omitzero"` // as last applied, without the content of secrets and configs; a watch leaves it out when it is as in the line before
	Services []ServiceStatus `json:"services"`       // sorted by name
	Tasks    []stack.Task    `json:"tasks"`          // sorted by service and slot
	Removing bool            `json:"removing,omitempty"`
	Index    uint64          `json:"index"`   // of the last change to any of this, or to a node
	Created  int64           `json:"created"` // Unix nanoseconds
	Updated  int64           `json:"updated"` // of the last apply, Unix nanoseconds

	Several bool                 `json:"several,omitempty"` // the cluster has more than one node
	Nodes   map[string]StackNode `json:"nodes,omitempty"`   // those that tasks are on, by ID; empty for one node alone
}

// WatchEnd is the last line of a watch that cannot go on, as when no manager
// leads any more. The answer is cut off after it.
type WatchEnd struct {
	Failed string `json:"failed,omitempty"`
}

// StackNode is a node that tasks of a stack are on.
type StackNode struct {
	Hostname string `json:"hostname"`
	Down     bool   `json:"down,omitempty"`
}

// ServiceStatus sums up the tasks of one service.
type ServiceStatus struct {
	Name      string        `json:"name"`
	Mode      stack.Mode    `json:"mode,omitempty"`
	Image     string        `json:"image,omitempty"`
	Desired   stack.Desired `json:"desired"`          // run, stop, pause, remove
	Wanted    int           `json:"wanted"`           // tasks that should exist
	Running   int           `json:"running"`          // of the current version
	Healthy   int           `json:"healthy"`          // running, and healthy or without a health check
	Completed int           `json:"completed"`        // ended with exit code 0 and not to be restarted
	Failed    int           `json:"failed"`           // ended otherwise, or cannot be started
	Updated   int           `json:"updated"`          // tasks of the current version
	Moving    int           `json:"moving,omitempty"` // tasks that have to leave their node, which is drained or fits no more
	Version   uint64        `json:"version"`
	Hash      string        `json:"hash"`
	Ready     bool          `json:"ready"`             // all wanted tasks are of the current version and healthy, or completed
	Message   string        `json:"message,omitempty"` // what it waits for, or why it failed

	Update *stack.UpdateStatus `json:"update,omitempty"` // of the last update; nil: there has been none

	Addresses []stack.TaskAddress `json:"addresses,omitempty"` // virtual ones, by network
	Ports     []uint16            `json:"ports,omitempty"`     // host ports chosen for its ingress ports that name none, in their order; 0: none yet
}
