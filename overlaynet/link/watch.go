package link

import (
	"context"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Run keeps spare namespaces ready and wakes the manager when a link or a
// bridge address of ours has vanished.
func (l *Links) Run(ctx context.Context, wake func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.refill(ctx) })
	g.Go(func() error { return l.watch(ctx, wake) })
	return g.Wait()
}

func (l *Links) refill(ctx context.Context) error {
	defer l.pool.drain()
	for {
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = l.pool.fill(); err != nil {
				l.cfg.Log.Warn("spare namespace", "err", err) // Connect makes its own, and reports
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.pool.wake:
		}
	}
}

func (l *Links) watch(ctx context.Context, wake func()) error {
	links := make(chan netlink.LinkUpdate, 256)
	addrs := make(chan netlink.AddrUpdate, 256)
	if err := netlink.LinkSubscribe(links, ctx.Done()); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	for links != nil || addrs != nil {
		select {
		case u, ok := <-links:
			if !ok {
				links = nil // the socket overflowed or ctx ended; the slow timer remains
				continue
			}
			if u.Header.Type == unix.RTM_DELLINK && l.expects(u.Attrs().Name) {
				wake()
			}
		case u, ok := <-addrs:
			if !ok {
				addrs = nil
				continue
			}
			if !u.NewAddr && l.expectsIndex(u.LinkIndex) {
				wake()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (l *Links) expects(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known[name]
}

func (l *Links) expectsIndex(index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && l.expects(i.Name)
}
