package link_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// TestTheHostsOwnChangesAreHeard: an address, a route, another MTU.
func TestTheHostsOwnChangesAreHeard(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	nettest.Outside(t)
	l, err := link.New(link.Config{RunDir: t.TempDir(), Spare: -1})
	nettest.Must(t, err)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- l.WatchHost(ctx, func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
	}()
	// Until it listens nothing is heard: the first change is made again and again.
	for i := 0; len(heard) == 0; i++ {
		nettest.Run(t, "ip", "link", "set", "uplink", "mtu", []string{"1400", "1450"}[i%2])
	}
	for _, c := range []struct {
		args string
		is   func() bool
	}{
		{"link set uplink mtu 1380", func() bool { return l.MTUOf(netip.MustParseAddr("10.99.0.7")) == 1380 }},
		{"route add 10.98.0.0/16 dev uplink", func() bool {
			list, err := l.Avoid()
			return err == nil && slices.Contains(list, netip.MustParsePrefix("10.98.0.0/16"))
		}},
	} {
		nettest.Run(t, "ip", "addr", "replace", "10.99.0.7/24", "dev", "uplink")
		nettest.Run(t, "ip", strings.Fields(c.args)...)
		limit := time.After(time.Minute)
		for !c.is() {
			select {
			case <-heard:
			case <-limit:
				t.Fatalf("nothing was heard of %q", c.args)
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}
