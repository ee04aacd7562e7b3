package node

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// holdersPath answers which nodes have an image.
const holdersPath = "/cluster/v1/holders"

// maxStrays is how many nodes are asked for an image when it is not known who has it.
const maxStrays = 8

// holders is a question for the nodes that have an image, and its answer.
type holders struct {
	Key   string   `json:"key,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
}

// Holders lists nodes that may have an image: those of which the leader knows it
// first, then some others that are up.
func (n *Node) Holders(ctx context.Context, key string) []string {
	e := n.now()
	if e.memberNow() == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var found holders
	if m := e.managing(); m != nil && m.Leading() {
		found.Nodes = e.stock.holders(key)
	} else {
		_ = e.ask(limited, holdersPath, holders{Key: key}, &found) // without an answer some nodes are asked themselves
	}
	var known, strays []string
	for _, p := range e.peers() {
		switch {
		case p.Down:
		case slices.Contains(found.Nodes, p.ID):
			known = append(known, p.ID)
		case len(strays) < maxStrays: // an image that came a moment ago is not on the leader's list yet
			strays = append(strays, p.ID)
		}
	}
	return append(known, strays...)
}

// Client speaks to a node's port.
func (n *Node) Client(node string) *http.Client { return n.now().port.HTTPClient(node) }

// Name is what people call a node.
func (n *Node) Name(node string) string {
	for _, p := range n.now().peers() {
		if p.ID == node && p.Hostname != "" {
			return p.Hostname
		}
	}
	return node
}

// Refresh tells the leader what this node has now.
func (n *Node) Refresh() { n.now().client.Refresh() }
