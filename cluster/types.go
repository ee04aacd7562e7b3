package cluster

import (
	"log/slog"
	"time"

	"github.com/dhow-project/dhow/cluster/consensus"
	"github.com/dhow-project/dhow/cluster/loop"
	"github.com/dhow-project/dhow/stack"
)

// Config of a Manager. Only DataDir is required.
type Config struct {
	DataDir  string     // the manager keeps its state in DataDir/cluster
	NodeID   string     // "": the one of the last start, or a new one
	Node     stack.Node // facts about this machine; ID, Role and Created are filled in
	Log      *slog.Logger
	Subnets  SubnetPicker // nil: networks must name their subnets
	Images   Images       // of this node; nil: it has none to pin when a stack is applied
	Resolver Resolver     // of images that this node does not have; nil: they are not pinned
	Volumes  VolumeNames  // nil: external volumes are not checked when a stack is applied
	Ports    NodePorts    // nil: nodes are not asked whether ports are free when a stack is applied
	Host     HostCheck    // nil: host paths and devices are not checked when a stack is applied

	// Of a manager among several:

	Stream    consensus.Stream       // connections to the others; nil: this machine alone
	Join      bool                   // without a state of its own: wait for the leader to send it
	Seal      Sealer                 // nil: with keys of its own beside the state
	SealKeys  func() ([]byte, error) // what lets another manager open what is sealed
	Life      Life                   // nil: no node is ever found to be down
	Duties    []Duty                 // of others, while this manager leads
	Lease     time.Duration          // of the nodes' sessions
	Heartbeat time.Duration

	// Of deciding while this manager leads:

	Inventory  loop.Inventory // nil: nothing is known of what nodes have
	DrainGrace time.Duration  // between no new requests for a task and the wish to stop it
}

// DefaultDrainGrace is long enough for who follows the stack's state to send no
// more requests to a task.
const DefaultDrainGrace = 500 * time.Millisecond

// SubnetPicker chooses address ranges for a network.
type SubnetPicker interface {
	// Pick returns the ranges of want: the subnets that it asks for, checked, or
	// free ones, and free ones for services' virtual addresses.
	Pick(want stack.Network, beside Beside) (Picked, error)
}

// Beside is what a network's ranges must not meet, and where they come from.
type Beside struct {
	Networks []stack.Network
	Nodes    map[string][]string // what nodes use themselves, as CIDR, by the node's name
	Pools    []string            // of the cluster: "10.20.0.0/16"; none: the machine's own
	Size     int                 // prefix length of the subnets of Pools; 0: 24
	Seed     string              // of the cluster's own IPv6 range; "": the machine's own
}

// Picked are a network's ranges.
type Picked struct {
	Subnets []stack.Subnet // complete with gateways
	Virtual []string       // a range for each family of Subnets, outside of them; none for a network that does not span nodes
}

// VolumeNames lists the real names of the volumes that exist.
type VolumeNames interface {
	VolumeNames() (map[string]bool, error)
}

// Action of a person on services.
type Action string

// The actions.
const (
	Start   Action = "start"   // run what is stopped, and what it depends on
	Stop    Action = "stop"    // keep the containers, stopped
	Restart Action = "restart" // also of dependents that ask for it
	Pause   Action = "pause"
	Unpause Action = "unpause"
	Remove  Action = "rm" // containers of services of which nothing runs
)

// ControlOptions of Control.
type ControlOptions struct {
	Volumes  bool           // with Remove: anonymous volumes of the containers too
	Services []string       // empty: all of the stack
	Grace    *time.Duration // between stop signal and kill; nil: the specs' own
}

// RemoveOptions of RemoveStack.
type RemoveOptions struct {
	Volumes  bool           // anonymous volumes of its containers too
	Services []string       // only these; the stack stays. Empty: all of the stack
	Grace    *time.Duration // between stop signal and kill; nil: the specs' own
}

// StackStatus is a stack and how it is doing.
type StackStatus struct {
	Stack    stack.Stack     `json:"stack"` // as last applied, without the content of secrets and configs
	Services []ServiceStatus `json:"services"`
	Tasks    []stack.Task    `json:"tasks"` // sorted by service, slot
	Removing bool            `json:"removing,omitempty"`
	Index    uint64          `json:"index"`   // of the last change to any of this, or to a node
	Created  int64           `json:"created"` // Unix nanoseconds
	Updated  int64           `json:"updated"` // of the last apply, Unix nanoseconds
}

// ServiceStatus counts the tasks of one service.
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
	Message   string        `json:"message,omitempty"` // what it waits for, or why it failed: of the first task that has something to say

	Update *stack.UpdateStatus `json:"update,omitempty"` // of the last update; nil: there has been none

	Addresses []stack.TaskAddress `json:"addresses,omitempty"` // virtual ones, by network
	Ports     []uint16            `json:"ports,omitempty"`     // host ports chosen for its ingress ports that name none, in their order; 0: none yet
}

// Assignment and TaskReport are what passes between managers and agents.
type (
	Assignment = stack.Assignment
	TaskReport = stack.TaskReport
)
