package link_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// wide is a network with room for many; remotesOf are containers of it on ten nodes.
func wide(mark string, n int) overlaynet.Segment {
	s := segment(fmt.Sprintf("%sb%d", mark, n), fmt.Sprintf("10.%d.0.1/16", n), fmt.Sprintf("fd00:%d::1/64", n))
	s.ID, s.MTU = fmt.Sprint("n", n), 1450
	s.Tunnel = &overlaynet.Tunnel{Device: fmt.Sprintf("%sx%d", mark, n), VNI: uint32(5000 + n), Port: 4789, Local: netip.MustParseAddr("127.0.0.1")}
	return s
}

func remotesOf(s overlaynet.Segment, n int) (list []overlaynet.Remote) {
	for i := range n {
		a := s.Gateways[0].Addr().As4()
		a[2], a[3] = byte(1+i/250), byte(2+i%250)
		b := s.Gateways[1].Addr().As16()
		b[14], b[15] = a[2], a[3]
		list = append(list, overlaynet.Remote{
			Addrs: []netip.Addr{netip.AddrFrom4(a), netip.AddrFrom16(b)}, MAC: fmt.Sprintf("02:42:0a:%02x:%02x:%02x", a[1], a[2], a[3]),
			Via: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i%10)}),
		})
	}
	return list
}

// What changes is told to the kernel and nothing else; the next process takes
// over what there is.
func TestRemotesCostTheDifference(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	s := wide(mark, 1)
	nettest.Must(t, l.SetSegment(ctx, s))
	list := remotesOf(s, 5000)
	step := func(what string, writes uint64, f func() error) {
		t.Helper()
		before, start := l.Writes(), time.Now()
		nettest.Must(t, f())
		t.Logf("%s: %v", what, time.Since(start).Round(10*time.Microsecond))
		if n := l.Writes() - before; n != writes {
			t.Errorf("%s: %d writes, want %d", what, n, writes)
		}
	}
	set := func() error { return l.SetRemotes(ctx, s, list) }
	look := func() error { return l.SetSegment(ctx, s) }
	step("5,000 from nothing", 15000, set)
	step("the same", 0, set)
	step("a look", 0, look)
	list[2500].Via = netip.MustParseAddr("192.0.2.99")
	step("one moved", 1, set)
	list = append(list[:100:100], list[101:]...)
	step("one gone", 4, set)
	step("a look", 0, look)
	nettest.Must(t, l.Close())
	l = open(t, dir)
	step("the next process", 0, look)
	step("the next process", 0, set)
	list = list[:len(list)-1]
	step("one gone", 4, set)
	list = nil
	step("all gone", 4*4998, set)
	if got := nettest.Run(t, "sh", "-c", "ip neigh show nud permanent; bridge fdb show dev "+s.Tunnel.Device+" | grep -v permanent || true"); got != "" {
		t.Errorf("left:\n%s", got)
	}
}

// Two hundred networks that span nodes are looked at in a moment.
func TestManyTunnels(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	const networks, each = 200, 25
	all := func(what string, f func(s overlaynet.Segment) error) {
		t.Helper()
		start := time.Now()
		for n := range networks {
			nettest.Must(t, f(wide(mark, n)))
		}
		t.Logf("%d networks with %d remote containers each: %s: %v", networks, each, what, time.Since(start).Round(time.Millisecond))
	}
	all("made", func(s overlaynet.Segment) error { return l.SetSegment(ctx, s) })
	all("remotes set", func(s overlaynet.Segment) error { return l.SetRemotes(ctx, s, remotesOf(s, each)) })
	before := l.Writes()
	all("looked at", func(s overlaynet.Segment) error { return l.SetSegment(ctx, s) })
	if n := l.Writes() - before; n != 0 {
		t.Errorf("%d writes to look", n)
	}
	start, errs := time.Now(), make([]error, networks)
	var wg sync.WaitGroup
	for n := range networks {
		wg.Go(func() { errs[n] = l.RemoveSegment(ctx, wide(mark, n)) })
	}
	wg.Wait()
	nettest.Must(t, errors.Join(errs...))
	t.Logf("removed side by side: %v", time.Since(start).Round(time.Millisecond))
	if got := nettest.Run(t, "sh", "-c", "ip -o link | wc -l; ip neigh show nud permanent"); got != "1\n" {
		t.Errorf("left:\n%s", got)
	}
}
