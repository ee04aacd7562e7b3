package ipam

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrExhausted is wrapped by every error that means "no address left".
var ErrExhausted = errors.New("exhausted")

// Pool is a range that subnets of one size are cut from.
type Pool struct {
	Base netip.Prefix
	Bits int // prefix length of each subnet; at least Base.Bits()
}

func (p Pool) String() string { return fmt.Sprintf("%s in /%d", p.Base, p.Bits) }

// ParsePool reads "10.100.0.0/16,24": the base and the length of the subnets
// that are cut from it, which leave room for a gateway and a container.
func ParsePool(s string) (Pool, error) {
	base, size, _ := strings.Cut(s, ",")
	p, err := netip.ParsePrefix(base)
	if err != nil {
		return Pool{}, fmt.Errorf("address pool %q: want BASE,SIZE such as 10.100.0.0/16,24", s)
	}
	most := p.Addr().BitLen() - 2
	bits, err := strconv.Atoi(size)
	if err != nil || bits < p.Bits() || bits > most {
		return Pool{}, fmt.Errorf("address pool %q: the size of its subnets is not between %d and %d", s, p.Bits(), most)
	}
	return Pool{p.Masked(), bits}, nil
}

// Default pools: the ranges that Docker uses, which administrators know to
// leave alone, cut smaller: 960 networks of 1,021 containers, then 256 of 253.
func DefaultPools() []Pool {
	var out []Pool
	for i := byte(17); i < 32; i++ {
		out = append(out, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i, 0, 0}), 16), 22})
	}
	return append(out, Pool{netip.MustParsePrefix("192.168.0.0/16"), 24})
}

// ULAPool is the IPv6 pool of a cluster: a /48 of the unique local range that
// derives from seed (RFC 4193), cut into /64.
func ULAPool(seed string) Pool {
	sum := sha256.Sum256([]byte(seed))
	a := [16]byte{0xfd}
	copy(a[1:6], sum[:])
	return Pool{netip.PrefixFrom(netip.AddrFrom16(a), 48), 64}
}

// PickSubnet returns the first subnet of the pools that overlaps nothing used
// and nothing to avoid (host addresses and routes). The error wraps
// ErrExhausted, names the pools and how to enlarge them.
func PickSubnet(pools []Pool, used, avoid []netip.Prefix) (netip.Prefix, error) {
	var names []string
	for _, pool := range pools {
		names = append(names, pool.String())
		if s, ok := pool.pick(used, avoid); ok {
			return s, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("address pools (%s) %w: %d subnets are in use: remove networks, give this one a subnet (ipam: config: subnet), or give the daemon one more pool (dhow daemon --address-pool)",
		strings.Join(names, ", "), ErrExhausted, len(used))
}

func (p Pool) pick(used, avoid []netip.Prefix) (netip.Prefix, bool) {
	s := netip.PrefixFrom(p.Base.Masked().Addr(), p.Bits)
	for p.Base.Contains(s.Addr()) {
		hit, ok := overlap(s, used)
		if !ok {
			hit, ok = overlap(s, avoid)
		}
		if !ok {
			return s, true
		}
		// Skip the whole of what is in the way, whichever is larger.
		if hit.Bits() > s.Bits() {
			hit = s
		}
		next := Last(hit).Next()
		if !next.IsValid() || !p.Base.Contains(next) {
			return netip.Prefix{}, false
		}
		s = netip.PrefixFrom(next, p.Bits)
	}
	return netip.Prefix{}, false
}

func overlap(s netip.Prefix, list []netip.Prefix) (netip.Prefix, bool) {
	for _, u := range list {
		if u.Overlaps(s) {
			return u.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// Last returns the last address of p: for IPv4 its broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
