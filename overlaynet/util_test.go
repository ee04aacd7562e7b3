package overlaynet_test

import (
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

func addRoute(dst, via string) error {
	_, n, err := net.ParseCIDR(dst)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: n, Gw: net.ParseIP(via)})
}

// udpAsk sends one datagram and returns the answer; "" when none comes soon.
func udpAsk(c net.Conn) string {
	buf := make([]byte, 512)
	_, _ = c.Write([]byte("?"))
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := c.Read(buf)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}
