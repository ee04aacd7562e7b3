package overlaynet

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// claim is one published container port of a sandbox.
type claim struct {
	port   uint16 // in the container
	free   bool   // the host port was our choice
	fronts []Frontend
}

// wish is one port of the sandbox, with its protocol and addresses settled.
type wish struct {
	addrs       []netip.Addr
	proto       string
	port        uint16 // in the container
	first, last uint16 // on the host; 0: any free one
	shared      bool
	host        bool // of this node alone, though the service publishes on all
}

// claimLocked reserves the sandbox's ports. kept are the bindings that it had
// before a restart of the daemon.
func (m *Manager) claimLocked(s *space, kept []runtime.PortBinding) error {
	wishes, err := s.wishes()
	if err != nil {
		return err
	}
	if s.gateway(false) == nil && s.gateway(true) == nil {
		if len(wishes) > 0 {
			m.log.Warn("ports are not published: the container is in no network that reaches outside", "container", s.sb.Name)
		}
		return nil
	}
	m.settleLocked(s.sb.PortGroup, wishes)
	for _, w := range wishes {
		if err := m.claimOneLocked(s, w, &kept); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) claimOneLocked(s *space, w wish, kept *[]runtime.PortBinding) error {
	if port, ok := keptPort(w, kept); ok {
		return m.takeLocked(s, w, port, true)
	}
	if w.first != 0 && w.first == w.last {
		return m.takeLocked(s, w, w.first, false)
	}
	if port, ok := m.lately.take(s.sb.ID, w); ok && m.takeLocked(s, w, port, false) == nil {
		return nil
	}
	first, last := w.first, w.last
	start := first
	if w.first == 0 {
		first, last = m.opt.Ports.Ephemeral()
		start = max(first, min(m.nextPort, last))
	}
	count := int(last) - int(first) + 1
	var lastErr error
	for i := range count {
		port := first + uint16((int(start-first)+i)%count)
		err := m.takeLocked(s, w, port, false)
		if err == nil {
			if w.first == 0 {
				m.nextPort = port + 1
			}
			return nil
		}
		if lastErr = err; !errors.Is(err, runtime.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("no free port from %d to %d for %d/%s: %w", first, last, w.port, w.proto, lastErr)
}

// keptPort takes the binding of w out of kept.
func keptPort(w wish, kept *[]runtime.PortBinding) (uint16, bool) {
	for i, b := range *kept {
		in := w.first == 0 || b.HostPort >= w.first && b.HostPort <= w.last
		if b.ContainerPort == w.port && b.Protocol == w.proto && in && b.HostIP == w.addrs[0].String() {
			*kept = slices.Delete(slices.Clone(*kept), i, i+1)
			return b.HostPort, true
		}
	}
	return 0, false
}

// takeLocked reserves one host port on all addresses of the wish, or none.
func (m *Manager) takeLocked(s *space, w wish, port uint16, restoring bool) error {
	c := claim{port: w.port, free: w.first == 0 || w.first != w.last}
	for _, a := range w.addrs {
		f := Frontend{Protocol: w.proto, Addr: a, Port: port}
		if err := m.frontLocked(s, f, w, restoring); err != nil {
			for _, g := range c.fronts {
				m.leaveLocked(s.sb.ID, g)
			}
			return err
		}
		c.fronts = append(c.fronts, f)
	}
	s.claims = append(s.claims, c)
	return nil
}

// wants reports whether a host port leads where the wish does and is one of those it is content with.
func (w *wish) wants(f Frontend, port uint16) bool {
	in := w.first == 0 || f.Port >= w.first && f.Port <= w.last
	return in && !w.host && port == w.port && f.Protocol == w.proto && f.Addr == w.addrs[0]
}

// before orders wishes by how long they can wait while ports are given from the
// lowest on: a named port cannot, any free one can wait for ever.
func (w *wish) before(o *wish) bool {
	end := func(w *wish) uint16 {
		if w.first == 0 {
			return math.MaxUint16
		}
		return w.last
	}
	return cmp.Or(cmp.Compare(end(w), end(o)), cmp.Compare(o.first, w.first)) < 0
}

// wishes expands Ports and, with PublishAll, Exposed.
func (s *space) wishes() (out []wish, err error) {
	for _, p := range s.sb.Ports {
		w := wish{proto: p.Protocol, port: p.ContainerPort, first: p.HostPort, last: max(p.HostPort, p.HostPortEnd), host: p.Mode == "host"}
		w.shared = w.first != 0 && w.first == w.last
		if w.addrs, err = s.hostAddrs(p); err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	if s.sb.PublishAll {
		for _, e := range s.sb.Exposed {
			ws, err := s.exposed(e)
			if err != nil {
				return nil, err
			}
			out = append(out, ws...)
		}
	}
	for i := range out {
		switch out[i].proto {
		case "":
			out[i].proto = "tcp"
		case "tcp", "udp", "sctp":
		default:
			return nil, fmt.Errorf("port %d: protocol %q is not tcp, udp or sctp: %w", out[i].port, out[i].proto, runtime.ErrInvalid)
		}
		if out[i].port == 0 {
			return nil, fmt.Errorf("container port 0 cannot be published: %w", runtime.ErrInvalid)
		}
	}
	return out, nil
}

func (s *space) hostAddrs(p stack.Port) ([]netip.Addr, error) {
	if p.HostIP != "" {
		a, err := netip.ParseAddr(strings.Trim(p.HostIP, "[]"))
		if err != nil {
			return nil, fmt.Errorf("port %d: host address %q: %w", p.ContainerPort, p.HostIP, runtime.ErrInvalid)
		}
		return []netip.Addr{a.Unmap()}, nil
	}
	if j := s.gateway(false); j != nil && j.net.hostIP.IsValid() {
		return []netip.Addr{j.net.hostIP}, nil
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
}

// exposed expands "8000-8010/udp" to one wish a port, unless Ports has it.
func (s *space) exposed(e string) (out []wish, err error) {
	ports, proto, _ := strings.Cut(e, "/")
	lo, hi, isRange := strings.Cut(ports, "-")
	if !isRange {
		hi = lo
	}
	first, err1 := strconv.ParseUint(lo, 10, 16)
	last, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil || last < first {
		return nil, fmt.Errorf("exposed port %q: %w", e, runtime.ErrInvalid)
	}
	if proto == "" {
		proto = "tcp"
	}
	for p := first; p <= last; p++ {
		if slices.ContainsFunc(s.sb.Ports, func(x stack.Port) bool {
			return x.ContainerPort == uint16(p) && (x.Protocol == proto || x.Protocol == "" && proto == "tcp")
		}) {
			continue
		}
		addrs, err := s.hostAddrs(stack.Port{})
		if err != nil {
			return nil, err
		}
		out = append(out, wish{addrs: addrs, proto: proto, port: uint16(p)})
	}
	return out, nil
}
