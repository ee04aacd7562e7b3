package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// answerTime is long for a machine of the same network.
const answerTime = 500 * time.Millisecond

// Answers reports whether the machine behind an address answers, be it to say
// that nobody listens there.
func (l *Links) Answers(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err == nil {
		_ = c.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}
