package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// mesh is what SetMesh keeps.
type mesh struct {
	mu    sync.Mutex
	index int       // guarded by mu: of the device; 0: not looked for yet
	have  meshState // guarded by mu: what the kernel was told
	sure  bool      // guarded by mu: have is what it has, as far as we have done it

	harmed bool // guarded by mu: somebody has taken something of it, and it has not been looked at since
}

// SetMesh makes the link between nodes as m says; nil removes it. Another
// mesh than the last costs with the difference. The same one again is taken as
// the wish to look: the kernel is read, and what somebody has changed put right.
func (l *Links) SetMesh(_ context.Context, m *overlaynet.Mesh) error {
	l.mesh.mu.Lock()
	defer l.mesh.mu.Unlock()
	if m == nil {
		return l.endMesh()
	}
	want, bad := l.meshWant(m)
	index, made, err := l.ensureMesh(m)
	if err != nil {
		l.mesh.sure = false
		return errors.Join(bad, fmt.Errorf("mesh: %w", err))
	}
	l.mesh.sure = l.mesh.sure && !made && index == l.mesh.index
	l.mesh.index = index
	if l.mesh.sure {
		if steps := l.mesh.have.towards(want, index); len(steps) > 0 && l.host.do(steps...) == nil {
			l.mesh.have = want
			return bad
		}
	}
	return errors.Join(bad, l.repairMesh(m, want))
}

// repairMesh makes what the kernel has what is wanted; l.mesh.mu is held.
func (l *Links) repairMesh(m *overlaynet.Mesh, want meshState) error {
	l.mesh.sure, l.mesh.harmed = false, false
	if err := l.meshSysctls(m, want); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	have, err := l.meshHave(l.mesh.index)
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	if err := l.host.do(have.towards(want, l.mesh.index)...); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	l.mesh.have, l.mesh.sure = want, true
	return nil
}

// ensureMesh makes the device exist and be up, and returns its index. One that
// cannot be put right is made anew.
func (l *Links) ensureMesh(m *overlaynet.Mesh) (index int, made bool, err error) {
	if !m.Local.IsValid() {
		return 0, false, errors.New("this node has no address for traffic between containers")
	}
	if len(m.Addrs) == 0 {
		return 0, false, errors.New("this node has no address on it")
	}
	address, err := net.ParseMAC(overlaynet.MAC(m.Addrs[0].Addr()))
	if err != nil {
		return 0, false, err
	}
	l.note(m.Device, true)
	st := l.host.link(m.Device)
	if st.index != 0 && !(st.kind == "vxlan" && st.vxlan.matches(m.Tunnel) && st.address == mac(address) && st.master == 0) {
		if !l.owns(m.Device, st) {
			return 0, false, fmt.Errorf("interface %s exists and is not ours: remove it", m.Device)
		}
		if err := l.remove(m.Device); err != nil {
			return 0, false, err
		}
		st = state{}
	}
	if st.index == 0 {
		if err := l.makeTunnel(m.Tunnel, m.MTU, 0, address); err != nil {
			return 0, false, err
		}
		if st = l.host.link(m.Device); st.index == 0 {
			return 0, false, fmt.Errorf("interface %s vanished", m.Device)
		}
		made = true
	}
	var steps []step
	if m.MTU > 0 && st.mtu != m.MTU {
		steps = append(steps, step{"set mtu of " + m.Device, setMTU(st.index, m.MTU), nil})
	}
	if !st.up {
		steps = append(steps, step{"bring up " + m.Device, upPlain(st.index), nil})
		made = true // routes and neighbours went when it was taken down
	}
	return st.index, made, inUse(m.Tunnel, l.host.do(steps...))
}

// meshSysctls: nothing that arrives has the source that this node would send
// to by the same way, so that must not be asked for; what this node's own
// processes send to 127.0.0.1 comes back here.
func (l *Links) meshSysctls(m *overlaynet.Mesh, want meshState) error {
	filter := "0"
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter"); err == nil && strings.TrimSpace(string(b)) != "0" {
		filter = "2" // the larger of both counts: any way back will do
	}
	keys := [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/" + m.Device + "/rp_filter", filter},
		{"net/ipv4/conf/" + m.Device + "/route_localnet", "1"},
		{"net/ipv4/conf/" + m.Device + "/accept_local", "1"}, // another node says that a packet is too large: by a gateway's address, which is ours too
		{"net/ipv6/conf/" + m.Device + "/accept_ra", "0"},
		{"net/ipv6/conf/" + m.Device + "/accept_dad", "0"},
	}
	if want.has6() {
		if err := keepUplinksLearning(); err != nil {
			return err
		}
		keys = append(keys, [2]string{"net/ipv6/conf/" + m.Device + "/disable_ipv6", "0"}, [2]string{"net/ipv6/conf/all/forwarding", "1"})
	} else {
		keys = append(keys, [2]string{"net/ipv6/conf/" + m.Device + "/disable_ipv6", "1"})
	}
	for _, kv := range keys {
		if err := l.ensureSysctl(kv[0], kv[1]); err != nil {
			return fmt.Errorf("sysctl %s: %w", kv[0], err)
		}
	}
	return nil
}

// endMesh removes the device, the rules and the routes, also those of an
// earlier process; l.mesh.mu is held.
func (l *Links) endMesh() error {
	l.mesh.have, l.mesh.sure, l.mesh.index = meshState{}, false, 0
	have, err := l.meshHave(0)
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	err = l.host.do(have.towards(meshState{}, 0)...)
	device := overlaynet.MeshDevice(l.mark)
	l.note(device, false)
	if l.host.index(device) != 0 {
		err = errors.Join(err, l.remove(device))
	}
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	return nil
}

// gone is what the kernel says when something is not there any more.
var gone = []unix.Errno{unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENODEV}
