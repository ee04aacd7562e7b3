package overlaynet

import (
	"context"
	"slices"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// plainKey is a container's place in a network that spans nodes, with an
// address that it got by asking for it.
type plainKey struct{ id, network string }

// addresses are those that a sandbox got by asking, by the network's real name.
type addresses map[string]stack.Endpoint

const (
	leaveLimit = 5 * time.Second // of one word to the managers while a container's changes wait
	retell     = time.Second
)

// enter asks for addresses in those networks that span nodes and for which none are given.
func (m *Manager) enter(ctx context.Context, r Restored) (addresses, error) {
	given := addresses{}
	for _, at := range r.Attachments {
		def, ok := m.opt.Source.Network(at.Network)
		if !ok || !asks(def, at) {
			continue
		}
		m.mu.Lock()
		have, err := m.keptLocked(r, at.Network)
		m.mu.Unlock()
		if err != nil || have != nil {
			continue // the plan says what is wrong, or keeps what there is
		}
		e, err := m.opt.Source.Enter(ctx, m.endpointOf(r.Sandbox, at, def))
		if err != nil {
			given[def.Name] = e // it may have been let in, and the answer lost
			m.mu.Lock()
			defer m.mu.Unlock()
			m.tellLocked(r.ID, given)
			return nil, err // it names the network
		}
		given[def.Name] = e
	}
	return given, nil
}

// asks tells whether addresses of the attachment have to be asked for.
func asks(def stack.Network, at stack.Attachment) bool {
	return def.Spans() && at.Given4 == "" && at.Given6 == ""
}

// endpointOf is what other nodes learn of a container that no task stands for.
func (m *Manager) endpointOf(sb Sandbox, at stack.Attachment, def stack.Network) stack.Endpoint {
	e := stack.Endpoint{
		ID: sb.ID, Network: def.Name, Container: sb.ID, Name: nameOf(sb), Stack: sb.Stack, Service: sb.PortGroup, IPv4: at.IPv4, IPv6: at.IPv6,
		MAC: at.MacAddress, Aliases: at.Aliases, Up: true, Ready: true,
	}
	for _, name := range sb.DNSNames {
		if name != e.Name {
			e.Names = append(e.Names, name)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Node = m.fabric.Node
	return e
}

// Plain lists the containers that have an address in a network that spans
// nodes because they asked for it: their IDs.
func (m *Manager) Plain() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, id := range sortedKeys(m.spaces) {
		if slices.ContainsFunc(m.spaces[id].joins, func(j *join) bool { return j.entered }) {
			out = append(out, id)
		}
	}
	return out
}

// tellLocked has the managers told how it is with these places.
func (m *Manager) tellLocked(id string, given addresses) {
	for network := range given {
		m.tellOneLocked(plainKey{id, network})
	}
}

func (m *Manager) tellOneLocked(k plainKey) {
	m.plain[k] = true
	signal(m.tell)
}

// tellPlain tells the managers of plain containers that have left a network
// or have other names now, until ctx ends.
func (m *Manager) tellPlain(ctx context.Context) error {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.tell:
		case <-again:
		}
		again = nil
		m.mu.Lock()
		keys := make([]plainKey, 0, len(m.plain))
		for k := range m.plain {
			keys = append(keys, k)
		}
		clear(m.plain)
		m.mu.Unlock()
		for _, k := range keys {
			err := m.note("tell the managers of "+k.id+" in network "+k.network, m.tellOne(ctx, k))
			if err == nil || ctx.Err() != nil {
				continue
			}
			m.mu.Lock()
			m.plain[k] = true
			m.mu.Unlock()
			again = time.After(retell)
		}
	}
}

// tellOne says whether the container is in the network. Nobody may enter it
// anew while it is being taken out.
func (m *Manager) tellOne(ctx context.Context, k plainKey) error {
	defer m.ids.lock(k.id)()
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	m.mu.Lock()
	s := m.spaceLocked(k.id)
	var j *join
	if s != nil {
		j = s.join(k.network)
	}
	m.mu.Unlock()
	if j == nil {
		return m.opt.Source.Leave(ctx, k.id, k.network) // also when the network is not known, or not yet
	}
	def, ok := m.opt.Source.Network(k.network)
	if !j.entered || !ok {
		return nil
	}
	e := m.endpointOf(s.sb, j.at, def)
	if e.IPv4 = ""; j.addr4.IsValid() {
		e.IPv4 = j.addr4.Addr().String()
	}
	if e.IPv6 = ""; j.addr6.IsValid() {
		e.IPv6 = j.addr6.Addr().String()
	}
	_, err := m.opt.Source.Enter(ctx, e)
	return err
}
