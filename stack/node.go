package stack

// Node is one machine of the cluster. Managers write all fields.
type Node struct {
	ID           string            `json:"id"`
	Hostname     string            `json:"hostname,omitempty"`
	Role         Role              `json:"role,omitempty"`
	Availability Availability      `json:"availability,omitempty"`
	Down         bool              `json:"down,omitempty"`    // its agent has not been heard of
	Fenced       bool              `json:"fenced,omitempty"`  // down for longer than its lease: it has ended its exclusive tasks
	Since        int64             `json:"since,omitempty"`   // of the last change of Down, Unix nanoseconds
	Message      string            `json:"message,omitempty"` // why it is down
	Addr         string            `json:"addr,omitempty"`    // host:port of its cluster port, as other nodes reach it; "": one node alone
	Gossip       string            `json:"gossip,omitempty"`  // host:port of its gossip
	Edits        uint64            `json:"edits,omitempty"`   // grows with every change by a person
	Version      string            `json:"version,omitempty"` // of dhow
	Issuer       string            `json:"issuer,omitempty"`  // digest of the root that signed its certificate
	Joining      string            `json:"joining,omitempty"` // digest of the key that it joined with, until its first call
	Labels       map[string]string `json:"labels,omitempty"`
	EngineLabels map[string]string `json:"engineLabels,omitempty"`
	OS           string            `json:"os,omitempty"`           // "linux"
	Architecture string            `json:"architecture,omitempty"` // Go's word: "amd64"
	NanoCPUs     int64             `json:"nanoCPUs,omitempty"`     // 1e9 is one CPU; 0: not known
	Memory       int64             `json:"memory,omitempty"`       // bytes; 0: not known
	Generic      map[string]int64  `json:"generic,omitempty"`      // generic resources by kind
	Created      int64             `json:"created,omitempty"`      // Unix nanoseconds

	Number   int      `json:"number,omitempty"`   // small, of this node alone; chosen by the managers
	DataAddr string   `json:"dataAddr,omitempty"` // IP address for traffic between containers; "": that of Addr
	MTU      int      `json:"mtu,omitempty"`      // of the link that has DataAddr, in bytes; 0: not known
	Ranges   []string `json:"ranges,omitempty"`   // addresses that the machine itself uses or has routes to, as CIDR: no network may overlap them
	Addrs    []string `json:"addrs,omitempty"`    // IP addresses of its own, by which others may see it, without those of its containers' bridges
	Problems []string `json:"problems,omitempty"` // what stands in the way of its containers' traffic
}

// Role of a node.
type Role string

// The roles.
const (
	RoleManager Role = "manager"
	RoleWorker  Role = "worker"
)

// Availability of a node for tasks.
type Availability string

// The availabilities.
const (
	Active Availability = ""      // takes tasks
	Paused Availability = "pause" // keeps its tasks, takes no new ones
	Drain  Availability = "drain" // gives its tasks away
)
