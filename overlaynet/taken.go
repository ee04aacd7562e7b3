package overlaynet

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/dhow-project/dhow/runtime"
)

// PortTaken is the error for a host port that somebody has: a container or a
// process. It wraps runtime.ErrConflict.
type PortTaken struct {
	Frontend Frontend
	Holder   string // "container shop-web-1", "process nginx (pid 812)"; "" when it cannot be found out
}

func (e *PortTaken) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("port %s is in use by another process", e.Frontend)
	}
	return fmt.Sprintf("port %s is in use by %s", e.Frontend, e.Holder)
}

func (e *PortTaken) Unwrap() error { return runtime.ErrConflict }

func (f Frontend) String() string {
	return netip.AddrPortFrom(f.Addr, f.Port).String() + "/" + f.Protocol
}

// overlaps tells whether two frontends cannot exist at once: the same port
// and protocol on the same address, or on a wildcard of its family.
func (f Frontend) overlaps(o Frontend) bool {
	return f.Port == o.Port && f.Protocol == o.Protocol && f.Addr.Is4() == o.Addr.Is4() &&
		(f.Addr == o.Addr || f.Addr.IsUnspecified() || o.Addr.IsUnspecified())
}

func portString(p uint16) string { return strconv.Itoa(int(p)) }
