package overlaynet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"sort"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// space is one sandbox as the Manager keeps it; guarded by Manager.mu, but
// changed only by the holder of its key lock.
type space struct {
	sb      Sandbox
	ready   bool
	up      bool // its namespace is there and its end has not begun
	leaving bool // its end has begun: what is left of it holds its addresses, and nothing else
	netns   string
	joins   []*join // in order of their interfaces
	claims  []claim
	inlets  map[Frontend]bool // its own in Manager.inlets
}

// join is a sandbox's place in one network.
type join struct {
	at    stack.Attachment
	net   *network
	plug  Plug
	addr4 netip.Prefix // invalid: none
	addr6 netip.Prefix

	entered bool // it asked for its addresses: the managers are to be told when it leaves
}

// join in a network, by its real name or ID; nil: there is none.
func (s *space) join(nameOrID string) *join {
	for _, j := range s.joins {
		if j.net.def.Name == nameOrID || j.net.key() == nameOrID {
			return j
		}
	}
	return nil
}

// addrs are the endpoint's own addresses.
func (j *join) addrs() (out []netip.Addr) {
	for _, p := range []netip.Prefix{j.addr4, j.addr6} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// gateway is the way out of the family from the join's subnet.
func (j *join) gateway(v6 bool) netip.Addr {
	if v6 {
		return j.net.gatewayOf(j.addr6)
	}
	return j.net.gatewayOf(j.addr4)
}

func (m *Manager) plugFor(s *space, j *join, have *runtime.Endpoint) (Plug, error) {
	p := Plug{Segment: j.net.seg, Host: hostName(m.mark, s.sb.ID, j.net.key()), Interface: j.at.InterfaceName, MAC: j.at.MacAddress}
	for _, a := range []netip.Prefix{j.addr4, j.addr6} {
		if a.IsValid() {
			p.Addrs = append(p.Addrs, a)
		}
	}
	if p.MAC == "" {
		p.MAC = MAC(p.Addrs[0].Addr())
	}
	for _, ll := range j.at.LinkLocalIPs {
		a, err := netip.ParseAddr(ll)
		if err != nil || !a.IsLinkLocalUnicast() {
			return p, fmt.Errorf("%q is not a link-local address: %w", ll, runtime.ErrInvalid)
		}
		p.Addrs = append(p.Addrs, netip.PrefixFrom(a, map[bool]int{true: 16, false: 64}[a.Is4()]))
	}
	sysctls := ""
	for _, k := range sortedKeys(j.at.DriverOpts) {
		switch k {
		case optIfname:
			p.Interface = j.at.DriverOpts[k]
		case optSysctls:
			sysctls = j.at.DriverOpts[k]
		default:
			return p, fmt.Errorf("driver option %s of the attachment is not honoured; these are: %s, %s: %w", k, optIfname, optSysctls, runtime.ErrInvalid)
		}
	}
	if have != nil && have.Interface != "" {
		p.Interface = have.Interface
	}
	if p.Interface == "" {
		p.Interface = freeName(s, j.net.prefix)
	}
	if err := checkInterfaceName(p.Interface); err != nil {
		return p, fmt.Errorf("%w: %w", err, runtime.ErrInvalid)
	}
	for kv := range strings.SplitSeq(sysctls, ",") {
		if k, v, ok := strings.Cut(strings.TrimSpace(kv), "="); ok {
			if p.Sysctls == nil {
				p.Sysctls = map[string]string{}
			}
			p.Sysctls[strings.ReplaceAll(k, "IFNAME", p.Interface)] = v
		} else if kv != "" {
			return p, fmt.Errorf("%s: %q is not KEY=VALUE: %w", optSysctls, kv, runtime.ErrInvalid)
		}
	}
	return p, nil
}

// freeName returns eth0, eth1, ... whichever is free.
func freeName(s *space, prefix string) string {
	for i := 0; ; i++ {
		name := prefix + portString(uint16(i))
		taken := false
		for _, j := range s.joins {
			taken = taken || j.plug.Interface == name
		}
		for _, at := range s.sb.Attachments {
			taken = taken || at.InterfaceName == name
		}
		if !taken {
			return name
		}
	}
}

// route gives the default routes to the joins that win them and reports
// whether that changed: highest GwPriority, then Priority, then order;
// internal networks never.
func (s *space) route() (changed bool) {
	for _, v6 := range []bool{false, true} {
		win := s.gateway(v6)
		for _, j := range s.joins {
			gw := netip.Addr{}
			if j == win {
				gw = j.gateway(v6)
			}
			dst := &j.plug.Gateway4
			if v6 {
				dst = &j.plug.Gateway6
			}
			changed = changed || *dst != gw
			*dst = gw
		}
	}
	return changed
}

// gateway returns the join that has the default route of the family.
func (s *space) gateway(v6 bool) (win *join) {
	for _, j := range s.joins {
		a := j.addr4
		if v6 {
			a = j.addr6
		}
		if j.net.def.Internal || !a.IsValid() {
			continue
		}
		if win == nil || j.at.GwPriority > win.at.GwPriority ||
			j.at.GwPriority == win.at.GwPriority && j.at.Priority > win.at.Priority {
			win = j
		}
	}
	return win
}

func (m *Manager) plugsOf(s *space) []Plug {
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.plugs()
}

// plugs are read with Manager.mu held: their networks' MTU changes.
func (s *space) plugs() (out []Plug) {
	for _, j := range s.joins {
		out = append(out, j.plug)
	}
	return out
}

// host is what the resolver learns of the join.
func (s *space) host(j *join) Host {
	return Host{Sandbox: s.sb.ID, Network: j.net.key(), Addrs: j.addrs(), Service: s.sb.PortGroup, Names: s.sb.DNSNames, Shared: j.at.Aliases, Ready: s.ready, DNS: s.sb.DNS}
}

// connected describes the space as it came out.
func (s *space) connected() *Connected {
	c := &Connected{NetNS: s.netns}
	for _, j := range s.joins {
		c.Endpoints = append(c.Endpoints, s.endpoint(j))
	}
	for _, cl := range s.claims {
		for _, f := range cl.fronts {
			c.Ports = append(c.Ports, runtime.PortBinding{HostIP: f.Addr.String(), HostPort: f.Port, ContainerPort: cl.port, Protocol: f.Protocol})
		}
	}
	for _, v6 := range []bool{false, true} {
		j := s.gateway(v6)
		if j == nil && len(s.joins) > 0 {
			j = s.joins[0]
		}
		if j != nil && len(c.Nameservers) == 0 {
			if gw := j.gateway(v6); gw.IsValid() {
				c.Nameservers = []string{gw.String()}
			}
		}
	}
	return c
}

func (s *space) endpoint(j *join) runtime.Endpoint {
	sum := sha256.Sum256([]byte(s.sb.ID + "\x00" + j.net.key()))
	e := runtime.Endpoint{
		Network: j.net.def.Name, NetworkID: j.net.def.ID, Driver: j.net.def.Driver, EndpointID: hex.EncodeToString(sum[:]),
		Interface: j.plug.Interface, MacAddress: j.plug.MAC, Aliases: j.at.Aliases, DNSNames: s.sb.DNSNames,
	}
	if j.addr4.IsValid() {
		e.IPv4, e.Gateway = j.addr4.String(), j.gateway(false).String()
	}
	if j.addr6.IsValid() {
		e.IPv6, e.Gateway6 = j.addr6.String(), j.gateway(true).String()
	}
	if j.net.def.Internal {
		e.Gateway, e.Gateway6 = "", ""
	}
	return e
}

// byPriority is the order in which networks are connected.
func byPriority(in []stack.Attachment) []stack.Attachment {
	out := append([]stack.Attachment(nil), in...)
	sort.SliceStable(out, func(i, j int) bool { return out[i].Priority > out[j].Priority })
	return out
}
