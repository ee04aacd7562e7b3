package netlab

import (
	"fmt"
	"strings"
	"syscall"
)

// Cut drops what goes from one machine to another; the way back stays open.
func (l *Lab) Cut(from, to *Host) {
	l.cuts(func(set map[cut]bool) { set[cut{from.port, to.port}] = true })
}

// Mend undoes Cut.
func (l *Lab) Mend(from, to *Host) {
	l.cuts(func(set map[cut]bool) { delete(set, cut{from.port, to.port}) })
}

// Isolate cuts machines off from all others of the lab, both ways; among
// themselves they stay connected.
func (l *Lab) Isolate(hosts ...*Host) {
	inside := map[string]bool{}
	for _, h := range hosts {
		inside[h.port] = true
	}
	l.cuts(func(set map[cut]bool) {
		for _, a := range l.ports {
			for _, b := range l.ports {
				if inside[a] != inside[b] {
					set[cut{a, b}] = true
				}
			}
		}
	})
}

// Heal undoes all cuts.
func (l *Lab) Heal() { l.cuts(func(set map[cut]bool) { clear(set) }) }

// cut is a way between two ports of the switch.
type cut struct{ from, to string }

// cuts changes the set of cuts and brings it into the switch, in one transaction.
func (l *Lab) cuts(change func(map[cut]bool)) {
	l.t.Helper()
	if l.cut == nil {
		l.cut = map[cut]bool{}
	}
	change(l.cut)
	var rules strings.Builder
	rules.WriteString("table bridge cuts\ndelete table bridge cuts\n")
	if len(l.cut) > 0 {
		rules.WriteString("table bridge cuts {\nchain forward {\ntype filter hook forward priority 0;\n")
		for c := range l.cut {
			fmt.Fprintf(&rules, "iifname %q oifname %q drop\n", c.from, c.to)
		}
		rules.WriteString("}\n}\n")
	}
	l.pipe(rules.String(), "nsenter", "--net=/run/netns/"+l.bridge, "nft", "-f", "-")
}

// Pause stops the daemon's process for as long as it is not continued: a
// machine that hangs. Its containers run on.
func (h *Host) Pause() { h.signal(syscall.SIGSTOP) }

// Continue ends Pause.
func (h *Host) Continue() { h.signal(syscall.SIGCONT) }

func (h *Host) signal(sig syscall.Signal) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.daemon == nil {
		h.t.Fatalf("%s runs no daemon", h.Name)
	}
	if err := h.daemon.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

// Readdress gives the machine another address on the switch.
func (h *Host) Readdress() {
	h.t.Helper()
	h.lab.hosts++
	addr := fmt.Sprintf("10.77.0.%d", h.lab.hosts)
	// In this order: with the first address of a subnet, the others of it go too.
	h.lab.ip("-n", h.NetNS, "addr", "del", h.Addr+"/24", "dev", "eth0")
	h.lab.ip("-n", h.NetNS, "addr", "add", addr+"/24", "dev", "eth0")
	h.Addr = addr
}
