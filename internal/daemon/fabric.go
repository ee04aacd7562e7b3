package daemon

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/dhow-project/dhow/cluster/dispatch"
	member "github.com/dhow-project/dhow/cluster/node"
	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// source fits overlaynet.Source.
type source struct{ *member.Node }

// Fabric is how this machine reaches the containers of others.
func (s source) Fabric() overlaynet.Fabric {
	view, member := s.View()
	f := fabric(s.Self(), view, member)
	if mesh, ok := s.Network(stack.IngressNetwork); ok && f.Known {
		f.Mesh = &mesh
	}
	return f
}

func (s source) Enter(ctx context.Context, e stack.Endpoint) (stack.Endpoint, error) {
	return s.EnterNetwork(ctx, e)
}

func (s source) Leave(ctx context.Context, id, network string) error {
	return s.LeaveNetwork(ctx, id, network)
}

// vxlanPort is the one that is registered for VXLAN, as the field's tools have it.
const vxlanPort = 4789

// What VXLAN adds to a packet, bytes: Ethernet, VXLAN, UDP, and IPv4 or IPv6.
const (
	overhead4 = 14 + 8 + 8 + 20
	overhead6 = 14 + 8 + 8 + 40
)

// fabric is what a view says of the links between nodes. A member that was told
// nothing yet knows of none.
func fabric(self string, v dispatch.View, member bool) overlaynet.Fabric {
	if !member {
		return overlaynet.Fabric{Known: true, Node: self}
	}
	if len(v.Nodes) == 0 {
		return overlaynet.Fabric{}
	}
	f := overlaynet.Fabric{Known: true, Node: self, Port: vxlanPort, Peers: make(map[string]overlaynet.Peer, len(v.Nodes))}
	if v.Port > 0 && v.Port <= 0xffff {
		f.Port = uint16(v.Port)
	}
	for _, n := range v.Nodes {
		addr := dataAddr(n)
		if !addr.IsValid() {
			continue
		}
		control, _ := netip.ParseAddrPort(n.Addr) // invalid: it is a name, or nowhere
		p := overlaynet.Peer{Addr: addr, Control: control, Down: n.Down}
		if n.Number > 0 && n.Number <= 0xffff {
			p.Number = uint16(n.Number)
		}
		for _, s := range n.Addrs {
			if a, err := netip.ParseAddr(s); err == nil {
				p.Addrs = append(p.Addrs, a.Unmap())
			}
		}
		f.Peers[n.ID] = p
		if n.MTU > 0 {
			fits := max(n.MTU-overhead(addr), 1) // 0 would mean that it is not known
			f.MTU = min(cmp.Or(f.MTU, fits), fits)
		}
	}
	return f
}

func overhead(underlay netip.Addr) int {
	if underlay.Is6() {
		return overhead6
	}
	return overhead4
}

// dataAddr is where a node takes containers' traffic: as it says itself, else
// where its cluster port is.
func dataAddr(n dispatch.Node) netip.Addr {
	host := n.DataAddr
	if host == "" {
		host, _, _ = net.SplitHostPort(n.Addr) // "": it is nowhere
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// watchAgain is between two tries to hear of changes of the host's links; the
// node looks by itself once a minute.
const watchAgain = 10 * time.Second

// tellFacts has the cluster told when this host's links, addresses or routes change.
func (n *node) tellFacts(ctx context.Context) error {
	for {
		err := n.links.WatchHost(ctx, n.cluster.Moved)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.cfg.Log.Warn("changes of this host's addresses are noticed once a minute only", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchAgain):
		}
	}
}
