package api

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
)

// Headers of answers that come from the cluster's state, and of requests to one node.
const (
	ConsistencyHeader = "Dhow-Consistency" // "consistent", or "stale": from a manager's own copy, which may be behind
	IndexHeader       = "Dhow-Index"       // of the last change that the answering node has seen
	LeaderHeader      = "Dhow-Leader"      // ID of the node that leads, as far as the answering node knows
	MissingHeader     = "Dhow-Missing"     // JSON list of Missing: nodes that a list of all nodes leaves out
	NodeHeader        = "Dhow-Node"        // of a request: the node that is to answer, by ID or hostname
	OutcomeHeader     = "Dhow-Outcome"     // between nodes, with 503: whether anything has been done
)

// Values of OutcomeHeader.
const (
	OutcomeNone    = "none"
	OutcomeUnknown = "unknown"
)

// Missing is a node that did not answer.
type Missing struct {
	Node     string `json:"node"` // ID
	Hostname string `json:"hostname,omitempty"`
	Reason   string `json:"reason"`
}

// Container is one in GET /containers/json?nodes=all.
type Container struct {
	container.Summary
	Node *NodeRef `json:"Node,omitempty"` // nil: of the node that was asked
}

// Node is one in GET /nodes: as Docker has it, and its place in the networks.
type Node struct {
	swarm.Node
	Network NodeNetwork
}

// NodeNetwork is a node's place in the networks between nodes.
type NodeNetwork struct {
	Number   int      `json:",omitempty"` // of the node alone: of its address in the network ingress, and of its marks
	DataAddr string   `json:",omitempty"` // where others send containers' traffic; "": a machine alone, or not known now
	MTU      int      `json:",omitempty"` // of the link that has DataAddr, in bytes; 0: not known
	Problems []string `json:",omitempty"` // what stands in the way of its containers' traffic
}

// NodeRef names a node.
type NodeRef struct {
	ID       string
	Hostname string
}

// Location is the answer of GET /dhow/v1/locate: where a container is.
type Location struct {
	Node      string `json:"node"`                // ID
	Container string `json:"container,omitempty"` // ID
	Name      string `json:"name,omitempty"`
	Task      string `json:"task,omitempty"` // ID
}

// Peer is one node of the cluster, as any other knows it.
type Peer struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname"`
	Addr     string `json:"addr,omitempty"` // host:port of its cluster port
	Role     string `json:"role,omitempty"`
	Down     bool   `json:"down,omitempty"`
	Self     bool   `json:"self,omitempty"` // the node that answers
}

// SnapshotInfo is the answer of POST /dhow/v1/swarm/snapshot/inspect.
type SnapshotInfo struct {
	Cluster  string `json:"cluster"` // ID
	Index    uint64 `json:"index"`
	Term     uint64 `json:"term"`
	Size     int64  `json:"size"`              // bytes
	Created  int64  `json:"created,omitempty"` // Unix nanoseconds
	Nodes    int    `json:"nodes"`
	Stacks   int    `json:"stacks"`
	Services int    `json:"services"`
	Tasks    int    `json:"tasks"`
	Checksum string `json:"checksum,omitempty"`
}
