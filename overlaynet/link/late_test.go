package link

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// late is a watch that hears of changes only when all of them have been made,
// as the real one may on a busy machine.
type late struct {
	t *testing.T
	f *os.File
}

func listenLate(t *testing.T) late {
	t.Helper()
	f, err := listen(allGroups...)
	nettest.Must(t, err)
	t.Cleanup(func() { f.Close() })
	return late{t, f}
}

// news returns what has happened until now.
func (x late) news() (out []message) {
	x.t.Helper()
	nettest.Run(x.t, "ip", "link", "add", "now", "type", "bridge")
	nettest.Run(x.t, "ip", "link", "del", "now")
	for {
		buf := make([]byte, 64<<10)
		n, err := x.f.Read(buf)
		nettest.Must(x.t, err)
		for m := range messages(buf[:n]) {
			if m.kind == unix.RTM_DELLINK && parseLink(m.body).name == "now" {
				return out
			}
			if m.kind > unix.RTM_DELLINK || parseLink(m.body).name != "now" {
				out = append(out, m)
			}
		}
	}
}

// What we do ourselves wakes nobody, however late it is heard of: it is there
// again, or nobody wants it any more.
func TestOwnChangesAreNoDamage(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	l := openMesh(t, t.TempDir())
	watch := listenLate(t)
	must := func(errs ...error) { t.Helper(); nettest.Must(t, errors.Join(errs...)) }

	s := overlaynet.Segment{ID: "net", Name: "net", Bridge: l.mark + "b", MTU: 1450, Tunnel: &overlaynet.Tunnel{Device: l.mark + "x", VNI: 4097, Port: 4789, Local: netip.MustParseAddr("127.0.0.1")}}
	s.Gateways = []netip.Prefix{netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("fd01::1/64")}
	remotes := func(n int, via string) (list []overlaynet.Remote) {
		for i := range n {
			a := netip.AddrFrom4([4]byte{10, 1, 9, byte(i)})
			list = append(list, overlaynet.Remote{MAC: overlaynet.MAC(a), Via: netip.MustParseAddr(via), Addrs: []netip.Addr{a}})
		}
		return list
	}
	p := overlaynet.Plug{Segment: s, Host: l.mark + "v", Interface: "eth0", MAC: "02:42:0a:01:00:02", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/16"), netip.MustParsePrefix("fd01::2/64")}, Gateway4: s.Gateways[0].Addr()}
	bare := s
	bare.Tunnel = nil
	for range 2 { // each thing goes, and is there again
		must(l.SetSegment(ctx, s), l.SetRemotes(ctx, s, remotes(20, "192.0.2.7")), l.SetRemotes(ctx, s, remotes(20, "192.0.2.8")), l.SetRemotes(ctx, s, nil))
		_, err := l.SetSandbox(ctx, "c", []overlaynet.Plug{p})
		must(err, l.RemoveSandbox(ctx, "c", []overlaynet.Plug{p}))
		must(l.SetSegment(ctx, bare), l.SetRemotes(ctx, bare, nil), l.RemoveSegment(ctx, bare))
	}
	must(l.SetSegment(ctx, s), l.SetRemotes(ctx, s, remotes(5, "192.0.2.7")))
	_, err := l.SetSandbox(ctx, "c", []overlaynet.Plug{p})
	must(err)
	t.Cleanup(func() { _ = l.RemoveSandbox(ctx, "c", []overlaynet.Plug{p}) })

	m := meshOf(l, 3, 10)
	m.VNI = 4096
	less := *m
	less.Peers, less.Routes = maps.Clone(m.Peers), maps.Clone(m.Routes)
	delete(less.Peers, 3)
	moved := *m
	moved.Peers, moved.Routes = maps.Clone(m.Peers), maps.Clone(m.Routes)
	x := moved.Peers[2]
	x.Via = netip.MustParseAddr("192.0.9.9")
	moved.Peers[2], moved.Routes[taskAddr(0)] = x, 4
	for _, m := range []*overlaynet.Mesh{m, &less, m, &moved, m, nil, m} {
		must(l.SetMesh(ctx, m))
	}

	all := watch.news()
	if len(all) < 200 {
		t.Errorf("%d messages were heard", len(all))
	}
	for _, m := range all {
		if l.isDamage(m) || l.meshMisses(m) {
			t.Errorf("damage: message %d: %+v %+v", m.kind, parseLink(m.body), nested(m.body[min(len(m.body), unix.SizeofNdMsg):]))
		}
		if l.isHosts(m) {
			t.Errorf("the host's own: message %d: %+v", m.kind, parseLink(m.body))
		}
	}
}
