package stack

import (
	"cmp"
	"strings"
)

// Endpoint is one container's place in one network, as the whole cluster sees
// it: what other nodes need to reach it and to call it by name.
type Endpoint struct {
	ID        string   `json:"id"` // of the task; of the container, for one that has no task
	Network   string   `json:"network"`
	Node      string   `json:"node"`                // ID
	Container string   `json:"container,omitempty"` // ID; "" before there is one
	Name      string   `json:"name,omitempty"`      // the container's: "shop-web-1"
	Service   string   `json:"service,omitempty"`   // "shop/web"; "": of no service
	Stack     string   `json:"stack,omitempty"`     // of a container without a service that belongs to one: a one-off
	IPv4      string   `json:"ipv4,omitempty"`      // no prefix length
	IPv6      string   `json:"ipv6,omitempty"`
	MAC       string   `json:"mac,omitempty"`     // "": derived from the address
	Names     []string `json:"names,omitempty"`   // its own, beside Name
	Aliases   []string `json:"aliases,omitempty"` // that it shares with others
	Up        bool     `json:"up,omitempty"`      // its container runs: it has names and entries
	Ready     bool     `json:"ready,omitempty"`   // it gets new requests: up, healthy, not draining
}

// Owner is the stack that a container is of; "": of none.
func (e *Endpoint) Owner() string {
	of, _, _ := strings.Cut(e.Service, "/")
	return cmp.Or(e.Stack, of)
}

// ServiceAddress is what every node of a network knows of a service in it.
type ServiceAddress struct {
	Service string   `json:"service"` // "shop/web"
	IPv4    string   `json:"ipv4,omitempty"`
	IPv6    string   `json:"ipv6,omitempty"` // neither: its names answer with its tasks' addresses (endpoint_mode dnsrr)
	Names   []string `json:"names,omitempty"`
	Single  bool     `json:"single,omitempty"` // one task at most: it calls itself by its own address
	Sticky  bool     `json:"sticky,omitempty"` // a client's connections go to one task
}

// Published is a service with ports that all nodes publish.
type Published struct {
	Service string `json:"service"`
	Ports   []Port `json:"ports"` // of mode ingress, host ports chosen
	Sticky  bool   `json:"sticky,omitempty"`
	Local   bool   `json:"local,omitempty"` // tasks of the node that was asked are preferred
}

// Directory is what a node knows of a network: all containers and services in
// it. That of the name "" is of published ports: its endpoints are the tasks
// behind them, each in the network whose default route it has. It is never
// changed: another content is another Directory.
type Directory struct {
	Endpoints []Endpoint       `json:"endpoints,omitempty"` // by ID
	Services  []ServiceAddress `json:"services,omitempty"`  // by Service
	Published []Published      `json:"published,omitempty"` // by Service; of "" only
}

// TaskAddress is what a task has in one network.
type TaskAddress struct {
	Network string `json:"network"` // real name
	IPv4    string `json:"ipv4,omitempty"`
	IPv6    string `json:"ipv6,omitempty"`
}

// IngressNetwork is the network over which published ports reach tasks of other
// nodes. It is made when a machine lets others join.
const IngressNetwork = "ingress"

// LocalNetwork is the network of plain containers that name none: each node has
// one of its own, with the same addresses.
const LocalNetwork = "bridge"

// Spans reports whether the network is one across all nodes, with addresses
// given by the managers.
func (n Network) Spans() bool {
	switch n.Driver {
	case "host", "none", "null":
		return false
	}
	return n.Name != LocalNetwork && n.VNI != 0
}
