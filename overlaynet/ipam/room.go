package ipam

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// Room is how many addresses of a family are left to be handed out by themselves:
// not gateways, reserved ones, and what lies outside of the ranges.
// math.MaxUint64 stands for that many and more.
func (n *Network) Room(v6 bool) uint64 {
	var sum uint64
	for _, s := range n.subnets {
		if s.prefix.Addr().Is6() != v6 || s.last.Less(s.first) {
			continue
		}
		size := distance(s.first, s.last)
		if size == math.MaxUint64 || sum > math.MaxUint64-size-1 {
			return math.MaxUint64
		}
		sum += size + 1 - uint64(s.takenInRange()) //nolint:gosec // a count
	}
	return sum
}

// distance is b - a; math.MaxUint64 when it is more.
func distance(a, b netip.Addr) uint64 {
	x, y := a.As16(), b.As16()
	hi := binary.BigEndian.Uint64(y[:8]) - binary.BigEndian.Uint64(x[:8])
	lo, borrow := binary.BigEndian.Uint64(y[8:]), binary.BigEndian.Uint64(x[8:])
	if hi > 1 || hi == 1 && lo >= borrow {
		return math.MaxUint64
	}
	return lo - borrow
}
