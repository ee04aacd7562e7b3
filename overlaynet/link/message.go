package link

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

const (
	vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
	addrGenNone  = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
)

func nul(s string) []byte { return nl.ZeroTerminated(s) }

// flagsUp is an ifinfomsg that brings a link up.
func flagsUp() *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	return m
}

// newVeth makes both ends at once: the host's in the bridge, the other in the
// namespace nsfd with its name and MAC.
func newVeth(p overlaynet.Plug, master, nsfd int) (*nl.NetlinkRequest, error) {
	mac, err := net.ParseMAC(p.MAC)
	if err != nil {
		return nil, err
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(p.Host)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	mtu := p.Segment.MTU
	if mtu > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(vethInfoPeer, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC)) // it cannot come up before the pair is tied
	peer.AddRtAttr(unix.IFLA_IFNAME, nul(p.Interface))
	peer.AddRtAttr(unix.IFLA_ADDRESS, mac)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(nsfd)))
	if mtu > 0 {
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu)))
	}
	req.AddData(info)
	return req, nil
}

// setPort brings a port of a bridge up and makes it behave as the flags say.
// It gets no IPv6 address of its own (which would cost a duplicate address
// detection on every port).
func setPort(name string, flags []portFlag) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	req.AddData(flagsUp())
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	req.AddData(noAddrGen())
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	for _, f := range flags {
		data.AddRtAttr(int(f.attr), flag(f.on))
	}
	req.AddData(info)
	return req
}

func flag(on bool) []byte {
	if on {
		return []byte{1}
	}
	return []byte{0}
}

func setMTU(index, mtu int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	return req
}

// joinBridge makes the link a port of the bridge, up; nothing happens when it is.
func joinBridge(index, master int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	m := flagsUp()
	m.Index = int32(index)
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	return req
}

// newBridge makes a bridge that is up, with a MAC of its own: one borrowed
// from its ports would change with them.
func newBridge(s overlaynet.Segment) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(s.Bridge)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, bridgeMAC(s)))
	if s.MTU > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(s.MTU))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_FORWARD_DELAY, nl.Uint32Attr(0))
	data.AddRtAttr(nl.IFLA_BR_VLAN_DEFAULT_PVID, nl.Uint16Attr(0)) // or each entry would be kept twice
	filtered(data, s.Has6())
	req.AddData(info)
	return req
}

// filterBridge shows the bridge's frames to the packet filter.
func filterBridge(index int, v6 bool) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Index = int32(index)
	req.AddData(m)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	filtered(info.AddRtAttr(nl.IFLA_INFO_DATA, nil), v6)
	req.AddData(info)
	return req
}

func filtered(data *nl.RtAttr, v6 bool) {
	data.AddRtAttr(nl.IFLA_BR_NF_CALL_IPTABLES, flag(true))
	data.AddRtAttr(nl.IFLA_BR_NF_CALL_IP6TABLES, flag(v6))
}

func bridgeMAC(s overlaynet.Segment) []byte { return macFor(s.Bridge) }

// macFor is a hardware address for a link that nobody gave one, the same each time.
func macFor(name string) []byte {
	mac := []byte{0x02, 0x42, 0, 0, 0, 1}
	for i := 0; i < len(name); i++ { // FNV-like: only stability and spread matter
		mac[2+i%4] = mac[2+i%4]*31 + name[i]
	}
	return mac
}

// noAddress keeps a link from giving itself an IPv6 address when it comes up.
func noAddress(name string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	req.AddData(noAddrGen())
	return req
}

func noAddrGen() *nl.RtAttr {
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{addrGenNone})
	return spec
}

// setAlias gives a link a note that "ip link" shows.
func setAlias(name, alias string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, nl.NonZeroTerminated(alias)))
	return req
}

func delLink(name string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	return req
}

// settle asks for a link, which makes the kernel finish a change of carrier
// (since 6.8). Otherwise a work queue does later, and until then frames to the
// new port are lost: the container's first ARP would wait a second.
func settle(name string) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nul(name)))
	return req
}

func upLink(index int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	m := flagsUp()
	m.Index = int32(index)
	req.AddData(m)
	return req
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// address adds p to (or with del takes it from) the link. IPv6 addresses skip
// duplicate detection: they are handed out once.
func address(index int, p netip.Prefix, del bool) *nl.NetlinkRequest {
	kind, flags := unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if del {
		kind, flags = unix.RTM_DELADDR, 0
	}
	req := nl.NewNetlinkRequest(kind, flags)
	m := nl.NewIfAddrmsg(family(p.Addr()))
	m.Index, m.Prefixlen = uint32(index), uint8(p.Bits())
	if p.Addr().Is6() {
		m.IfAddrmsg.Flags = unix.IFA_F_NODAD
	}
	if p.Addr().IsLinkLocalUnicast() {
		m.Scope = unix.RT_SCOPE_LINK
	}
	req.AddData(m)
	b := p.Addr().AsSlice()
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, b))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, b))
	if p.Addr().Is4() && p.Bits() < 31 {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p)))
	}
	return req
}

func broadcast(p netip.Prefix) []byte {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b[:]
}

// defaultRoute goes through gw on the link; index 0 with del removes any.
func defaultRoute(index int, gw netip.Addr, fam int, del bool) *nl.NetlinkRequest {
	if del {
		req := nl.NewNetlinkRequest(unix.RTM_DELROUTE, 0)
		m := nl.NewRtDelMsg()
		m.Family, m.Table = uint8(fam), unix.RT_TABLE_MAIN
		req.AddData(m)
		return req
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m := nl.NewRtMsg()
	m.Family = uint8(fam)
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gw.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	return req
}
