package lb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

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
