package lb_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/overlaynet/lb"
	"github.com/dhow-project/dhow/overlaynet/nettest"
)

func inboundOf(device string, peers ...byte) *overlaynet.Inbound {
	in := &overlaynet.Inbound{Port: 4789, Peers: map[netip.Addr]bool{}, Nodes: map[netip.Addr]bool{}, Mesh: device, Marks: map[string]uint16{}}
	for _, n := range peers {
		a := netip.AddrFrom4([4]byte{192, 0, 2, n})
		in.Peers[a], in.Nodes[a] = true, true
		in.Nodes[netip.AddrFrom16([16]byte{0: 0x20, 15: n})] = true
		in.Marks[overlaynet.MAC(netip.AddrFrom4([4]byte{10, 255, 0, n}))] = uint16(n)
	}
	return in
}

// Every state of the mesh reached by changes is the one written at once, and
// what somebody does to its rules is seen and put right.
func TestMeshRules(t *testing.T) {
	if !nettest.InHost(t) {
		return
	}
	ctx := context.Background()
	states := []overlaynet.Change{
		{Inbound: inboundOf("")},
		{Inbound: inboundOf("dhtestmesh", 2)},
		{Inbound: inboundOf("dhtestmesh", 3, 4), Inlets: map[overlaynet.Frontend]bool{front("tcp", "10.1.0.2:80"): true, front("udp", "[fd01::2]:80"): true}},
		{Inbound: inboundOf("dhothermesh", 2, 4)},
		{Inbound: inboundOf("", 2, 4)},
	}
	remote := backs("10.1.0.2:8080", "10.1.0.9:8080")
	remote[1].Remote = true
	f := front("tcp", "0.0.0.0:80")
	pools := [][]overlaynet.Backend{remote, remote[:1], nil, remote[1:]}
	merged := func(i int) overlaynet.Change {
		c := full()
		c.Inbound, c.Inlets = states[i].Inbound, map[overlaynet.Frontend]bool{}
		for _, s := range states {
			for k := range s.Inlets {
				c.Inlets[k] = states[i].Inlets[k]
			}
		}
		c.Frontends[f] = pools[i%len(pools)]
		return c
	}
	want := make([]string, len(states))
	for i := range states {
		r := lb.New(lb.Config{RunDir: dir})
		nettest.Must(t, r.Apply(ctx, merged(i)))
		want[i] = sorted(ruleset(t))
	}
	r := lb.New(lb.Config{RunDir: dir})
	for i := range states {
		for j := range states {
			nettest.Must(t, r.Apply(ctx, merged(i)))
			nettest.Must(t, r.Apply(ctx, merged(j)))
			if got := sorted(ruleset(t)); got != want[j] {
				t.Fatalf("from %d to %d:\n%s\nwant\n%s", i, j, got, want[j])
			}
			if repaired, err := r.Check(ctx); repaired || err != nil {
				t.Fatalf("from %d to %d: repaired %v, %v", i, j, repaired, err)
			}
		}
	}
	nettest.Must(t, r.Apply(ctx, merged(2)))
	tab := "inet " + table()
	for _, damage := range []string{
		"flush chain " + tab + " mesh", "flush chain " + tab + " mesh_nat", "flush chain " + tab + " mesh_mark",
		"flush chain " + tab + " mesh_marked", "delete chain " + tab + " mesh_end", "insert rule " + tab + " mesh accept",
		"delete element " + tab + " mesh_marks { 02:42:0a:ff:00:03 }",
		"delete element " + tab + " mesh_marks { 02:42:0a:ff:00:03 }; add element " + tab + " mesh_marks { 02:42:0a:ff:00:03 : 0x1009 }",
		"add element " + tab + " mesh_in4 { 10.1.0.2 . tcp . 81 }", "delete element " + tab + " mesh_nodes4 { 192.0.2.3 }",
		"delete table " + tab + "_zones", "flush chain " + tab + "_zones raw", "flush ruleset",
	} {
		nettest.Run(t, "nft", damage)
		if sorted(ruleset(t)) == want[2] {
			t.Fatalf("%s: changed nothing", damage)
		}
		if _, err := r.Check(ctx); err != nil {
			t.Errorf("%s: %v", damage, err)
		}
		if got := sorted(ruleset(t)); got != want[2] {
			t.Errorf("%s: repaired to\n%s\nwant\n%s", damage, got, want[2])
		}
	}
	again := lb.New(lb.Config{RunDir: dir}) // it is not told of the mesh yet
	unknown := full()
	unknown.Inbound = nil
	nettest.Must(t, again.Apply(ctx, unknown))
	nettest.Run(t, "nft", "list table "+tab+"_zones")
	nettest.Must(t, again.Clear(ctx))
	if got := ruleset(t); got != "" {
		t.Errorf("left after Clear:\n%s", got)
	}
}
