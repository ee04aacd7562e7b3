package cluster

import (
	"errors"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Errors that tell the API where to turn. Whoever returns one of them wraps it.
var (
	// ErrNotLeader: this node does not lead, or not any more, and nothing of
	// what was asked has been done. It may be asked again, of the leader.
	ErrNotLeader = errors.New("this node does not lead the cluster")
	// ErrLeaderLost: leadership was lost before the outcome was known; what was
	// asked may have been done or not.
	ErrLeaderLost = errors.New("the leader changed before the outcome was known")
	// ErrUnreachable: no connection to that node can be made.
	ErrUnreachable = errors.New("node cannot be reached")
	// ErrInSwarm: the node is part of a cluster already, or of none, and what was asked needs the other.
	ErrInSwarm = errors.New("this node's place in a swarm does not allow it")
)

// Settings of a cluster that a person may change.
type Settings = state.Settings

// LocalState says how this node stands to a cluster.
type LocalState string

// The states of a node.
const (
	Alone   LocalState = "inactive" // one node, closed to others
	Joining LocalState = "pending"
	Joined  LocalState = "active"
	Broken  LocalState = "error" // LocalStatus.Error says why
)

// LocalStatus is what a node knows of itself without asking another.
type LocalStatus struct {
	Node      string
	State     LocalState
	Manager   bool   // has the replicated state
	Advertise string // host:port of its cluster port, as others reach it; "" while Alone
	Listen    string // host:port it listens on; "" while Alone
	Error     string
	Managers  []Peer // as far as known
}

// Peer is a node as the others know it.
type Peer struct {
	ID       string
	Hostname string
	Addr     string // host:port of its cluster port
	Gossip   string // host:port of its gossip
	Role     stack.Role
	Down     bool
}

// Swarm is the cluster as a whole.
type Swarm struct {
	ID               string
	Created, Updated int64  // Unix nanoseconds
	Version          uint64 // of the record; an update names the one it builds on
	Settings         Settings
	Roots            []byte // PEM, all that are trusted
	IssuerSubject    []byte // raw subject of the certificate that signs
	IssuerKey        []byte // its raw public key
	Rotating         bool   // a rotation of the CA is under way
	RotationLeft     int    // nodes whose certificate is still of an older root
	WorkerToken      string // as a person passes it to `dhow swarm join`
	ManagerToken     string
}

// NodeStatus is one node of the cluster.
type NodeStatus struct {
	stack.Node
	Version   uint64 // of the record; an update names the one it builds on
	Updated   int64  // Unix nanoseconds
	Leader    bool
	Reachable bool // of a manager: it answers the leader
	Certificate
}

// Certificate is who signed a node's certificate.
type Certificate struct {
	Roots         []byte // PEM, that the node trusts
	IssuerSubject []byte
	IssuerKey     []byte
}

// NodeSpec is what a person decides about a node.
type NodeSpec struct {
	Role         stack.Role
	Availability stack.Availability
	Labels       map[string]string
}

// InitOptions open this node's cluster to others.
type InitOptions struct {
	Listen, Advertise string // host:port, host, or the name of an interface; "": the default port on all addresses, the address of the default route
	DataPath          string // address or interface of traffic between containers; "": Advertise's
	ForceNew          bool   // this node alone is the cluster from now on: recovery from lost quorum
	Settings          Settings
	Availability      stack.Availability
}

// JoinOptions make this node one of another's cluster.
type JoinOptions struct {
	Listen, Advertise, DataPath string // as in InitOptions
	Remotes                     []string
	Token                       string
	Availability                stack.Availability
}

// RotateTokens says which join tokens are replaced.
type RotateTokens struct{ Worker, Manager bool }

// RotateCA says what the new root is; the zero value makes one.
type RotateCA struct{ Cert, Key []byte } // PEM

// SnapshotInfo describes a saved snapshot.
type SnapshotInfo struct {
	Cluster  string    `json:"cluster"`
	Index    uint64    `json:"index"`
	Term     uint64    `json:"term"`
	Size     int64     `json:"size"`
	Created  time.Time `json:"created,omitzero"`
	Nodes    int       `json:"nodes"`
	Stacks   int       `json:"stacks"`
	Services int       `json:"services"`
	Tasks    int       `json:"tasks"`
	Checksum string    `json:"checksum,omitempty"`
}

// Location says where a container is.
type Location struct {
	Node      string // ID
	Container string // ID, "" when its node has not told it yet
	Task      string // ID
	Name      string // of the container
}
