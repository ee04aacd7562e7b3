package node

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/stack"
)

// Addr is where a node listens: as it gossips itself, as the state has it, or
// where it was when this node last heard of it.
func (e *epoch) Addr(node string) (string, error) {
	if g := e.gossiping(); g != nil {
		if m, ok := g.Member(node); ok && m.Meta.Addr != "" {
			return m.Meta.Addr, nil
		}
	}
	for _, p := range e.peers() {
		if p.ID == node && p.Addr != "" {
			return p.Addr, nil
		}
	}
	if m := e.memberNow(); m != nil {
		for _, c := range m.Managers {
			if c.ID == node {
				return c.Addr, nil
			}
		}
	}
	return "", fmt.Errorf("the address of node %s is not known", node)
}

// Others are further addresses of a node: what one node gossips must not keep
// the others from meeting where the state says that they are.
func (e *epoch) Others(node string) (out []string) {
	first, err := e.Addr(node)
	if err != nil {
		return nil
	}
	add := func(addr string) {
		if addr != "" && addr != first && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	for _, p := range e.peers() {
		if p.ID == node {
			add(p.Addr)
		}
	}
	if m := e.memberNow(); m != nil {
		for _, c := range m.Managers {
			if c.ID == node {
				add(c.Addr)
			}
		}
	}
	return out
}

// peers are all other nodes, as far as this one knows.
func (e *epoch) peers() []cluster.Peer {
	if m := e.managing(); m != nil && m.Known() {
		return m.Peers()
	}
	c := e.session()
	if c == nil {
		return nil
	}
	var out []cluster.Peer
	for _, n := range c.View().Nodes {
		if n.ID != e.node {
			out = append(out, cluster.Peer{ID: n.ID, Hostname: n.Hostname, Addr: n.Addr, Gossip: n.Gossip, Role: n.Role, Down: n.Down})
		}
	}
	return out
}

// heard are the peers for those who ask them something on a person's behalf.
// While nobody leads, or this node is cut off from who does, nobody tells it who
// is down: then it goes by the gossip that reaches it, so that on the smaller
// side of a partition no command waits for the nodes of the other.
func (e *epoch) heard() []cluster.Peer {
	peers, g := e.peers(), e.gossiping()
	if g == nil || e.leader() != "" {
		return peers
	}
	return silenced(peers, func(node string) bool {
		m, ok := g.Member(node)
		return ok && !m.Alive
	})
}

// silenced takes peers for down that are dead.
func silenced(peers []cluster.Peer, dead func(node string) bool) []cluster.Peer {
	for i := range peers {
		peers[i].Down = peers[i].Down || dead(peers[i].ID)
	}
	return peers
}

// managers are the IDs of all managers that this node has heard of, itself among them.
func (e *epoch) managers() []string {
	ids := map[string]bool{}
	for _, p := range e.peers() {
		if p.Role == stack.RoleManager {
			ids[p.ID] = true
		}
	}
	if m := e.memberNow(); m != nil && len(ids) == 0 {
		for _, c := range m.Managers {
			ids[c.ID] = true
		}
	}
	if e.managing() != nil {
		ids[e.node] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// advertised is the address that others are told. An address that a person gave
// holds for as long as this machine has it.
func (e *epoch) advertised(m *member) string {
	if m.Advertise != "" {
		if at, err := resolve(m.Advertise); err == nil && (!m.Own || isOwn(hostOf(at))) {
			return at
		}
	}
	if at, err := resolve(m.Listen); err == nil && !anywhere(at) && isOwn(hostOf(at)) {
		return at
	}
	for _, c := range m.Managers {
		if c.ID == e.node {
			continue
		}
		if host, err := towards(context.Background(), c.Addr); err == nil { // an IP address: no name is looked up
			return withPort(net.JoinHostPort(host, "0"), m.Listen)
		}
	}
	if host, err := onlyAddr(e.n.cfg.Ours); err == nil {
		return withPort(net.JoinHostPort(host, "0"), m.Listen)
	}
	return m.Advertise
}

func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	return host
}
