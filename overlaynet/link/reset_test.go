package link_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// A connection to a container that is gone ends at once, however it was
// reached; others go on.
func TestConnectionsToNobodyEnd(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	seg := segment(mark+"b", "10.1.0.1/24", "fd01::1/64")
	seg.Virtual = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24"), netip.MustParsePrefix("fd99::/64")}
	nettest.Must(t, l.SetSegment(ctx, seg))
	paths := map[int]string{}
	for _, n := range []int{2, 3, 4} {
		path, err := l.SetSandbox(ctx, fmt.Sprint("c", n), []overlaynet.Plug{plug(seg, mark, n)})
		nettest.Must(t, err)
		paths[n] = path
	}
	nettest.Run(t, "nft", fmt.Sprintf(`add table inet t; add chain inet t pre { type nat hook prerouting priority dstnat; };
		add rule inet t pre iifname %[1]s ip daddr 10.99.0.3 dnat ip to 10.1.0.3; add rule inet t pre iifname %[1]s ip daddr 10.99.0.4 dnat ip to 10.1.0.4;
		add rule inet t pre iifname %[1]s ip6 daddr fd99::3 dnat ip6 to fd01::3`, seg.Bridge))
	for _, n := range []int{3, 4} {
		nettest.Accept(t, paths[n], "tcp", ":80", func(c net.Conn) {
			fmt.Fprintln(c, "hello")
			<-t.Context().Done()
		})
	}
	dial := func(path, to string) (c net.Conn) {
		t.Helper()
		nettest.Must(t, nettest.In(t, path, func() (err error) { c, err = net.DialTimeout("tcp", to, 3*time.Second); return err }))
		t.Cleanup(func() { c.Close() })
		_, err := c.Read(make([]byte, 10))
		nettest.Must(t, err)
		return c
	}
	gone := map[string]net.Conn{}
	for _, to := range []string{"10.1.0.3:80", "[fd01::3]:80", "10.99.0.3:80", "[fd99::3]:80"} {
		gone[to] = dial(paths[2], to)
	}
	gone["from the node"] = dial("", "10.1.0.3:80")
	live := map[string]net.Conn{}
	for _, to := range []string{"10.1.0.4:80", "10.99.0.4:80", "[fd01::4]:80"} {
		live[to] = dial(paths[2], to)
	}
	unasked := dial(paths[4], "10.1.0.3:80")

	nettest.Must(t, l.Reset(ctx, []string{"c2", "c3", "unknown"}, []netip.Addr{netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd01::3")}))
	buf := make([]byte, 10)
	for name, c := range gone {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(buf); !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%s: %v, want its end", name, err)
		}
	}
	live["a sandbox that was not named"] = unasked
	for name, c := range live {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(buf); !errors.Is(err, unix.EAGAIN) {
			var late net.Error
			if !errors.As(err, &late) || !late.Timeout() {
				t.Errorf("%s: %v, want it to live", name, err)
			}
		}
	}
	nettest.Must(t, l.Reset(ctx, []string{"c2"}, nil))
}
