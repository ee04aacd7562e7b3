package stack

// NetworkView is all that the managers know of one network.
type NetworkView struct {
	Network   Network          `json:"network"`
	Nodes     []NetworkNode    `json:"nodes"`             // that have containers in it, by host name
	Services  []ServiceAddress `json:"services"`          // by Service
	Endpoints []Endpoint       `json:"endpoints"`         // by node and name
	Published []Published      `json:"published"`         // host ports of its services, by Service
	Usage     []RangeUsage     `json:"usage,omitempty"`   // of its ranges
	Waiting   []string         `json:"waiting,omitempty"` // what is not as it should be, and what it waits for
}

// NetworkNode is a node in a network.
type NetworkNode struct {
	ID        string   `json:"id"`
	Hostname  string   `json:"hostname"`
	Addr      string   `json:"addr,omitempty"`   // that tunnels lead to; "": a machine alone
	Number    int      `json:"number,omitempty"` // of its routes and marks
	Down      bool     `json:"down,omitempty"`
	Endpoints int      `json:"endpoints"`
	Problems  []string `json:"problems,omitempty"` // of all its networks
}

// RangeUsage is how much of the addresses of one kind and family is taken.
type RangeUsage struct {
	Virtual bool   `json:"virtual,omitempty"` // of services; false: of containers
	IPv6    bool   `json:"ipv6,omitempty"`
	Taken   int    `json:"taken"` // by tasks, containers and services
	Total   uint64 `json:"total"` // addresses that can be handed out; the most that fits when there are more
}
