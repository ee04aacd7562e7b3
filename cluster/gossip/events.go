package gossip

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/dhow-project/dhow/stack"
)

// teller keeps what the events have told. Memberlist forgets the dead after a
// while; a manager that starts to lead wants to know them still.
type teller struct {
	self string

	mu     sync.Mutex
	nodes  map[string]Member // guarded by mu
	moved  map[string]string // guarded by mu: by node, an address that it is said to be at instead
	bye    map[string]bool   // guarded by mu: nodes that said goodbye, until they join again
	facts  map[string]string // guarded by mu: by living node, all that is known of it
	read   reading           // guarded by mu: of facts
	change chan struct{}     // guarded by mu: closed at the next change
}

func newTeller(self string) *teller {
	return &teller{
		self: self, nodes: map[string]Member{}, moved: map[string]string{}, bye: map[string]bool{}, facts: map[string]string{},
		change: make(chan struct{}),
	}
}

func (t *teller) NotifyJoin(n *memberlist.Node) {
	t.mu.Lock()
	delete(t.bye, n.Name)
	t.mu.Unlock()
	t.set(n, true)
}
func (t *teller) NotifyUpdate(n *memberlist.Node) { t.set(n, true) }
func (t *teller) NotifyLeave(n *memberlist.Node)  { t.set(n, false) }

// set is called with memberlist's lock held: it must not ask memberlist anything.
func (t *teller) set(n *memberlist.Node, alive bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := t.nodes[n.Name]
	m := Member{Node: n.Name, Gossip: gossipOf(n), Alive: alive, Since: was.Since}
	m.Meta, _ = parseMeta(n.Meta) // filtered by NotifyAlive
	m.Left = !alive && (m.Meta.Leaving || t.bye[n.Name])
	if !known || was.Alive != alive {
		m.Since = time.Now()
	}
	t.nodes[n.Name] = m
	t.read.sum = nil
	if alive {
		delete(t.moved, n.Name)
		t.facts[n.Name] = fmt.Sprintf("%q %s %q\n", n.Name, m.Gossip, n.Meta)
	} else {
		delete(t.facts, n.Name)
	}
	t.pokeLocked()
}

func (t *teller) pokeLocked() {
	close(t.change)
	t.change = make(chan struct{})
}

// goodbye notes that a node leaves; its death may have been heard of before.
func (t *teller) goodbye(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, known := t.nodes[node]
	if !known || t.bye[node] || node == t.self {
		return
	}
	t.bye[node] = true
	if !m.Alive && !m.Left {
		m.Left = true
		t.nodes[node] = m
		t.pokeLocked()
	}
}

// seen notes another address of a node.
func (t *teller) seen(node, addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved[node] = addr
}

// lost are the addresses of nodes that died, and of them those that are said to have moved.
func (t *teller) lost() (all, moved []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.nodes {
		if m.Alive || m.Left || m.Node == t.self {
			continue
		}
		all = append(all, m.Gossip)
		if addr, ok := t.moved[m.Node]; ok {
			moved = append(moved, addr)
		}
	}
	return all, moved
}

func (t *teller) members() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.nodes))
	for _, m := range t.nodes {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	return out
}

func (t *teller) member(node string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.nodes[node]
	return m, ok
}

func (t *teller) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.change
}

func (t *teller) forget(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.nodes[node]; ok && !m.Alive {
		delete(t.nodes, node)
		delete(t.moved, node)
		delete(t.bye, node)
	}
}

// parseMeta reads what another node tells of itself.
func parseMeta(data []byte) (Meta, error) {
	var m Meta
	if len(data) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return Meta{}, fmt.Errorf("what the node tells of itself: %w", err)
	}
	if m.Addr != "" {
		if _, _, err := net.SplitHostPort(m.Addr); err != nil {
			return Meta{}, fmt.Errorf("what the node tells of itself: %w", err)
		}
	}
	if m.Role != "" && m.Role != stack.RoleManager && m.Role != stack.RoleWorker {
		return Meta{}, fmt.Errorf("what the node tells of itself: role %q", m.Role)
	}
	return m, nil
}

// aliveFilter refuses nodes that say nonsense.
type aliveFilter struct{}

func (aliveFilter) NotifyAlive(n *memberlist.Node) error {
	if n.Name == "" || len(n.Name) > 128 || strings.ContainsAny(n.Name, "/ \n") {
		return fmt.Errorf("node ID %q", n.Name)
	}
	_, err := parseMeta(n.Meta)
	return err
}

// delegate tells what memberlist asks of us, and hears the one message of our
// own: a goodbye.
type delegate struct{ g *Gossip }

func (d delegate) NodeMeta(limit int) []byte {
	d.g.mu.Lock()
	m := d.g.meta
	d.g.mu.Unlock()
	data, err := json.Marshal(m)
	if err == nil && len(data) > limit {
		m.Hostname = "" // the only part without a bound
		data, err = json.Marshal(m)
	}
	if err != nil || len(data) > limit {
		d.g.log.Error("what this node tells of itself is too long", "bytes", len(data), "limit", limit)
		return nil
	}
	return data
}

// NotifyMsg hears a goodbye. What others say to nobody in particular reaches
// only most of them before they hear that the node is gone, hence it is told to
// each: Leave.
func (d delegate) NotifyMsg(b []byte) {
	if node, ok := strings.CutPrefix(string(b), goodbye); ok {
		d.g.tell.goodbye(node)
	}
}

// goodbye comes before the ID of the node that leaves.
const goodbye = "bye "

func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// conflict hears that a node is said to be at two addresses: it came back at
// another one before the others found it dead at the old one.
type conflict struct{ g *Gossip }

func (c conflict) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == c.g.cfg.Node {
		return // the others call when they have found the old address dead
	}
	c.g.tell.seen(other.Name, gossipOf(other))
}

// gossipOf is host:port that a node gossips at.
func gossipOf(n *memberlist.Node) string {
	return net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
}
