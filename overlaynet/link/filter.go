package link

import (
	"errors"
	"os"
	"os/exec"
)

const bridgeFilterDir = "/proc/sys/net/bridge"

// BridgeFilter tells whether the kernel can show the packet filter what goes
// between ports of one bridge (br_netfilter). Without it, an answer that stays
// within a network is not translated back: virtual addresses do not work. Its
// module is loaded when it is missing.
func (l *Links) BridgeFilter() bool {
	l.filterOnce.Do(func() { l.filter = bridgeFilter() })
	return l.filter
}

func bridgeFilter() bool {
	if _, err := os.Stat(bridgeFilterDir); !errors.Is(err, os.ErrNotExist) {
		return err == nil
	}
	_ = exec.Command("modprobe", "br_netfilter").Run() //nolint:noctx // it takes milliseconds; whether it helped is seen below
	if _, err := os.Stat(bridgeFilterDir); err != nil {
		return false
	}
	// The module begins with all bridges of the machine. Those of others have
	// done without it until now; ours say themselves that they want it.
	for _, k := range []string{"iptables", "ip6tables", "arptables"} {
		_ = writeSysctl("net/bridge/bridge-nf-call-"+k, "0")
	}
	return true
}
