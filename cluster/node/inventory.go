package node

import (
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/cluster/dispatch"
)

// inventory is what this node has, and the nodes that call this manager.
type inventory struct {
	self   string // this node
	mu     sync.Mutex
	own    stock            // guarded by mu
	have   map[string]stock // guarded by mu: of the others
	change chan struct{}    // guarded by mu; nil until somebody asks
}

// stock of one node; a new one of the same content has the same version.
type stock struct {
	images, volumes []string
	version         uint64
}

func stockOf(d *dispatch.Description) stock {
	return stock{d.Images, d.Volumes, digest(d)}
}

// Inventory fits loop.Inventory.
func (v *inventory) Inventory(node string) (images, volumes []string, version uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.have[node]
	if node == v.self {
		s = v.own
	}
	return s.images, s.volumes, s.version
}

// Changed is closed when a node is heard to have something else.
func (v *inventory) Changed() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.change == nil {
		v.change = make(chan struct{})
	}
	return v.change
}

// set takes what all other nodes have.
func (v *inventory) set(have map[string]stock) {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := maps.EqualFunc(v.have, have, func(a, b stock) bool { return a.version == b.version })
	v.have = have
	v.tellLocked(same)
}

// setOwn takes what this node has: a leader has no session with itself.
func (v *inventory) setOwn(s stock) {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := v.own.version == s.version
	v.own = s
	v.tellLocked(same)
}

func (v *inventory) tellLocked(same bool) {
	if !same && v.change != nil {
		close(v.change)
		v.change = nil
	}
}

// holders are the nodes that have an image, by ID, digest or name.
func (v *inventory) holders(image string) (nodes []string) {
	image = strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
	v.mu.Lock()
	defer v.mu.Unlock()
	for node, s := range v.have {
		if slices.Contains(s.images, image) {
			nodes = append(nodes, node)
		}
	}
	if slices.Contains(v.own.images, image) {
		nodes = append(nodes, v.self)
	}
	slices.Sort(nodes)
	return nodes
}

// follow keeps up with the sessions while this manager leads.
func (v *inventory) follow(ctx context.Context, s *dispatch.Server) error {
	for {
		changed := s.Changed()
		have := map[string]stock{}
		for node, c := range s.Sessions() {
			have[node] = stockOf(&c.Description)
		}
		delete(have, v.self)
		v.set(have)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func digest(d *dispatch.Description) uint64 {
	h := fnv.New64a()
	for _, list := range [][]string{d.Images, d.Volumes} {
		for _, s := range list {
			h.Write([]byte(s)) // never fails
			h.Write([]byte{0})
		}
		h.Write([]byte{1})
	}
	return max(h.Sum64(), 1)
}
