package state

import (
	"errors"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// Endpoint is the place of a container without a task in a network that spans
// nodes. What is to be seen of it follows from its being here: it is up.
type Endpoint struct {
	stack.Endpoint
	Created int64 `json:"created"` // Unix nanoseconds
}

func endpointOf(e *Endpoint) pair { return pair{e.ID, e.Network} }

// endpointKey is the inverse of EndpointKey.
func endpointKey(name string) pair {
	id, network, _ := strings.Cut(name, "/")
	return pair{id, network}
}

func newEndpoints(of func(*Endpoint) (string, bool)) groups[string, pair, Endpoint] {
	return groups[string, pair, Endpoint]{
		tree:  tree[string, group[string, pair, Endpoint]]{order: byString(func(g *group[string, pair, Endpoint]) string { return g.key })},
		of:    of,
		inner: byPair(endpointOf),
	}
}

func (t *tables) putEndpoint(e *edit, r *Endpoint) {
	old := t.endpoints.put(e, r)
	t.networkEnds.replace(e, old, r)
	t.nodeEnds.replace(e, old, r)
}

func (t *tables) removeEndpoint(e *edit, key pair) {
	if old := t.endpoints.remove(e, key); old != nil {
		t.networkEnds.replace(e, old, nil)
		t.nodeEnds.replace(e, old, nil)
	}
}

// enter stores an endpoint of a node and a network that there are.
func (t *tx) enter(e *Endpoint) error {
	switch {
	case e.ID == "":
		return errors.New("endpoint without an ID")
	case t.nodes.get(e.Node) == nil:
		return errors.New("endpoint of a node that is gone")
	case t.networks.byName.get(e.Network) == nil:
		return errors.New("endpoint in a network that is gone")
	}
	if old := t.endpoints.get(endpointOf(e)); old != nil && old.Node != e.Node {
		t.touch(Touched{Table: TableEndpoint, Key: EndpointKey(e.ID, e.Network), Node: old.Node, Networks: []string{e.Network}})
	}
	t.touch(Touched{Table: TableEndpoint, Key: EndpointKey(e.ID, e.Network), Node: e.Node, Networks: []string{e.Network}})
	t.putEndpoint(t.edit, e)
	return nil
}

// forgetEndpoints drops those of a node or network that is gone.
func (t *tx) forgetEndpoints(list []*Endpoint) {
	for _, e := range list {
		t.delete(Key{TableEndpoint, EndpointKey(e.ID, e.Network)})
	}
}

// Endpoint returns the place of a container in a network, or nil.
func (s *Snapshot) Endpoint(container, network string) *Endpoint {
	return s.tables.endpoints.get(pair{container, network})
}

// ContainerEndpoints returns the places of a container, by network.
func (s *Snapshot) ContainerEndpoints(container string) (out []*Endpoint) {
	s.tables.endpoints.from(pair{container, ""}, func(e *Endpoint) bool {
		if e.ID != container {
			return false
		}
		out = append(out, e)
		return true
	})
	return out
}

// Endpoints returns the endpoints in a network, by container.
func (s *Snapshot) Endpoints(network string) []*Endpoint {
	return s.tables.networkEnds.list(network)
}

// NodeEndpoints returns the endpoints of a node, by container and network.
func (s *Snapshot) NodeEndpoints(node string) []*Endpoint { return s.tables.nodeEnds.list(node) }

// EachEndpoint calls f for each endpoint, by container and network, until it returns false.
func (s *Snapshot) EachEndpoint(f func(*Endpoint) bool) { s.tables.endpoints.all(f) }

// ContainerOf is the container of an EndpointKey.
func ContainerOf(key string) string { return endpointKey(key).a }
