package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/overlaynet"
)

func TestFabricOfAView(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::2")
	nodes := func(list ...dispatch.Node) dispatch.View { return dispatch.View{Nodes: list} }
	for name, c := range map[string]struct {
		view   dispatch.View
		member bool
		want   overlaynet.Fabric
	}{
		"a machine alone":  {nodes(dispatch.Node{ID: "a"}), false, overlaynet.Fabric{Known: true, Node: "a"}},
		"nothing told yet": {dispatch.View{}, true, overlaynet.Fabric{}},
		"two nodes": {
			nodes(dispatch.Node{ID: "a", Addr: "192.0.2.1:2377", DataAddr: "10.0.0.1", Number: 1, MTU: 9000},
				dispatch.Node{ID: "b", Addr: "192.0.2.2:2377", Number: 2, MTU: 1500, Down: true}), true,
			overlaynet.Fabric{Known: true, Node: "a", Port: 4789, MTU: 1450, Peers: map[string]overlaynet.Peer{
				"a": {Addr: four, Number: 1, Control: netip.MustParseAddrPort("192.0.2.1:2377")},
				"b": {Addr: netip.MustParseAddr("192.0.2.2"), Number: 2, Down: true, Control: netip.MustParseAddrPort("192.0.2.2:2377")},
			}},
		},
		"IPv6 underlay, another port, a node without an address": {
			dispatch.View{Port: 4790, Nodes: []dispatch.Node{{ID: "a", Addr: "[fd00::2]:2377", Number: 1, MTU: 1500}, {ID: "b", Number: 2, MTU: 1280}}}, true,
			overlaynet.Fabric{Known: true, Node: "a", Port: 4790, MTU: 1430, Peers: map[string]overlaynet.Peer{"a": {Addr: six, Number: 1, Control: netip.MustParseAddrPort("[fd00::2]:2377")}}},
		},
		"a link that nothing fits into": {
			nodes(dispatch.Node{ID: "a", DataAddr: "10.0.0.1", MTU: 50}, dispatch.Node{ID: "b", MTU: 1500, DataAddr: "fd00::2"}), true,
			overlaynet.Fabric{Known: true, Node: "a", Port: 4789, MTU: 1, Peers: map[string]overlaynet.Peer{"a": {Addr: four}, "b": {Addr: six}}},
		},
		"nobody says an MTU": {
			nodes(dispatch.Node{ID: "a", DataAddr: "::ffff:10.0.0.1", Number: 70000}), true,
			overlaynet.Fabric{Known: true, Node: "a", Port: 4789, Peers: map[string]overlaynet.Peer{"a": {Addr: four}}},
		},
	} {
		if diff := cmp.Diff(c.want, fabric("a", c.view, c.member), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
