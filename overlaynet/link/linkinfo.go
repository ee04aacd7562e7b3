package link

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkInfo is what a link says of its kind, as far as we look at it.
type linkInfo struct {
	kind             string // "bridge", "veth", "vxlan"
	filter4, filter6 byte   // of a bridge: 1 when the packet filter sees its frames
	vxlan            vxlan
	port             map[uint16]byte // of a bridge's port: IFLA_BRPORT_* of one byte each
}

// vxlan is what cannot be changed in a VXLAN device.
type vxlan struct {
	vni      uint32
	port     uint16
	local    netip.Addr
	learning bool
}

func parseInfo(b []byte) (out linkInfo) {
	attrs := nested(b)
	for _, a := range attrs {
		if a.kind == nl.IFLA_INFO_KIND {
			out.kind = strings.TrimRight(string(a.value), "\x00")
		}
	}
	for _, a := range attrs {
		switch {
		case a.kind == nl.IFLA_INFO_DATA && out.kind == "bridge":
			out.parseBridge(a.value)
		case a.kind == nl.IFLA_INFO_DATA && out.kind == "vxlan":
			out.vxlan = parseVXLAN(a.value)
		case a.kind == nl.IFLA_INFO_SLAVE_DATA:
			out.port = map[uint16]byte{}
			for _, x := range nested(a.value) {
				if len(x.value) == 1 {
					out.port[x.kind] = x.value[0]
				}
			}
		}
	}
	return out
}

func (l *linkInfo) parseBridge(b []byte) {
	for _, a := range nested(b) {
		switch {
		case len(a.value) != 1:
		case a.kind == nl.IFLA_BR_NF_CALL_IPTABLES:
			l.filter4 = a.value[0]
		case a.kind == nl.IFLA_BR_NF_CALL_IP6TABLES:
			l.filter6 = a.value[0]
		}
	}
}

func parseVXLAN(b []byte) (v vxlan) {
	for _, a := range nested(b) {
		switch {
		case a.kind == nl.IFLA_VXLAN_ID && len(a.value) == 4:
			v.vni = nl.NativeEndian().Uint32(a.value)
		case a.kind == nl.IFLA_VXLAN_PORT && len(a.value) == 2:
			v.port = binary.BigEndian.Uint16(a.value)
		case a.kind == nl.IFLA_VXLAN_LOCAL || a.kind == nl.IFLA_VXLAN_LOCAL6:
			if ip, ok := netip.AddrFromSlice(a.value); ok && !ip.IsUnspecified() {
				v.local = ip
			}
		case a.kind == nl.IFLA_VXLAN_LEARNING && len(a.value) == 1:
			v.learning = a.value[0] == 1
		}
	}
	return v
}

// attribute is one of a list of attributes.
type attribute struct {
	kind  uint16
	value []byte
}

// nested takes a list of attributes apart; what is cut short is left out.
func nested(b []byte) (out []attribute) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(nl.NativeEndian().Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			break
		}
		out = append(out, attribute{nl.NativeEndian().Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size]})
		b = b[min(len(b), (size+3)&^3):]
	}
	return out
}

// portFlag is one trait of a bridge's port.
type portFlag struct {
	attr uint16 // IFLA_BRPORT_*
	on   bool
}

// plugPort is a sandbox's end: isolated keeps it from other isolated ports;
// hairpin lets frames leave through the port that they came in by, which a
// container needs that reaches itself through an address translated on the way.
func plugPort(isolated, hairpin bool) []portFlag {
	return []portFlag{{unix.IFLA_BRPORT_ISOLATED, isolated}, {unix.IFLA_BRPORT_MODE, hairpin}}
}

// tunnelPort is the way to other nodes: what is known goes there, and nothing
// else, and questions for addresses are answered on this side of it.
func tunnelPort(isolated bool) []portFlag {
	return []portFlag{
		{unix.IFLA_BRPORT_LEARNING, false}, {unix.IFLA_BRPORT_UNICAST_FLOOD, false}, {unix.IFLA_BRPORT_MCAST_FLOOD, false},
		{unix.IFLA_BRPORT_BCAST_FLOOD, false}, {unix.IFLA_BRPORT_NEIGH_SUPPRESS, true}, {unix.IFLA_BRPORT_ISOLATED, isolated},
	}
}

// behaves tells whether the port is as the flags say. What the kernel does not
// know cannot differ.
func (l linkInfo) behaves(flags []portFlag) bool {
	for _, f := range flags {
		if is, ok := l.port[f.attr]; ok && (is == 1) != f.on {
			return false
		}
	}
	return true
}
