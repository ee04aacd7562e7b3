package cluster

import (
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Bounds of what a machine may say of itself: it is kept on all managers, told
// to all nodes and shown to people. They are far above what machines have.
const (
	maxHostname   = 253 // bytes, as everywhere
	maxWord       = 128 // bytes of a version, a kind of resource, an architecture
	maxLabels     = 128
	maxLabelKey   = 256     // bytes
	maxLabelValue = 1 << 10 // bytes
	maxKinds      = 64
	maxNanoCPUs   = 1 << 16 * 1_000_000_000
	maxAmount     = 1 << 56 // bytes of memory, units of a generic resource
)

// checkFacts refuses what no machine would say of itself; the error names it.
// Addresses may be missing: a machine alone has none.
func checkFacts(n stack.Node) error {
	for _, w := range []struct{ what, said string }{
		{"version", n.Version}, {"operating system", n.OS}, {"architecture", n.Architecture}, {"issuer", n.Issuer},
	} {
		if !plain(w.said, maxWord, false) {
			return fmt.Errorf("%s %.40q: %w", w.what, w.said, runtime.ErrInvalid)
		}
	}
	switch {
	case !plain(n.Hostname, maxHostname, false):
		return fmt.Errorf("host name %.40q: %w", n.Hostname, runtime.ErrInvalid)
	case !hostPort(n.Addr):
		return fmt.Errorf("address %.60q: want an IP address and a port: %w", n.Addr, runtime.ErrInvalid)
	case !hostPort(n.Gossip):
		return fmt.Errorf("address of the gossip %.60q: want an IP address and a port: %w", n.Gossip, runtime.ErrInvalid)
	case n.NanoCPUs < 0 || n.NanoCPUs > maxNanoCPUs:
		return fmt.Errorf("%d billionths of a CPU: %w", n.NanoCPUs, runtime.ErrInvalid)
	case n.Memory < 0 || n.Memory > maxAmount:
		return fmt.Errorf("%d bytes of memory: %w", n.Memory, runtime.ErrInvalid)
	}
	if err := checkLinks(n); err != nil {
		return err
	}
	return checkTables(n)
}

// checkTables is checkFacts for labels and generic resources.
func checkTables(n stack.Node) error {
	if len(n.EngineLabels) > maxLabels || len(n.Generic) > maxKinds {
		return fmt.Errorf("%d engine labels and %d kinds of generic resources, at most %d and %d: %w", len(n.EngineLabels), len(n.Generic), maxLabels, maxKinds, runtime.ErrInvalid)
	}
	for k, v := range n.EngineLabels {
		if k == "" || !plain(k, maxLabelKey, false) || !plain(v, maxLabelValue, true) {
			return fmt.Errorf("engine label %.40q: %w", k, runtime.ErrInvalid)
		}
	}
	for k, v := range n.Generic {
		if k == "" || !plain(k, maxWord, false) || v < 0 || v > maxAmount {
			return fmt.Errorf("generic resource %.40q: %d: %w", k, v, runtime.ErrInvalid)
		}
	}
	return nil
}

// plain reports whether s can be stored, compared and shown on a terminal as it is.
func plain(s string, limit int, spaces bool) bool {
	if len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || !spaces && unicode.IsSpace(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

func hostPort(s string) bool {
	if s == "" {
		return true
	}
	a, err := netip.ParseAddrPort(s)
	return err == nil && a.Port() != 0 && len(s) <= maxWord && !a.Addr().IsMulticast()
}

// Bounds of what a machine may say of its links.
const (
	maxRanges   = 4096
	maxAddrs    = 256
	maxProblems = 32
	maxMTU      = 1 << 20
)

// checkLinks is checkFacts for what carries containers' traffic.
func checkLinks(n stack.Node) error {
	if n.DataAddr != "" {
		if a, err := netip.ParseAddr(n.DataAddr); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("address for containers' traffic %.60q: want an IP address: %w", n.DataAddr, runtime.ErrInvalid)
		}
	}
	if n.MTU < 0 || n.MTU > maxMTU {
		return fmt.Errorf("an MTU of %d: %w", n.MTU, runtime.ErrInvalid)
	}
	if len(n.Ranges) > maxRanges || len(n.Problems) > maxProblems {
		return fmt.Errorf("%d ranges of addresses and %d problems, at most %d and %d: %w", len(n.Ranges), len(n.Problems), maxRanges, maxProblems, runtime.ErrInvalid)
	}
	if len(n.Addrs) > maxAddrs {
		return fmt.Errorf("%d addresses, at most %d: %w", len(n.Addrs), maxAddrs, runtime.ErrInvalid)
	}
	for _, s := range n.Addrs {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("address %.60q of the node: want an IP address: %w", s, runtime.ErrInvalid)
		}
	}
	for _, r := range n.Ranges {
		if _, err := netip.ParsePrefix(r); err != nil {
			return fmt.Errorf("range %.60q: want a CIDR: %w", r, runtime.ErrInvalid)
		}
	}
	for _, p := range n.Problems {
		if !plain(p, maxLabelValue, true) {
			return fmt.Errorf("problem %.40q: %w", p, runtime.ErrInvalid)
		}
	}
	return nil
}
