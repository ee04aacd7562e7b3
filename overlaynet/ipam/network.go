package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/dhow-project/dhow/stack"
)

// ErrTaken is wrapped by the error for an address that somebody else has.
var ErrTaken = errors.New("address is in use")

// Network hands out the addresses of one network. It is not safe for
// concurrent use: its owner has a lock.
type Network struct {
	name    string
	subnets []*subnet
}

type subnet struct {
	prefix      netip.Prefix
	gateway     netip.Addr
	first, last netip.Addr // of what is handed out without being asked for
	next        netip.Addr // the lowest that was never handed out; invalid: none is left
	used        map[netip.Addr]string
	freed       []netip.Addr // oldest first; may hold addresses that are in use again, or more than once
	untidy      int          // length of freed at which what it holds in vain is dropped
}

// NewNetwork checks the subnets, which must be resolved (each with a CIDR).
func NewNetwork(name string, subnets []stack.Subnet) (*Network, error) {
	n := &Network{name: name}
	for _, s := range subnets {
		sub, err := newSubnet(s)
		if err != nil {
			return nil, fmt.Errorf("network %s: subnet %s: %w", name, s.CIDR, err)
		}
		for _, o := range n.subnets {
			if o.prefix.Overlaps(sub.prefix) {
				return nil, fmt.Errorf("network %s: subnet %s overlaps %s", name, sub.prefix, o.prefix)
			}
		}
		n.subnets = append(n.subnets, sub)
	}
	return n, nil
}

func newSubnet(s stack.Subnet) (*subnet, error) {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return nil, err
	}
	p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()
	if p.Bits() > p.Addr().BitLen()-2 || p.Bits() < 1 {
		return nil, errors.New("leaves no room for a gateway and a container")
	}
	n := &subnet{prefix: p, first: p.Addr().Next(), last: Last(p), used: map[netip.Addr]string{}}
	if p.Addr().Is4() {
		n.last = n.last.Prev() // broadcast
	}
	lo, hi := n.first, n.last
	if s.Range != "" {
		r, err := netip.ParsePrefix(s.Range)
		if err != nil {
			return nil, fmt.Errorf("range: %w", err)
		}
		if r = r.Masked(); !p.Contains(r.Addr()) || r.Bits() < p.Bits() {
			return nil, fmt.Errorf("range %s is not inside", r)
		}
		n.first, n.last = maxAddr(lo, r.Addr()), minAddr(hi, Last(r))
	}
	n.gateway = lo
	if s.Gateway != "" {
		if n.gateway, err = netip.ParseAddr(s.Gateway); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	reserve := map[string]string{"gateway": n.gateway.String()}
	for k, v := range s.Aux {
		reserve["aux address "+k] = v
	}
	for _, what := range sortedKeys(reserve) {
		a, err := netip.ParseAddr(reserve[what])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if a.Less(lo) || hi.Less(a) {
			return nil, fmt.Errorf("%s %s is not inside", what, a)
		}
		if holder, ok := n.used[a]; ok {
			return nil, fmt.Errorf("%s %s is also the %s", what, a, holder)
		}
		n.used[a] = what
	}
	n.next = n.first
	return n, nil
}

// Gateways returns the subnets' gateway addresses with their lengths, IPv4 first.
func (n *Network) Gateways() []netip.Prefix {
	var out []netip.Prefix
	for _, v6 := range []bool{false, true} {
		for _, s := range n.subnets {
			if s.prefix.Addr().Is6() == v6 {
				out = append(out, netip.PrefixFrom(s.gateway, s.prefix.Bits()))
			}
		}
	}
	return out
}

// Has tells whether the network has a subnet of the family.
func (n *Network) Has(v6 bool) bool {
	for _, s := range n.subnets {
		if s.prefix.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

// Take hands out an address of the family for owner, with its subnet's
// length. The error wraps ErrExhausted.
func (n *Network) Take(v6 bool, owner string) (netip.Prefix, error) {
	var full []string
	for _, s := range n.subnets {
		if s.prefix.Addr().Is6() != v6 {
			continue
		}
		if a, ok := s.take(owner); ok {
			return netip.PrefixFrom(a, s.prefix.Bits()), nil
		}
		full = append(full, fmt.Sprintf("%s to %s (%d taken)", s.first, s.last, s.takenInRange()))
	}
	if full == nil {
		return netip.Prefix{}, fmt.Errorf("network %s has no %s subnet", n.name, familyName(v6))
	}
	return netip.Prefix{}, fmt.Errorf("network %s: addresses %s %w: give it a larger subnet or ip_range (ipam: config:) or a second subnet", n.name, strings.Join(full, ", "), ErrExhausted)
}

func (s *subnet) take(owner string) (netip.Addr, bool) {
	for s.next.IsValid() && !s.last.Less(s.next) {
		a := s.next
		s.next = a.Next()
		if _, ok := s.used[a]; !ok {
			s.used[a] = owner
			return a, true
		}
	}
	for len(s.freed) > 0 {
		a := s.freed[0]
		s.freed = s.freed[1:]
		if _, ok := s.used[a]; !ok {
			s.used[a] = owner
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (s *subnet) takenInRange() (n int) {
	for a := range s.used {
		if !a.Less(s.first) && !s.last.Less(a) {
			n++
		}
	}
	return n
}

// TakeStatic hands out the address a. The error wraps ErrTaken and names the
// holder when somebody has it.
func (n *Network) TakeStatic(a netip.Addr, owner string) (netip.Prefix, error) {
	a = a.Unmap()
	for _, s := range n.subnets {
		if !s.prefix.Contains(a) {
			continue
		}
		if a == s.prefix.Addr() || (a.Is4() && a == Last(s.prefix)) {
			return netip.Prefix{}, fmt.Errorf("network %s: %s is not an address for a container", n.name, a)
		}
		if holder, ok := s.used[a]; ok {
			return netip.Prefix{}, fmt.Errorf("network %s: %s: %w by %s", n.name, a, ErrTaken, holder)
		}
		s.used[a] = owner
		return netip.PrefixFrom(a, s.prefix.Bits()), nil
	}
	return netip.Prefix{}, fmt.Errorf("network %s: %s is in none of its subnets", n.name, a)
}

// Holder returns who has an address, or what it is reserved for.
func (n *Network) Holder(a netip.Addr) (owner string, taken bool) {
	a = a.Unmap()
	for _, s := range n.subnets {
		if s.prefix.Contains(a) {
			owner, taken = s.used[a]
		}
	}
	return owner, taken
}

// Holders returns who has which address, or what each is reserved for.
func (n *Network) Holders() map[string]string {
	out := map[string]string{}
	for _, s := range n.subnets {
		for a, owner := range s.used {
			out[a.String()] = owner
		}
	}
	return out
}

// Contains tells whether an address is in one of the subnets.
func (n *Network) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(n.subnets, func(s *subnet) bool { return s.prefix.Contains(a.Unmap()) })
}

// Restore marks an address as in use, as found after a restart. Addresses
// below it count as used before, so that they come last.
func (n *Network) Restore(a netip.Addr, owner string) error {
	a = a.Unmap()
	if _, err := n.TakeStatic(a, owner); err != nil {
		return err
	}
	for _, s := range n.subnets {
		if s.prefix.Contains(a) && s.next.IsValid() && !a.Less(s.next) && !s.last.Less(a) && !a.Less(s.first) {
			s.skipTo(a)
		}
	}
	return nil
}

// skipTo moves the cursor behind a. A gap too large to remember (IPv6) stays
// in front of the cursor instead.
func (s *subnet) skipTo(a netip.Addr) {
	const most = 1 << 16
	var gap []netip.Addr
	for x := s.next; x.Less(a); x = x.Next() {
		if len(gap) == most {
			return
		}
		if _, ok := s.used[x]; !ok {
			gap = append(gap, x)
		}
	}
	s.freed = append(s.freed, gap...)
	s.next = a.Next()
}

// Free gives an address back; unknown ones are ignored, as is one that
// belongs to somebody else.
func (n *Network) Free(a netip.Addr, owner string) {
	a = a.Unmap()
	for _, s := range n.subnets {
		if s.used[a] != owner || owner == "" {
			continue
		}
		delete(s.used, a)
		inRange := !a.Less(s.first) && !s.last.Less(a)
		if inRange && (!s.next.IsValid() || a.Less(s.next)) {
			s.freed = append(s.freed, a)
			s.tidy()
		}
	}
}

const fewFreed = 256 // not worth a look

// tidy drops what is in freed in vain: who comes and goes at one address for
// years, because a file names it, must not be remembered each time.
func (s *subnet) tidy() {
	if len(s.freed) < max(s.untidy, fewFreed) {
		return
	}
	seen := make(map[netip.Addr]bool, len(s.freed))
	keep := len(s.freed)
	for i := len(s.freed) - 1; i >= 0; i-- { // of several the last one counts
		a := s.freed[i]
		if _, used := s.used[a]; used || seen[a] {
			continue
		}
		seen[a] = true
		keep--
		s.freed[keep] = a
	}
	s.freed = append([]netip.Addr(nil), s.freed[keep:]...)
	s.untidy = 2 * len(s.freed)
}

// Used returns how many addresses are taken, the gateways and reserved ones included.
func (n *Network) Used() int {
	sum := 0
	for _, s := range n.subnets {
		sum += len(s.used)
	}
	return sum
}

func familyName(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

func maxAddr(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func minAddr(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
