package sim

import (
	"fmt"
	"net/netip"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// network is a network that spans nodes, with room for 4,000 tasks and 1,000
// services; no two with different numbers overlap.
func network(name, stackName string, number int) state.Change {
	cut := func(base byte, i int) netip.Addr {
		return netip.AddrFrom4([4]byte{base, byte(i >> 16), byte(i >> 8), byte(i)}) //nolint:gosec // the four bytes
	}
	n := stack.Network{
		Name: name, Key: "net", Stack: stackName, ID: fmt.Sprintf("%064x", number), Driver: "overlay", VNI: state.DefaultVNIFirst + number,
		Subnets: []stack.Subnet{{CIDR: netip.PrefixFrom(cut(10, number<<12), 20).String()}},
		Virtual: []string{netip.PrefixFrom(cut(11, number<<10), 22).String()},
	}
	return state.Change{Network: &state.Network{Network: n, Asked: n}}
}

// onNetworks is what a stack says of its networks: its own, and others by their real names.
func onNetworks(own string, others ...string) map[string]stack.Network {
	out := map[string]stack.Network{"net": {Name: own}}
	for _, name := range others {
		out[name] = stack.Network{Name: name, External: true}
	}
	return out
}

// fixedAddress is one among the first that are given in a network.
func fixedAddress(number int) string {
	n := network("", "", number).Network.Subnets[0].CIDR
	a := netip.MustParsePrefix(n).Addr()
	for range 5 {
		a = a.Next()
	}
	return a.String()
}
