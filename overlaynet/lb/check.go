package lb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
)

// Check compares the number of rules of each chain and of elements of each
// set with what should be there, and writes the table anew when they differ.
// Tracked connections are not touched by that.
func (r *Rules) Check(context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.built {
		return false, nil
	}
	if r.intactLocked() {
		return false, nil
	}
	if err := r.transactLocked(func(b *batch) { b.rebuild(r.model) }); err != nil {
		return false, fmt.Errorf("packet filter: repair: %w", err)
	}
	return true, nil
}

func (r *Rules) intactLocked() bool {
	b := &batch{c: r.conn, t: r.table}
	if r.conn == nil {
		c, err := nftables.New()
		if err != nil {
			return false
		}
		b.c = c
	}
	chains, err := b.c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false
	}
	have := map[string]int{}
	for _, ch := range chains {
		if ch.Table.Name != r.table.Name {
			continue
		}
		rules, err := b.c.GetRules(r.table, ch)
		if err != nil {
			return false
		}
		have[ch.Name] = len(rules)
	}
	want := b.ruleCounts(r.model)
	if len(have) != len(want) {
		return false
	}
	for name, n := range want {
		if have[name] != n {
			return false
		}
	}
	for _, s := range b.sets() {
		elems, err := b.c.GetSetElements(s)
		if err != nil || len(elems) != r.model.elements()[s.Name] {
			return false
		}
	}
	return true
}

func (b *batch) ruleCounts(m model) map[string]int {
	want := map[string]int{}
	for _, ch := range b.skeleton() {
		want[ch.chain.Name] = len(ch.rules)
	}
	for f := range m.frontends {
		want[b.chainOf(f).Name] = 1
	}
	for a, port := range m.resolvers {
		for _, proto := range []string{"udp", "tcp"} {
			if port != 53 {
				want[b.chainOf(overlaynet.Frontend{Protocol: proto, Addr: a, Port: 53}).Name] = 1
			}
		}
	}
	return want
}

// elements counts what each set holds; an interval has two ends.
func (m model) elements() map[string]int {
	n := map[string]int{}
	for _, s := range m.segments {
		n["bridges"]++
		n["same"]++
		if s.Internal {
			n["internal"]++
		}
		for _, g := range s.Gateways {
			if g.Addr().Is4() {
				n["own4"]++
			} else {
				n["own6"]++
			}
			switch {
			case !s.Masquerade || s.Internal:
			case g.Addr().Is4():
				n["masq4"] += 2
			default:
				n["masq6"] += 2
			}
		}
	}
	b := &batch{}
	for f := range m.frontends {
		n[b.mapFor(f.Addr).Name]++
	}
	for a := range m.resolvers {
		n[b.mapFor(a).Name] += 2
	}
	return n
}

// Run wakes the manager when another process has changed the ruleset.
func (r *Rules) Run(ctx context.Context, wake func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("watch packet filter: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		return fmt.Errorf("watch packet filter: %w", err)
	}
	tv := unix.NsecToTimeval(int64(500 * time.Millisecond)) // how soon the end of ctx is noticed
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			wake() // missed something: look
		case err != nil:
			return fmt.Errorf("watch packet filter: %w", err)
		case foreign(buf[:n]):
			wake()
		}
	}
	return ctx.Err()
}

// foreign tells whether the messages announce a new generation of the ruleset
// that none of our threads made.
func foreign(b []byte) bool {
	const newGen, procPID = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN, 2 // NFTA_GEN_PROC_PID
	for len(b) >= unix.NLMSG_HDRLEN+4 {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN+4 || size > len(b) {
			return false
		}
		if binary.NativeEndian.Uint16(b[4:]) == newGen {
			for at := b[unix.NLMSG_HDRLEN+4 : size]; len(at) >= 8; {
				alen := int(binary.NativeEndian.Uint16(at))
				if alen < 4 || alen > len(at) {
					break
				}
				if binary.NativeEndian.Uint16(at[2:])&0x3fff == procPID && alen >= 8 {
					tid := binary.BigEndian.Uint32(at[4:])
					_, err := os.Stat("/proc/self/task/" + strconv.Itoa(int(tid)))
					return err != nil
				}
				at = at[min(len(at), (alen+3)&^3):]
			}
			return true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false
}
