package link

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// exists is what the kernel says when something is there already.
var exists = []unix.Errno{unix.EEXIST}

func u32(v uint32) []byte { return nl.Uint32Attr(v) }

// upPlain brings a link up that has no IPv6 address of the kernel's making:
// nothing is asked of neighbours, who are all known.
func upPlain(index int) *nl.NetlinkRequest {
	req := upLink(index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{addrGenNone})
	req.AddData(spec)
	return req
}

// meshWay leads what is for a hardware address to a node. The device is no
// port of a bridge.
func meshWay(index int, to mac, node netip.Addr) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	req.AddData(&ndMsg{family: unix.AF_BRIDGE, index: index, state: unix.NUD_PERMANENT | unix.NUD_NOARP, flags: unix.NTF_SELF})
	req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, to[:]))
	req.AddData(nl.NewRtAttr(unix.NDA_DST, node.AsSlice()))
	return req
}

// meshRouteRequest adds, or with del removes, a route through a peer, who
// need not be in a subnet of the link.
func meshRouteRequest(r meshRoute, hop meshHop, del bool) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	m := nl.NewRtMsg()
	if del {
		req = nl.NewNetlinkRequest(unix.RTM_DELROUTE, 0)
		m = nl.NewRtDelMsg()
	}
	m.Family, m.Dst_len, m.Table, m.Protocol = uint8(family(r.dst.Addr())), uint8(r.dst.Bits()), unix.RT_TABLE_UNSPEC, meshProtocol
	if !del {
		m.Flags = unix.RTNH_F_ONLINK
	}
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, u32(r.table)))
	if r.dst.Bits() > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, r.dst.Addr().AsSlice()))
	}
	if !del {
		req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, hop.via.AsSlice()))
		req.AddData(nl.NewRtAttr(unix.RTA_OIF, u32(uint32(hop.index))))
	}
	return req
}

func (r meshRule) family() int {
	if r.v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (r meshRule) String() string {
	return fmt.Sprintf("rule %d fwmark %#x/%#x", r.priority, r.mark, r.mask)
}

func (r meshRule) action() uint8 {
	switch {
	case r.table != 0:
		return nl.FR_ACT_TO_TBL
	case r.target != 0:
		return nl.FR_ACT_GOTO
	}
	return nl.FR_ACT_NOP
}

// ruleRequest adds or removes a policy rule.
func ruleRequest(r meshRule, del bool) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	if del {
		req = nl.NewNetlinkRequest(unix.RTM_DELRULE, 0)
	}
	m := nl.NewRtMsg() // as long as struct fib_rule_hdr, and alike
	m.RtMsg = unix.RtMsg{Family: uint8(r.family()), Type: r.action()}
	req.AddData(m)
	req.AddData(nl.NewRtAttr(nl.FRA_PRIORITY, u32(r.priority)))
	req.AddData(nl.NewRtAttr(nl.FRA_PROTOCOL, []byte{meshProtocol}))
	if r.mask != 0 {
		req.AddData(nl.NewRtAttr(nl.FRA_FWMARK, u32(r.mark)))
		req.AddData(nl.NewRtAttr(nl.FRA_FWMASK, u32(r.mask)))
	}
	if r.table != 0 {
		req.AddData(nl.NewRtAttr(nl.FRA_TABLE, u32(r.table)))
	}
	if r.target != 0 {
		req.AddData(nl.NewRtAttr(nl.FRA_GOTO, u32(r.target)))
	}
	return req
}
