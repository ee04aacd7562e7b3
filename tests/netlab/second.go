package netlab

import "fmt"

// SecondLink gives machines one more link each, eth1, to a switch of its own.
// It returns their addresses there, 10.78.0.N, in order.
func (l *Lab) SecondLink(hosts ...*Host) (addrs []string) {
	l.t.Helper()
	l.ip("-n", l.bridge, "link", "add", "sw2", "type", "bridge")
	l.ip("-n", l.bridge, "link", "set", "sw2", "up")
	for i, h := range hosts {
		port, addr := fmt.Sprintf("q%d", i+1), fmt.Sprintf("10.78.0.%d", i+1)
		l.ip("link", "add", "name", "eth1", "netns", h.NetNS, "type", "veth", "peer", "name", port, "netns", l.bridge)
		l.ip("-n", l.bridge, "link", "set", port, "master", "sw2", "up")
		l.ip("-n", h.NetNS, "addr", "add", addr+"/24", "dev", "eth1")
		l.ip("-n", h.NetNS, "link", "set", "eth1", "up")
		addrs = append(addrs, addr)
	}
	return addrs
}

// IP runs the program ip in the machine's network namespace; it must succeed.
func (h *Host) IP(args ...string) {
	h.t.Helper()
	h.lab.ip(append([]string{"-n", h.NetNS}, args...)...)
}
