package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/tests/netlab"
)

// meshProtocol is the protocol number of the mesh's rules and routes (docs/networking.md).
const meshProtocol = 68

// links are those of one namespace, by index, and to which network a bridge belongs.
type links struct {
	w       *world
	all     map[int]netlink.Link
	network map[int]string // of bridges
}

// kernel are the facts that a host's kernel has.
func (w *world) kernel(h *netlab.Host) (facts, error) {
	f := facts{}
	err := netlab.Inside("/run/netns/"+h.NetNS, func() error {
		l, err := w.links()
		if err != nil {
			return err
		}
		for _, read := range []func(facts) error{l.devices, l.neighbours, l.ways, l.routes} {
			if err := read(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := w.filter(f, h); err != nil {
		return nil, err
	}
	return f, w.containers(f, h)
}

func (w *world) links() (*links, error) {
	list, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	l := &links{w, map[int]netlink.Link{}, map[int]string{}}
	for _, x := range list {
		l.all[x.Attrs().Index] = x
	}
	return l, nil
}

// devices are bridges, tunnels and plugs.
func (l *links) devices(f facts) error {
	for i, x := range l.all {
		if x.Type() != "bridge" {
			continue
		}
		addrs, err := netlink.AddrList(x, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			for name, v := range l.w.networks {
				for _, sn := range v.Network.Subnets {
					if sn.Gateway == a.IP.String() {
						l.network[i] = name
					}
				}
			}
		}
		name := l.network[i]
		if name == "" {
			f.add("bridge %s of no network", x.Attrs().Name)
			continue
		}
		f.add("net %s: bridge of %d bytes", name, x.Attrs().MTU)
		for _, a := range addrs {
			if !a.IP.IsLinkLocalUnicast() {
				f.add("net %s: bridge with %s", name, a.IPNet)
			}
		}
	}
	plugs := map[string]int{}
	for _, x := range l.all {
		at := l.network[x.Attrs().MasterIndex]
		switch {
		case x.Type() == "vxlan":
			if err := l.vxlan(f, x.(*netlink.Vxlan), at); err != nil {
				return err
			}
		case x.Type() == "veth" && x.Attrs().Name != "eth0" && at == "":
			f.add("plug %s in no network", x.Attrs().Name)
		case x.Type() == "veth" && at != "":
			plugs[at]++
		}
	}
	for name, n := range plugs {
		f.add("net %s: %d plugs", name, n)
	}
	return nil
}

func (l *links) vxlan(f facts, x *netlink.Vxlan, network string) error {
	switch {
	case x.Attrs().Flags&net.FlagUp == 0:
		f.add("tunnel %s is not up", x.Name)
	case network != "":
		f.add("net %s: tunnel %d from %s", network, x.VxlanId, x.SrcAddr)
	case x.VxlanId == l.w.mesh.VNI:
		f.add("mesh: %s from %s", x.HardwareAddr, x.SrcAddr)
		addrs, err := netlink.AddrList(x, netlink.FAMILY_ALL)
		for _, a := range addrs {
			f.add("mesh: has %s", a.IP)
		}
		return err
	default:
		f.add("tunnel %s of no network", x.Name)
	}
	return nil
}

// place is what a link belongs to: "net shop_front", "mesh"; "": the host itself.
func (l *links) place(index int) string {
	x := l.all[index]
	if x == nil {
		return ""
	}
	if name := l.network[index]; name != "" {
		return "net " + name
	}
	if name := l.network[x.Attrs().MasterIndex]; name != "" {
		return "net " + name
	}
	if v, ok := x.(*netlink.Vxlan); ok && v.VxlanId == l.w.mesh.VNI {
		return "mesh"
	}
	return ""
}

// neighbours are what leads to hardware addresses. Those that the kernel has
// learned may be there, but must not be wrong.
func (l *links) neighbours(f facts) error {
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	for _, n := range list {
		at := l.place(n.LinkIndex)
		switch {
		case at == "" || n.IP.IsMulticast() || n.IP.IsLinkLocalUnicast():
		case n.State&netlink.NUD_PERMANENT != 0:
			f.add("%s: neighbour %s is %s", at, n.IP, n.HardwareAddr)
		case len(n.HardwareAddr) > 0 && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE|netlink.NUD_NOARP) == 0:
			if name, ok := strings.CutPrefix(at, "net "); ok {
				l.w.stale(f, "net "+name, name, n)
			}
		}
	}
	return err
}

// stale tells of a learned neighbour that is now another container.
func (w *world) stale(f facts, who, network string, n netlink.Neigh) {
	for _, e := range w.networks[network].Endpoints {
		if e.Up && (e.IPv4 == n.IP.String() || e.IPv6 == n.IP.String()) && macOf(e) != n.HardwareAddr.String() {
			f.add("%s: stale neighbour %s is %s", who, n.IP, n.HardwareAddr)
		}
	}
}

// ways are the forwarding entries of tunnels.
func (l *links) ways(f facts) error {
	list, err := netlink.NeighList(0, unix.AF_BRIDGE)
	for _, n := range list {
		x := l.all[n.LinkIndex]
		if x == nil || x.Type() != "vxlan" || n.HardwareAddr[0]&1 != 0 || n.HardwareAddr.String() == x.Attrs().HardwareAddr.String() {
			continue
		}
		if at := l.place(n.LinkIndex); n.IP != nil {
			f.add("%s: way to %s by %s", at, n.HardwareAddr, n.IP)
		} else {
			f.add("%s: frames to %s into the tunnel", at, n.HardwareAddr)
		}
	}
	return err
}

// routes are those of the mesh, and its rules.
func (l *links) routes(f facts) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: meshProtocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return err
		}
		for _, r := range list {
			switch number := r.Table & 0xfff; {
			case number != 0:
				f.add("mesh: back to %d through %s", number, r.Gw)
			case r.Dst == nil:
				f.add("mesh: route to everything through %s", r.Gw)
			default:
				f.add("mesh: route to %s through %s", r.Dst.IP, r.Gw)
			}
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if r.Protocol == meshProtocol && r.Mark != 0 {
				f.add("mesh: IPv%d rule of mark 0x%x", map[int]int{netlink.FAMILY_V4: 4, netlink.FAMILY_V6: 6}[family], r.Mark)
			}
		}
	}
	return nil
}

// containers are the namespaces on a host, seen from within.
func (w *world) containers(f facts, h *netlab.Host) error {
	files, err := filepath.Glob(filepath.Join(h.RunDir, "netns", "*"))
	for _, file := range files {
		id := filepath.Base(file)
		f.add("container %s: namespace", short(id))
		if err := netlab.Inside(file, func() error { return w.inside(f, id) }); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("container %s: %w", short(id), err)
		}
	}
	return err
}

func (w *world) inside(f facts, id string) error {
	who := "container " + short(id)
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if !a.IP.IsLoopback() && !a.IP.IsLinkLocalUnicast() {
			f.add("%s: %s", who, a.IPNet)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			return err
		}
		for _, r := range routes {
			switch {
			case r.Gw == nil:
			case r.Dst == nil || r.Dst.IP.IsUnspecified():
				if w.task(id) { // of others it is not known which network is to have it
					f.add("%s: everything through %s", who, r.Gw)
				}
			default:
				f.add("%s: %s through %s", who, r.Dst, r.Gw)
			}
		}
	}
	known, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	for _, n := range known {
		if len(n.HardwareAddr) == 0 || n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE|netlink.NUD_NOARP) != 0 {
			continue
		}
		for name, v := range w.networks {
			if a, ok := netip.AddrFromSlice(n.IP); ok && hasAddr(v.Network.Subnets, a.Unmap()) {
				w.stale(f, who, name, n)
			}
		}
	}
	return err
}

// task tells whether a container is that of a task.
func (w *world) task(container string) bool {
	for _, v := range w.networks {
		for _, e := range v.Endpoints {
			if e.Container == container && e.Service != "" {
				return true
			}
		}
	}
	return false
}

// meshNumber is the number that a host's kernel has in its address on the mesh.
func meshNumber(h *netlab.Host) (number int, err error) {
	err = netlab.Inside("/run/netns/"+h.NetNS, func() error {
		list, err := netlink.LinkList()
		for _, x := range list {
			if x.Type() != "vxlan" || !strings.HasSuffix(x.Attrs().Name, "mesh") {
				continue
			}
			hw := x.Attrs().HardwareAddr // 02:42 and the address; the first of the subnet ends in zeros
			number = int(hw[4]&0x3f)<<8 | int(hw[5])
		}
		return err
	})
	return number, err
}
