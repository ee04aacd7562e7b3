package link_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/link"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// An interface may have dots in its name, also where the keys of its settings have them.
func TestInterfaceWithDots(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l, mark, seg := onSegment(t, "10.1.0.1/24", "fd01::1/64")
	p := plug(seg, mark, 7)
	p.Interface = "web.1"
	p.Sysctls = map[string]string{"net.ipv4.conf.web.1.arp_notify": "1"}
	path, err := l.SetSandbox(ctx, "c7", []overlaynet.Plug{p})
	nettest.Must(t, err)
	got := inside(t, path, "sh", "-c", "ip -o addr show web.1; cat /proc/sys/net/ipv4/conf/web.1/arp_notify")
	if !strings.Contains(got, "10.1.0.7/24") || !strings.Contains(got, "fd01::7/64") || !strings.HasSuffix(got, "\n1\n") {
		t.Errorf("got\n%s", got)
	}
}

// A plug that could not be made whole is made anew by the next call, and not
// taken for a whole one.
func TestHalfMadePlug(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	l, mark, seg := onSegment(t, "10.1.0.1/24", "fd01::1/64")
	_, err := l.SetSandbox(ctx, "c7", nil) // it lives, and gets a network later
	nettest.Must(t, err)
	bad := plug(seg, mark, 7)
	bad.Gateway4 = netip.MustParseAddr("203.0.113.1")
	if _, err := l.SetSandbox(ctx, "c7", []overlaynet.Plug{bad}); err == nil {
		t.Error("a gateway outside the subnet was taken")
	}
	path, err := l.SetSandbox(ctx, "c7", []overlaynet.Plug{plug(seg, mark, 7)})
	nettest.Must(t, err)
	if got := inside(t, path, "ip", "route"); !strings.Contains(got, "default via 10.1.0.1") {
		t.Errorf("got\n%s", got)
	}
}

// One call repairs all plugs of a sandbox, also when they are damaged in
// different ways.
func TestSeveralDamagesAtOnce(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	dir := t.TempDir()
	l, mark := open(t, dir), overlaynet.Mark(dir)
	one, two := segment(mark+"b1", "10.1.0.1/24"), segment(mark+"b2", "10.2.0.1/24")
	a := overlaynet.Plug{Segment: one, Host: mark + "va", Interface: "eth0", MAC: "02:00:00:00:00:01", Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}}
	b := overlaynet.Plug{Segment: two, Host: mark + "vb", Interface: "eth1", MAC: "02:00:00:00:00:02", Addrs: []netip.Prefix{netip.MustParsePrefix("10.2.0.2/24")}}
	set := func() (path string) {
		t.Helper()
		nettest.Must(t, l.SetSegment(ctx, one))
		nettest.Must(t, l.SetSegment(ctx, two))
		path, err := l.SetSandbox(ctx, "c", []overlaynet.Plug{a, b})
		nettest.Must(t, err)
		return path
	}
	nettest.Serve(t, set(), "c", "tcp", ":80")
	nettest.Run(t, "ip", "link", "del", one.Bridge)
	nettest.Run(t, "ip", "link", "del", b.Host)
	set()
	nettest.WantAsk(t, "its bridge went", "", "tcp", "10.1.0.2:80", "c 10.1.0.1")
	nettest.WantAsk(t, "its interface went", "", "tcp", "10.2.0.2:80", "c 10.2.0.1")
}

// A descriptor that has been closed may be somebody else's by now.
func TestClosedTwice(t *testing.T) {
	l, err := link.New(link.Config{RunDir: t.TempDir(), Spare: -1})
	nettest.Must(t, err)
	nettest.Must(t, l.Close())
	var files []*os.File
	for range 100 {
		f, err := os.Open(os.DevNull)
		nettest.Must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	nettest.Must(t, l.Close())
	for _, f := range files {
		if _, err := f.Stat(); err != nil {
			t.Errorf("descriptor %d: %v", f.Fd(), err)
		}
	}
}
