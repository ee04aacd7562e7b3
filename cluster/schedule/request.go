package schedule

import "github.com/dhow-project/dhow/stack"

// AvoidAfter is how many failures of a service on a node put the node behind
// all others for that service, as in Swarm (there: 5 in 5 minutes).
const AvoidAfter = 5

// Request is one task to place. Task and Service alone are a whole request;
// the rest is what the spec of the service does not tell.
type Request struct {
	Task    *stack.Task    // ID, Stack, Service, Slot, Version, Pin and Desired are looked at
	Service *stack.Service // the spec of Task.Version; not changed as long as the Cluster has it

	// Volumes are the named volumes that the task mounts and that belong to one
	// node (stack.Stack.LocalVolumes). A volume that each node has of its own
	// (label dhow.scope: node, a global service's, one on the network) is left out.
	Volumes []Volume

	// Home is the ID of the only node for the task: where the files of its
	// relative bind mounts are (stack.Stack.HomeOf). "": any.
	Home string

	// Mates are the other tasks that must be on the task's node: those it shares
	// namespaces or volumes with, directly or not (Mates finds them). Those that
	// have a node decide where the task goes; the needs of those that have none
	// count as well, so that all find room where the first one goes; so do those
	// whose node is down or drained, as they will move.
	Mates []Mate

	// Platforms are what the image can run on: "linux/amd64", "linux/arm64/v8".
	// Nil: as the spec says (ContainerSpec.Platforms); nothing known, any node will do.
	Platforms []string

	// Failures counts by node ID how often the service's tasks failed lately
	// (in the last 5 minutes). A node with AvoidAfter or more is taken only when no other fits.
	Failures map[string]int

	// Replaces is the node of the running task of the same slot whose place this
	// one takes while it still runs (start-first); "": none. That task no longer
	// counts where tasks are spread, so that an update leaves the spread as it is.
	Replaces string
}

// Volume is a named volume of a request.
type Volume struct {
	Name     string   // real name: "shop_data"
	Node     string   // ID of the node that it is bound to; "": free, the first task that uses it binds it
	Nodes    []string // IDs of the nodes that are known to have one of this name already: a free volume is bound to one of these
	External bool     // must exist: without Node and Nodes, no node fits
}

// Mate is a task that must be on the same node as another.
type Mate struct {
	Task    *stack.Task // Node "": not placed yet
	Service *stack.Service
	Volumes []Volume
}

// Assignment is the answer to the request at Index.
type Assignment struct {
	Index int
	Node  string   // "": refused
	Why   string   // of a refusal
	Binds []string // volumes that were free and are bound to Node from now on: to be stored together with the task
}

// Inventory is what a node has besides resources. Not knowing it costs a
// preference, nothing more.
type Inventory struct {
	Images []string // IDs, digests, and references as services write them
}
