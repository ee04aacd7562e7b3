package overlaynet

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/dhow-project/dhow/runtime"
)

// Options of New.
type Options struct {
	RunDir string // names of links derive from it
	Log    *slog.Logger
	Source Source
	Links  Links
	Names  Names
	Rules  Rules
	Ports  Ports
}

// Manager keeps the node's network.
type Manager struct {
	opt  Options
	log  *slog.Logger
	mark string

	ids   keyed         // one change at a time per sandbox
	wake  chan struct{} // look at everything
	flows chan struct{} // connections are to be forgotten

	rulesMu sync.Mutex // held while rules of fronts are read and sent, so that they arrive in order; before mu

	mu       sync.Mutex
	networks map[string]*network // guarded by mu: by ID; those used on this node
	spaces   map[string]*space   // guarded by mu: by sandbox ID
	fronts   map[portKey][]*front
	nextPort uint16              // guarded by mu: where the search for a free port goes on
	lately   lately              // guarded by mu: free ports that sandboxes had
	forget   map[netip.Addr]bool // guarded by mu: addresses whose connections are to be dropped; true: UDP's only

	stale map[Frontend]bool // guarded by mu: fronts whose rules could not be brought up to date

	published []Frontend // guarded by mu: UDP ports new since connections to them were last dropped
}

// New returns a Manager that has touched nothing yet: call Restore first,
// with nothing when nothing exists.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{
		opt: o, log: o.Log, mark: Mark(o.RunDir), wake: make(chan struct{}, 1), flows: make(chan struct{}, 1),
		networks: map[string]*network{}, spaces: map[string]*space{}, fronts: map[portKey][]*front{}, forget: map[netip.Addr]bool{}, stale: map[Frontend]bool{},
	}
}

// networkLocked finds a network by name or ID.
func (m *Manager) networkLocked(nameOrID string) (*network, error) {
	def, ok := m.opt.Source.Network(nameOrID)
	if !ok {
		return nil, fmt.Errorf("network %s: %w", nameOrID, runtime.ErrNotFound)
	}
	if n := m.networks[networkKey(def)]; n != nil {
		return n, nil
	}
	n, err := newNetwork(m.mark, def)
	if err != nil {
		return nil, err
	}
	if n.seg.MTU == 0 { // packets that the uplink would have to break up are slow, or lost
		n.seg.MTU = m.opt.Links.UplinkMTU()
	}
	m.networks[n.key()] = n
	return n, nil
}

// spaceLocked is a sandbox, unless its end has begun; nil: there is none.
func (m *Manager) spaceLocked(id string) *space {
	if s := m.spaces[id]; s != nil && !s.leaving {
		return s
	}
	return nil
}

// Endpoints of a network on this node, by sandbox ID.
func (m *Manager) Endpoints(nameOrID string) map[string]runtime.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]runtime.Endpoint{}
	for id := range m.spaces {
		s := m.spaceLocked(id)
		if s == nil {
			continue
		}
		for _, j := range s.joins {
			if j.net.def.Name == nameOrID || j.net.key() == nameOrID {
				out[id] = s.endpoint(j)
			}
		}
	}
	return out
}

// Connected returns how a sandbox came out.
func (m *Manager) Connected(id string) (*Connected, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spaceLocked(id)
	if s == nil {
		return nil, false
	}
	return s.connected(), true
}

// Warnings says what on this host stands in the way of containers' traffic,
// and what to do about it.
func (m *Manager) Warnings() []string { return m.opt.Rules.Warnings() }

// poke makes Run look at everything.
func (m *Manager) poke() { signal(m.wake) }

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
