package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// portsTaken says which of the host ports a process of this machine has. What
// this daemon holds itself is a container's: its stack may be giving it up.
func portsTaken(ports overlaynet.Ports, list []stack.Port) (out []string) {
	own := fmt.Sprintf("(pid %d)", os.Getpid())
	for _, p := range list {
		for _, f := range frontends(p) {
			held, err := ports.Reserve(f)
			if err == nil {
				held.Close() // it only listened
				continue
			}
			var taken *overlaynet.PortTaken
			if errors.As(err, &taken) && !strings.HasSuffix(taken.Holder, own) {
				out = append(out, taken.Error())
				break // the other family says the same
			}
		}
	}
	return out
}

// frontends are the addresses of one published port.
func frontends(p stack.Port) (out []overlaynet.Frontend) {
	addrs := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	if a, err := netip.ParseAddr(p.HostIP); err == nil {
		addrs = []netip.Addr{a.Unmap()}
	}
	for _, a := range addrs {
		out = append(out, overlaynet.Frontend{Protocol: cmp.Or(p.Protocol, "tcp"), Addr: a, Port: p.HostPort})
	}
	return out
}
