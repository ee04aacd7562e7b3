package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// dataPath checks what a person gave for traffic between containers: an address
// or the name of an interface. The name stays: its address may be another one tomorrow.
func dataPath(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" || !isOwn(s) {
			return "", fmt.Errorf("--data-path-addr %s: no address of this machine that others can reach: %w", s, runtime.ErrInvalid)
		}
		return a.Unmap().String(), nil
	}
	if _, err := ofInterface(s); err != nil {
		return "", fmt.Errorf("--data-path-addr %s: %w", s, err)
	}
	return s, nil
}

// dataAddr is where other nodes send containers' traffic; "": not known now.
func (e *epoch) dataAddr(m *member) string {
	switch a, err := netip.ParseAddr(m.DataPath); {
	case m.DataPath != "" && err == nil:
		return a.String()
	case m.DataPath != "":
		at, _ := ofInterface(m.DataPath) // "": it has none at the moment
		return at
	}
	a, err := netip.ParseAddr(hostOf(e.advertised(m)))
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// maxRanges is how many ranges a node tells: the widest ones.
const maxRanges = 512

// underlay fills in how containers' traffic reaches this machine, and which
// addresses it has for itself.
func (e *epoch) underlay(n *stack.Node, m *member) {
	if m != nil {
		n.DataAddr = e.dataAddr(m)
	}
	if a, err := netip.ParseAddr(n.DataAddr); err == nil && e.n.cfg.MTU != nil {
		n.MTU = e.n.cfg.MTU(a)
	}
	if e.n.cfg.Ranges != nil {
		list, err := e.n.cfg.Ranges()
		if err != nil {
			e.log.Warn("addresses that this machine uses", "error", err)
		}
		n.Ranges = distinct(list)
	}
	n.Addrs = e.ownAddrs()
}

// maxAddrs is how many addresses of its own a node tells.
const maxAddrs = 64

// ownAddrs are the addresses of this machine, in order. What cannot be read is
// missing, and looked at again with the next change.
func (e *epoch) ownAddrs() []string {
	if e.n.cfg.Addrs == nil {
		return nil
	}
	list, err := e.n.cfg.Addrs()
	if err != nil {
		e.log.Warn("addresses of this machine", "error", err)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	list = slices.Compact(list)
	var out []string
	for _, a := range list[:min(len(list), maxAddrs)] {
		out = append(out, a.String())
	}
	return out
}

// groundwork is underlay for what this node says of itself, with its troubles.
func (e *epoch) groundwork(n *stack.Node) {
	e.underlay(n, e.memberNow())
	if e.n.cfg.Problems != nil {
		n.Problems = shown(e.n.cfg.Problems())
	}
}

// Bounds of what a node says of its troubles; managers refuse more.
const (
	maxProblems = 32
	maxProblem  = 1000 // bytes
)

// shown makes lines of troubles, in an order of their own.
func shown(list []string) []string {
	var out []string
	for _, s := range list {
		s = strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, s)
		if len(s) > maxProblem {
			s = strings.ToValidUTF8(s[:maxProblem-3], "") + "..."
		}
		out = append(out, s)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	return out[:min(len(out), maxProblems)]
}

// distinct leaves out ranges that are within others, and the narrowest where
// there are too many; the rest is in order.
func distinct(list []netip.Prefix) []string {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	wide := list[:0]
	for _, p := range list {
		if len(wide) < maxRanges && !slices.ContainsFunc(wide, func(w netip.Prefix) bool { return w.Overlaps(p) }) {
			wide = append(wide, p)
		}
	}
	slices.SortFunc(wide, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	out := make([]string, len(wide))
	for i, p := range wide {
		out[i] = p.String()
	}
	return out
}

// factsPause is between two looks at what this machine says of its links when
// nothing said that they have changed.
const factsPause = time.Minute

// factsRest is between a change of the links and the look at them.
const factsRest = 500 * time.Millisecond

// keepFacts tells the leader when this machine's links, routes or troubles are
// others than it was told.
func (e *epoch) keepFacts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.n.moved:
			if !pause(ctx, factsRest) { // they come in bursts
				return ctx.Err()
			}
		case <-time.After(factsPause):
		}
		now := e.factsNow()
		e.mu.Lock()
		told := e.facts
		e.mu.Unlock()
		if !sameFacts(&told, &now) {
			e.client.Refresh()
		}
	}
}

func (e *epoch) factsNow() (n stack.Node) {
	e.groundwork(&n)
	return n
}

func sameFacts(a, b *stack.Node) bool {
	return a.DataAddr == b.DataAddr && a.MTU == b.MTU && slices.Equal(a.Ranges, b.Ranges) && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Problems, b.Problems)
}

// Moved says that links, addresses, routes or the firewall of this machine have changed.
func (n *Node) Moved() {
	select {
	case n.moved <- struct{}{}:
	default:
	}
}
