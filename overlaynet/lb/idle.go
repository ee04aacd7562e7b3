package lb

import (
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Connections of our containers are remembered while they say nothing, on
// hosts too where the kernel's defaults (5 days; a minute once one half is
// closed) have been lowered for the sake of others. One that is forgotten can
// go on through its service's address only if it happens to get the same
// backend again.
const (
	idleDays     = 20        // the kernel counts milliseconds in 31 bits
	idleHalfOpen = 24 * 3600 // s
)

var lasting = expr.CtTimeout{L3Proto: unix.NFPROTO_IPV4, L4Proto: unix.IPPROTO_TCP, Policy: expr.CtStatePolicyTimeout{
	expr.CtStateTCPESTABLISHED: idleDays * 24 * 3600,
	expr.CtStateTCPCLOSEWAIT:   idleHalfOpen,
	expr.CtStateTCPFINWAIT:     idleHalfOpen,
}}

const lastingName = "lasting"

// lastingMu: marshalling writes the library's table of defaults.
var lastingMu sync.Mutex

// addLasting adds the timeouts, on kernels that know such.
func (b *batch) addLasting() {
	b.later = append(b.later, func() {
		if b.into == nil {
			lastingMu.Lock()
			defer lastingMu.Unlock()
			b.c.AddObj(&nftables.NamedObj{Table: b.t, Name: lastingName, Type: nftables.ObjTypeCtTimeout, Obj: &lasting})
		}
	})
}

// last gives a new TCP connection of a container the timeouts.
func (b *batch) last() []expr.Any {
	return rule(ofTCP(), ifIn(b.bridges(), false), &expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: lastingName})
}
