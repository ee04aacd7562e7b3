package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// remotes is what leads to a segment's containers on other nodes.
type remotes struct {
	mu sync.Mutex

	device string // guarded by mu: of the tunnel; "": none
	unsure bool   // guarded by mu: an earlier process may have left a tunnel
	bridge int    // guarded by mu: index
	tunnel int    // guarded by mu: index

	known bool                    // guarded by mu: SetRemotes has said what is wanted
	sure  bool                    // guarded by mu: the kernel has what is wanted, as far as we have done it
	hosts map[netip.Addr]aim[mac] // guarded by mu: wanted neighbours
	ways  map[mac]aim[netip.Addr] // guarded by mu: wanted ways to other nodes
	round uint64                  // guarded by mu: of the last SetRemotes
}

// aim is where an entry leads, and the last round that wanted it.
type aim[T any] struct {
	to    T
	round uint64
}

// remotesOf returns what is kept of a segment, made when first asked for.
func (l *Links) remotesOf(s overlaynet.Segment) *remotes {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.remotes[s.Bridge]
	if r == nil {
		r = &remotes{hosts: map[netip.Addr]aim[mac]{}, ways: map[mac]aim[netip.Addr]{}}
		l.remotes[s.Bridge] = r
	}
	return r
}

// SetRemotes makes these, and no others, the segment's containers on other
// nodes. SetSegment must have made its tunnel. Only what has changed since the
// last call is told to the kernel; what else differs there SetSegment repairs.
func (l *Links) SetRemotes(_ context.Context, s overlaynet.Segment, list []overlaynet.Remote) error {
	r := l.remotesOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = true
	if s.Tunnel == nil {
		list = nil
	}
	steps, err := r.want(list)
	if r.tunnel == 0 {
		if r.sure = false; s.Tunnel != nil {
			err = errors.Join(err, fmt.Errorf("network %s: its tunnel %s does not exist yet", s.Name, s.Tunnel.Device))
		}
		return err
	}
	if !r.sure {
		return errors.Join(err, l.repairRemotes(r))
	}
	if failed := l.host.do(steps...); failed != nil {
		r.sure = false
		err = errors.Join(err, failed)
	}
	return err
}

// want notes what is wanted and returns the steps that lead there from what
// was; r.mu is held. Of two with one address the later one counts.
func (r *remotes) want(list []overlaynet.Remote) (steps []step, err error) {
	r.round++
	hosts, ways := 0, 0
	for _, x := range list {
		hw, bad := net.ParseMAC(x.MAC)
		if bad != nil || len(hw) != len(mac{}) || !x.Via.IsValid() {
			err = errors.Join(err, fmt.Errorf("container %v on node %v: hardware address %q", x.Addrs, x.Via, x.MAC))
			continue
		}
		to := mac(hw)
		old, had := r.ways[to]
		if old.round != r.round {
			ways++
		}
		if r.ways[to] = (aim[netip.Addr]{x.Via, r.round}); !had || old.to != x.Via {
			steps = append(steps, step{"add way to " + x.MAC, way(r.tunnel, to, x.Via), nil})
		}
		for _, a := range x.Addrs {
			old, had := r.hosts[a]
			if old.round != r.round {
				hosts++
			}
			if r.hosts[a] = (aim[mac]{to, r.round}); !had || old.to != to {
				steps = append(steps, step{"add neighbour " + a.String(), neighbour(r.bridge, a, to), nil})
			}
		}
	}
	if hosts != len(r.hosts) || ways != len(r.ways) {
		steps = append(steps, r.drop()...)
	}
	return steps, err
}

var entryGone = []unix.Errno{unix.ENOENT, unix.ESRCH}

// drop forgets what this round does not want; r.mu is held.
func (r *remotes) drop() (steps []step) {
	for a, x := range r.hosts {
		if x.round != r.round {
			delete(r.hosts, a)
			steps = append(steps, step{"remove neighbour " + a.String(), noNeighbour(r.bridge, a), entryGone})
		}
	}
	for m, x := range r.ways {
		if x.round != r.round {
			delete(r.ways, m)
			steps = append(steps, r.block(m, unix.NTF_MASTER)...)
			steps = append(steps, r.block(m, unix.NTF_SELF)...)
		}
	}
	return steps
}

func (r *remotes) block(m mac, flags byte) []step {
	return []step{{"remove way to " + net.HardwareAddr(m[:]).String(), noWay(r.tunnel, m, flags), entryGone}}
}

// repairRemotes reads what the kernel has and makes it what is wanted; r.mu is held.
func (l *Links) repairRemotes(r *remotes) error {
	hosts, err := l.host.neighboursOf(r.bridge)
	if err != nil {
		return err
	}
	ways, err := l.host.waysOf(r.tunnel)
	if err != nil {
		return err
	}
	var steps []step
	for a, x := range r.hosts {
		if have, ok := hosts[a]; !ok || have != x.to {
			steps = append(steps, step{"add neighbour " + a.String(), neighbour(r.bridge, a, x.to), nil})
		}
	}
	for m, x := range r.ways {
		if have := ways[m]; !have.leads(x.to) {
			if have.flags&unix.NTF_SELF != 0 && have.node != x.to { // several nodes, perhaps: replacing would add one more
				steps = append(steps, r.block(m, unix.NTF_SELF)...)
			}
			steps = append(steps, step{"add way to " + net.HardwareAddr(m[:]).String(), way(r.tunnel, m, x.to), nil})
		}
	}
	for a := range hosts {
		if _, ok := r.hosts[a]; !ok {
			steps = append(steps, step{"remove neighbour " + a.String(), noNeighbour(r.bridge, a), entryGone})
		}
	}
	for m, have := range ways {
		if _, ok := r.ways[m]; !ok {
			for _, f := range []byte{unix.NTF_MASTER, unix.NTF_SELF} {
				if have.flags&f != 0 {
					steps = append(steps, r.block(m, f)...)
				}
			}
		}
	}
	err = l.host.do(steps...)
	r.sure = err == nil
	return err
}

// setTunnel makes the segment's tunnel exist, or go, and what leads to its
// remote containers be as SetRemotes has said.
func (l *Links) setTunnel(s overlaynet.Segment, bridge int) error {
	l.mu.Lock()
	r := l.remotes[s.Bridge]
	l.mu.Unlock()
	if s.Tunnel == nil && r == nil && !s.Keep {
		return nil
	}
	r = l.remotesOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Keep {
		r.unsure = true
		return nil
	}
	if s.Tunnel == nil || r.device != "" && r.device != s.Tunnel.Device {
		if err := l.endTunnel(r, bridge); err != nil || s.Tunnel == nil {
			return err
		}
	}
	index, err := l.ensureTunnel(s, bridge)
	if err != nil {
		return err
	}
	r.device, r.unsure = s.Tunnel.Device, false
	if r.bridge != bridge || r.tunnel != index {
		r.bridge, r.tunnel, r.sure = bridge, index, false
	}
	l.observe(r, bridge, index)
	if !r.known {
		return nil // after a start: what an earlier process has set is kept until then
	}
	return l.repairRemotes(r)
}

// endTunnel removes the device and the neighbours behind it; r.mu is held.
func (l *Links) endTunnel(r *remotes, bridge int) error {
	if r.device == "" && r.unsure {
		old, err := l.own()
		if err != nil {
			return err
		}
		for _, name := range old {
			if l.isTunnelOf(name, map[int]bool{bridge: true}) {
				r.device = name
			}
		}
	}
	if r.unsure = false; r.device == "" {
		return nil
	}
	l.observe(r)
	l.note(r.device, false)
	if err := l.remove(r.device); err != nil {
		return err
	}
	hosts, err := l.host.neighboursOf(bridge)
	if err != nil {
		return err
	}
	var steps []step
	for a := range hosts {
		steps = append(steps, step{"remove neighbour " + a.String(), noNeighbour(bridge, a), entryGone})
	}
	if err := l.host.do(steps...); err != nil {
		return err
	}
	r.device, r.tunnel, r.sure = "", 0, false
	return nil
}

// endRemotes forgets what is kept of a segment and returns the names of its
// tunnel's device, if there may be one.
func (l *Links) endRemotes(s overlaynet.Segment) (names []string) {
	l.mu.Lock()
	r := l.remotes[s.Bridge]
	delete(l.remotes, s.Bridge)
	l.mu.Unlock()
	if s.Tunnel != nil {
		l.note(s.Tunnel.Device, false)
		names = append(names, s.Tunnel.Device)
	}
	if r == nil {
		return names
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.observe(r)
	if r.device != "" && !slices.Contains(names, r.device) {
		l.note(r.device, false)
		names = append(names, r.device)
	}
	r.device, r.tunnel = "", 0
	return names
}

// observe makes changes of these links' entries be looked at, instead of
// those of r until now.
func (l *Links) observe(r *remotes, indexes ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.observed {
		if x == r {
			delete(l.observed, i)
		}
	}
	for _, i := range indexes {
		l.observed[i] = r
	}
}
