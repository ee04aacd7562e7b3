package port

import (
	"context"
	"sync"
)

// lanesPerNode bounds the handshakes that this node has under way with one
// other: a burst of requests must not look like a flood there.
const lanesPerNode = 32

// lanes counts dials by node.
type lanes struct {
	mu    sync.Mutex
	nodes map[string]*lane
}

type lane struct {
	slots chan struct{}
	users int // inside or waiting; guarded by lanes.mu
}

// enter waits for its turn; call leave then.
func (l *lanes) enter(ctx context.Context, node string) (leave func(), err error) {
	l.mu.Lock()
	if l.nodes == nil {
		l.nodes = map[string]*lane{}
	}
	n := l.nodes[node]
	if n == nil {
		n = &lane{slots: make(chan struct{}, lanesPerNode)}
		l.nodes[node] = n
	}
	n.users++
	l.mu.Unlock()
	select {
	case n.slots <- struct{}{}:
		return func() { <-n.slots; l.gone(node, n) }, nil
	case <-ctx.Done():
		l.gone(node, n)
		return nil, ctx.Err()
	}
}

func (l *lanes) gone(node string, n *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.nodes, node)
	}
}
