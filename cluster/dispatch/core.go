package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Core is what sessions need of the manager that leads.
type Core interface {
	// Changed is closed at the next change of the state.
	Changed() <-chan struct{}
	// Index is of the last change of the state: what was read before has no later one.
	Index() uint64
	// Touched says whom the changes after index since concern. What is read
	// after it returned has at least these changes.
	Touched(since uint64) Touched
	// Assignments returns all tasks of a node, with what it needs to run them.
	Assignments(node string) []stack.Assignment
	// View returns what all nodes know of the cluster.
	View() View
	// Topics are the networks of which a node is told, by name, sorted: those of
	// its tasks and plain containers, and "", that of published ports, when it
	// takes part in them. They may change when Touched names the node.
	Topics(node string) []string
	// Directory returns what is known of a topic; with keys, what is known of
	// these alone: a key that the answer has no record of is gone. It is the
	// caller's.
	Directory(topic string, keys []string) *stack.Directory
	// Verify returns nil when this manager has led the cluster at some moment after the call.
	Verify(ctx context.Context) error
	// Hello takes in what a node says of itself, at the start of its session
	// and when that changes.
	Hello(ctx context.Context, node string, d Description) error
	// Report stores what a node observed; tasks that are not the node's are left out.
	Report(ctx context.Context, node string, reports []stack.TaskReport) error
}

// ErrRefused is wrapped by an error of Hello that the same description will always have.
var ErrRefused = errors.New("refused")

// Touched is whom changes of the state concern.
type Touched struct {
	Index uint64              // of the last change: the next call's since
	All   bool                // everybody: what changed is not known
	View  bool                // View may answer differently
	Nodes map[string][]string // by node: the tasks touched; nil: its other tasks may have changed too

	// Topics are the keys of what changed in a topic's directory; nil: all of it
	// may have changed. Who has missed something (All) has missed it of all topics.
	Topics map[string][]string
}

// EndpointKey, ServiceKey and PublishedKey name a record of a directory.
func EndpointKey(id string) string { return "endpoint/" + id }

// ServiceKey is the key of a stack.ServiceAddress by its Service.
func ServiceKey(service string) string { return "service/" + service }

// PublishedKey is the key of a stack.Published by its Service.
func PublishedKey(service string) string { return "published/" + service }

// View is what every node knows of the cluster.
type View struct {
	Cluster  string          `json:"cluster,omitempty"` // ID
	Roots    string          `json:"roots,omitempty"`   // digest of the trusted roots
	Keys     [][]byte        `json:"keys,omitempty"`    // of gossip, the first encrypts
	Workers  string          `json:"workers,omitempty"` // what workers may ask of other nodes: "none"; "": all
	Port     int             `json:"port,omitempty"`    // UDP, of VXLAN; 0: the default
	Nodes    []Node          `json:"nodes,omitempty"`   // by ID
	Networks []stack.Network `json:"networks,omitempty"`
}

// Node is a node as the others know it.
type Node struct {
	ID       string     `json:"id"`
	Hostname string     `json:"hostname,omitempty"`
	Addr     string     `json:"addr,omitempty"`   // host:port of its cluster port
	Gossip   string     `json:"gossip,omitempty"` // host:port of its gossip
	Role     stack.Role `json:"role,omitempty"`
	Down     bool       `json:"down,omitempty"`
	DataAddr string     `json:"dataAddr,omitempty"` // as stack.Node has it
	Number   int        `json:"number,omitempty"`
	MTU      int        `json:"mtu,omitempty"`
	Addrs    []string   `json:"addrs,omitempty"`
}

// Node returns one of the view's nodes.
func (v View) Node(id string) (Node, bool) {
	for _, n := range v.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return Node{}, false
}

// Managers are the IDs of the view's managers.
func (v View) Managers() []string {
	var out []string
	for _, n := range v.Nodes {
		if n.Role == stack.RoleManager {
			out = append(out, n.ID)
		}
	}
	return out
}

// Description is what a node says of itself.
type Description struct {
	Node    stack.Node `json:"node"`              // facts of the machine; what only managers decide is left alone
	Images  []string   `json:"images,omitempty"`  // IDs and digests of the images it has, sorted
	Volumes []string   `json:"volumes,omitempty"` // names of the volumes it has, sorted
}

// Terms of a lease.
type Terms struct {
	Beat  time.Duration `json:"beat"`  // between two heartbeats
	Lease time.Duration `json:"lease"` // after a heartbeat
}

// DefaultTerms are a heartbeat each second and a lease of five; beyond a
// thousand nodes both grow, so that the leader has at most a thousand heartbeats a second.
func DefaultTerms(nodes int) Terms {
	beat := time.Second
	if nodes > 1000 {
		beat = time.Duration(nodes) * time.Millisecond
	}
	return Terms{Beat: beat, Lease: 5 * beat}
}

// patience is how long an unanswered heartbeat is borne before another manager is tried.
func (t Terms) patience() time.Duration { return t.Beat + t.Beat/2 }

// margin is what the server adds to a lease: for what its own loops are late.
func (t Terms) margin() time.Duration { return t.Lease / 20 }
