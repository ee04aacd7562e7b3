package link_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// Containers of three hosts talk over every kind of network and underlay.
func TestNetworksSpanHosts(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	x := newLab(t, 3)
	for i, w := range []wire{{}, {no4: true, v6: true}, {v6: true}, {underlay6: true}, {no4: true, v6: true, underlay6: true}, {v6: true, underlay6: true}} {
		w.n, w.mtu = i+1, 1450
		if w.underlay6 {
			w.mtu = 1430
		}
		t.Run(fmt.Sprintf("ipv4=%v ipv6=%v underlay6=%v", !w.no4, w.v6, w.underlay6), func(t *testing.T) {
			boxes := x.connect(w, 2)
			for _, b := range boxes[1:] {
				b.serveEcho()
			}
			for _, v6 := range []bool{false, true} {
				if boxes[0].addr(v6) == "" {
					continue
				}
				for _, b := range boxes {
					nettest.Serve(t, b.path, fmt.Sprint(b.host.n, ".", b.c), "tcp", net.JoinHostPort(b.addr(v6), "80"))
				}
				for _, from := range boxes {
					for _, to := range boxes {
						nettest.WantAsk(t, "tcp", from.path, "tcp", net.JoinHostPort(to.addr(v6), "80"), fmt.Sprintf("%d.%d %s", to.host.n, to.c, from.addr(v6)))
					}
				}
				for _, to := range boxes[1:] {
					if err := boxes[0].echo(to, v6, w.mtu); err != nil {
						t.Errorf("%d bytes to %s: %v", w.mtu, to.addr(v6), err)
					}
				}
			}
		})
	}
}
