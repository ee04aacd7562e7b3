package netlab

import "fmt"

// OnlySix replaces the machine's address on the switch by an IPv6 address,
// fd77::N; no IPv4 is left.
func (h *Host) OnlySix() {
	h.t.Helper()
	addr := h.AddSix()
	h.lab.ip("-n", h.NetNS, "addr", "del", h.Addr+"/24", "dev", "eth0")
	h.Addr = addr
}

// AddSix gives the machine one more IPv6 address on the switch. Nobody else has
// it, so it can be used at once.
func (h *Host) AddSix() string {
	h.t.Helper()
	h.lab.hosts++
	addr := fmt.Sprintf("fd77::%x", h.lab.hosts)
	h.lab.ip("-n", h.NetNS, "addr", "add", addr+"/64", "dev", "eth0", "nodad")
	return addr
}

// DropSix takes an IPv6 address from the machine.
func (h *Host) DropSix(addr string) {
	h.t.Helper()
	h.lab.ip("-n", h.NetNS, "addr", "del", addr+"/64", "dev", "eth0")
}
