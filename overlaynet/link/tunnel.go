package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// newVXLAN makes a VXLAN device that learns nothing and asks nobody: it knows
// what it is told. master 0: it is no port of a bridge; address nil: it has one
// of its name.
func newVXLAN(t overlaynet.Tunnel, mtu, master int, address []byte) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(t.Device)))
	if master != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	}
	if address == nil {
		address = macFor(t.Device)
	}
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, address))
	if mtu > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(t.VNI))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, t.Port))
	for _, off := range []int{nl.IFLA_VXLAN_LEARNING, nl.IFLA_VXLAN_L2MISS, nl.IFLA_VXLAN_L3MISS, nl.IFLA_VXLAN_PROXY, nl.IFLA_VXLAN_RSC} {
		data.AddRtAttr(off, flag(false))
	}
	if t.Local.Is4() {
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL, t.Local.AsSlice())
		data.AddRtAttr(nl.IFLA_VXLAN_UDP_CSUM, flag(false))
	} else { // without a checksum, as over IPv4: what is inside has its own
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL6, t.Local.AsSlice())
		data.AddRtAttr(nl.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, flag(true))
		data.AddRtAttr(nl.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, flag(true))
	}
	req.AddData(info)
	return req
}

// matches tells whether a device can stay: its identity cannot be changed.
func (v vxlan) matches(t overlaynet.Tunnel) bool {
	return v == vxlan{vni: t.VNI, port: t.Port, local: t.Local}
}

// ensureTunnel makes the device of a segment exist as a port of its bridge,
// and returns its index. One that cannot be put right is made anew.
func (l *Links) ensureTunnel(s overlaynet.Segment, bridge int) (int, error) {
	t := *s.Tunnel
	if !t.Local.IsValid() {
		return 0, fmt.Errorf("tunnel %s: this node has no address for traffic between containers", t.Device)
	}
	l.note(t.Device, true)
	st := l.host.link(t.Device)
	if st.index != 0 && !(st.kind == "vxlan" && st.vxlan.matches(t)) {
		if !l.owns(t.Device, st) {
			return 0, fmt.Errorf("interface %s exists and is not ours: remove it", t.Device)
		}
		if err := l.remove(t.Device); err != nil {
			return 0, err
		}
		st = state{}
	}
	if st.index == 0 {
		if err := l.makeTunnel(t, s.MTU, bridge, nil); err != nil {
			return 0, err
		}
		st = l.host.link(t.Device)
	}
	var steps []step
	if st.master != bridge {
		steps = append(steps, step{"join " + t.Device, joinBridge(st.index, bridge), nil})
	}
	if s.MTU > 0 && st.mtu != s.MTU {
		steps = append(steps, step{"set mtu of " + t.Device, setMTU(st.index, s.MTU), nil})
	}
	if port := tunnelPort(s.Separate); st.master != bridge || !st.up || !st.behaves(port) {
		steps = append(steps, step{"bring up " + t.Device, setPort(t.Device, port), nil},
			step{"settle " + t.Device, settle(t.Device), nil}, step{"settle bridge", settle(s.Bridge), nil})
	}
	return st.index, inUse(t, l.host.do(steps...))
}

// makeTunnel makes the device. One of ours with the same number may stand in the
// way, of a network that went while no daemon ran: it goes.
func (l *Links) makeTunnel(t overlaynet.Tunnel, mtu, master int, address []byte) error {
	steps := []step{{"create " + t.Device, newVXLAN(t, mtu, master, address), nil}, {"mark " + t.Device, setAlias(t.Device, l.alias()), nil},
		{"bare " + t.Device, noAddress(t.Device), []unix.Errno{unix.EAFNOSUPPORT}}}
	err := l.host.do(steps...)
	if !errors.Is(err, unix.EEXIST) {
		return inUse(t, err)
	}
	old, lerr := l.own()
	if lerr != nil {
		return lerr
	}
	for _, name := range old {
		if v := l.host.link(name).vxlan; v.vni == t.VNI && v.port == t.Port {
			l.note(name, false)
			if err := l.remove(name); err != nil {
				return err
			}
		}
	}
	l.note(t.Device, true)
	return inUse(t, l.host.do(steps...))
}

// inUse says more of the two errors that other programs cause.
func inUse(t overlaynet.Tunnel, err error) error {
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another program on this machine uses VXLAN number %d on UDP port %d: give the cluster another range or port", err, t.VNI, t.Port)
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another program on this machine uses UDP port %d: end it, or give the cluster another port for VXLAN", err, t.Port)
	}
	return err
}
