package overlaynet

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
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
	news  chan struct{} // something is pending that nobody else sends
	flows chan struct{} // connections are to be forgotten
	ends  chan struct{} // connections are to be ended: nobody answers them
	tell  chan struct{} // the managers are to be told of plain containers

	sending sync.Mutex // held while what is pending is read and sent, so that it arrives in order; before the locks of networks and mu

	mu       sync.Mutex
	networks map[string]*network     // guarded by mu: by ID; those used on this node
	spaces   map[string]*space       // guarded by mu: by sandbox ID
	fronts   map[portKey][]*front    // guarded by mu
	pubs     map[string]*publication // guarded by mu: by service
	pubDir   *stack.Directory        // guarded by mu: what pubs come from
	behind   map[string]*distant     // guarded by mu: tasks of other nodes behind pubs, by endpoint ID
	behindOf index[*distant]         // guarded by mu
	blocked  map[Frontend]*block     // guarded by mu: ports of services that something else on this node has
	kept     map[portKey]bool        // guarded by mu: host ports that Restore is to keep; nil after it
	fabric   Fabric                  // guarded by mu: the last that was known
	locals   map[netip.Addr]bool     // guarded by mu: addresses of sandboxes that others' requests may lead back to
	inlets   map[Frontend]bool       // guarded by mu: ports of sandboxes, at their own addresses, that other nodes lead requests to
	pending  pending                 // guarded by mu
	sent     sent                    // guarded by mu, and changed by the holder of sending
	resized  map[string]bool         // guarded by mu: sandboxes whose networks have another MTU
	nextPort uint16                  // guarded by mu: where the search for a free port goes on
	lately   lately                  // guarded by mu: free ports that sandboxes had
	released chan struct{}           // guarded by mu: closed and replaced when an address becomes free
	plain    map[plainKey]bool       // guarded by mu: of what the managers are to be told
	trouble  map[string]string       // guarded by mu: what could not be done last time, by what it was
	off      bool                    // guarded by mu: the last Set was of nothing

	forget    map[netip.Addr]bool    // guarded by mu: addresses whose connections are to be dropped; true: UDP's only
	resets    map[netip.Addr]parting // guarded by mu: addresses whose connections are to be ended, in sandboxes of that network
	published []Frontend             // guarded by mu: UDP ports new since connections to them were last dropped
}

// New returns a Manager that has touched nothing yet: call Restore first,
// with nothing when nothing exists.
func New(o Options) *Manager {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	signals := func() chan struct{} { return make(chan struct{}, 1) }
	return &Manager{
		opt: o, log: o.Log, mark: Mark(o.RunDir), wake: signals(), news: signals(), flows: signals(), ends: signals(), tell: signals(),
		networks: map[string]*network{}, spaces: map[string]*space{}, fronts: map[portKey][]*front{}, pubs: map[string]*publication{},
		behind: map[string]*distant{}, behindOf: index[*distant]{}, blocked: map[Frontend]*block{}, locals: map[netip.Addr]bool{}, inlets: map[Frontend]bool{}, pending: newPending(), sent: newSent(), resized: map[string]bool{},
		released: make(chan struct{}), plain: map[plainKey]bool{}, trouble: map[string]string{}, forget: map[netip.Addr]bool{}, resets: map[netip.Addr]parting{},
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
	m.shapeLocked(n) // packets that a link on their way would have to break up are slow, or lost
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

// poke makes Run look at everything.
func (m *Manager) poke() { signal(m.wake) }

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
