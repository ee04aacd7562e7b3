package link

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// via is a route of a sandbox through a gateway of one of its networks.
type via struct {
	to netip.Prefix
	gw netip.Addr
}

// virtuals are the routes to a segment's virtual addresses, by way of the
// gateway in the subnet of the sandbox's address, also in internal networks.
func virtuals(p overlaynet.Plug) (out []via) {
	for _, v := range p.Segment.Virtual {
		if gw := gatewayOf(p, v.Addr().Is4()); gw.IsValid() {
			out = append(out, via{v, gw})
		}
	}
	return out
}

func gatewayOf(p overlaynet.Plug, v4 bool) netip.Addr {
	for _, g := range p.Segment.Gateways {
		for _, a := range p.Addrs {
			if g.Addr().Is4() == v4 && g.Masked() == a.Masked() {
				return g.Addr()
			}
		}
	}
	return netip.Addr{}
}

// routeVia does not replace: what a container has set itself stays.
func routeVia(index int, r via) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	m := nl.NewRtMsg()
	m.Family, m.Dst_len = uint8(family(r.gw)), uint8(r.to.Bits())
	req.AddData(m)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, r.to.Masked().Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, r.gw.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	return req
}

func (sp *space) addVirtuals(p overlaynet.Plug, index int) (steps []step) {
	for _, r := range virtuals(p) {
		steps = append(steps, step{"add route " + r.to.String(), routeVia(index, r), []unix.Errno{unix.EEXIST}})
	}
	return steps
}

// furnished notes that a plug has the routes that it should have now.
func (l *Links) furnished(p overlaynet.Plug) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.routes[p.Host] = fmt.Sprint(virtuals(p))
}

// lags tells whether the inside of a plug has to be looked at: its network has
// got other virtual addresses or another MTU, or it is from before our start.
// The host's end changes its MTU last, so it tells for both.
func (l *Links) lags(p overlaynet.Plug, host state) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return p.Segment.MTU > 0 && host.mtu != p.Segment.MTU || l.routes[p.Host] != fmt.Sprint(virtuals(p))
}

// furnish gives plugs of a living sandbox the routes and the MTU of their
// networks. An interface that the container has removed or renamed is its own business.
func (l *Links) furnish(path string, plugs []overlaynet.Plug) error {
	if len(plugs) == 0 {
		return nil
	}
	sp, err := enter(path)
	if err != nil {
		return err
	}
	defer sp.close()
	for _, p := range plugs {
		var steps []step
		if index := sp.sock.index(p.Interface); index != 0 {
			if p.Segment.MTU > 0 {
				steps = append(steps, step{"set mtu of " + p.Interface, setMTU(index, p.Segment.MTU), nil})
			}
			steps = append(steps, sp.addVirtuals(p, index)...)
		}
		if err := sp.sock.do(steps...); err != nil {
			return fmt.Errorf("network %s: in %s: %w", p.Segment.Name, filepath.Base(path), err)
		}
		if st := l.host.link(p.Host); p.Segment.MTU > 0 && st.index != 0 && st.mtu != p.Segment.MTU {
			if err := l.host.do(step{"set mtu of " + p.Host, setMTU(st.index, p.Segment.MTU), nil}); err != nil {
				return err
			}
		}
		l.furnished(p)
	}
	return nil
}
