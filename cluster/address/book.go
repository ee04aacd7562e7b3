package address

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/dhow-project/dhow/overlaynet/ipam"
	"github.com/dhow-project/dhow/stack"
)

// ErrExhausted is wrapped by every error that means "no address left".
var ErrExhausted = ipam.ErrExhausted

// book is one network's.
type book struct {
	network stack.Network
	err     error                 // of its subnets: nothing can be taken
	hosts   *ipam.Network         // of tasks and containers
	virtual *ipam.Network         // of services
	kept    map[netip.Addr]string // services that name an address of hosts
	full    [4]error              // what was refused last, by kind and family, until something is freed
}

// space is one of a network's two.
type space int

const (
	hosts space = iota
	virtual
)

func newBook(n stack.Network) *book {
	b := &book{network: n, kept: map[netip.Addr]string{}}
	var err4, err6 error
	b.hosts, err4 = ipam.NewNetwork(n.Name, n.Subnets)
	ranges := make([]stack.Subnet, len(n.Virtual))
	for i, v := range n.Virtual {
		ranges[i].CIDR = v
	}
	b.virtual, err6 = ipam.NewNetwork(n.Name, ranges)
	b.err = errors.Join(err4, err6)
	return b
}

// same reports whether the network's addresses are still those of the book.
func (b *book) same(n stack.Network) bool {
	return n.ID == b.network.ID && slices.Equal(n.Virtual, b.network.Virtual) && reflect.DeepEqual(n.Subnets, b.network.Subnets)
}

func (b *book) of(s space) *ipam.Network {
	if s == virtual {
		return b.virtual
	}
	return b.hosts
}

// take gives an owner an address of each family: those it wants, or any.
func (b *book) take(s space, owner, service string, want stack.TaskAddress) (stack.TaskAddress, error) {
	got := stack.TaskAddress{Network: b.network.Name}
	if b.err != nil {
		return got, b.err
	}
	for _, f := range []struct {
		v6   bool
		want string
		to   *string
	}{{false, want.IPv4, &got.IPv4}, {true, want.IPv6, &got.IPv6}} {
		if f.want == "" && !b.of(s).Has(f.v6) {
			continue
		}
		a, err := b.one(s, owner, service, f.v6, f.want)
		if err != nil {
			b.free(s, owner, got)
			if s == hosts {
				b.rekeep(want)
			}
			return stack.TaskAddress{}, err
		}
		*f.to = a.String()
	}
	return got, nil
}

func (b *book) one(s space, owner, service string, v6 bool, want string) (netip.Addr, error) {
	if want != "" {
		return b.fixed(s, owner, service, want)
	}
	slot := &b.full[int(s)*2+bit(v6)]
	if *slot != nil {
		return netip.Addr{}, *slot
	}
	p, err := b.of(s).Take(v6, owner)
	if err == nil {
		return p.Addr(), nil
	}
	if s == virtual {
		err = fmt.Errorf("network %s: virtual addresses %w: all of %s are taken by services: let some have `endpoint_mode: dnsrr`, put them into several networks, or make the network anew with larger pools (dhow daemon --address-pool BASE,SIZE)",
			b.network.Name, ipam.ErrExhausted, b.ranges(v6))
	}
	*slot = err
	return netip.Addr{}, err
}

func (b *book) fixed(s space, owner, service, want string) (netip.Addr, error) {
	a, err := netip.ParseAddr(want)
	if err != nil {
		return a, fmt.Errorf("network %s: address %q: %w", b.network.Name, want, err)
	}
	a = a.Unmap()
	holder, taken := b.of(s).Holder(a)
	if taken && service != "" && holder == keptFor(service) {
		b.of(s).Free(a, holder)
		taken = false
	}
	if taken && holder != owner {
		return a, &Taken{Network: b.network.Name, Addr: a, Holder: holder}
	} else if taken {
		return a, nil
	}
	p, err := b.of(s).TakeStatic(a, owner)
	return p.Addr(), err
}

func (b *book) ranges(v6 bool) string {
	for _, r := range b.network.Virtual {
		if p, err := netip.ParsePrefix(r); err == nil && p.Addr().Is6() == v6 {
			return r
		}
	}
	return "none"
}

// restore marks what a record has; what is outside of the network is passed over.
func (b *book) restore(s space, owner string, has stack.TaskAddress) {
	for _, a := range parsed(has) {
		if b.err != nil {
			return
		}
		holder, taken := b.of(s).Holder(a)
		if taken && b.kept[a] != "" && holder == keptFor(b.kept[a]) { // whoever it was kept for
			b.of(s).Free(a, holder)
		}
		if !taken || holder != owner {
			_ = b.of(s).Restore(a, owner) // somebody else has it, or nobody can: the record is worth no more than that
		}
	}
}

func (b *book) restoreOf(s space, owner string, has []stack.TaskAddress) {
	for _, a := range has {
		if a.Network == b.network.Name {
			b.restore(s, owner, a)
		}
	}
}

func (b *book) free(s space, owner string, has stack.TaskAddress) {
	for _, a := range parsed(has) {
		if b.err == nil {
			b.of(s).Free(a, owner)
			b.full = [4]error{}
		}
	}
	if s == hosts {
		b.rekeep(has)
	}
}

// holds reports whether a service's address is in the network's present ranges.
func (b *book) holds(a stack.TaskAddress) bool {
	for _, f := range []struct {
		v6   bool
		text string
	}{{false, a.IPv4}, {true, a.IPv6}} {
		ip, err := netip.ParseAddr(f.text)
		if has := b.err == nil && b.virtual.Has(f.v6); has != (err == nil) || has && !b.virtual.Contains(ip) {
			return false
		}
	}
	return true
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Taken is the error for an address that somebody else has.
type Taken struct {
	Network string
	Addr    netip.Addr
	Holder  string // ID of a task or container, or what the address is reserved for
}

func (e *Taken) Error() string {
	return fmt.Sprintf("network %s: address %s: it is taken by %s", e.Network, e.Addr, e.Holder)
}

// Is: it is what package ipam calls taken.
func (e *Taken) Is(target error) bool { return target == ipam.ErrTaken }
