package node

import "testing"

func TestAddressesAreCompleted(t *testing.T) {
	for in, want := range map[string]string{
		"":              "0.0.0.0:2377",
		"10.0.0.1":      "10.0.0.1:2377",
		"10.0.0.1:7":    "10.0.0.1:7",
		"eth0":          "eth0:2377",
		"eth0:99":       "eth0:99",
		"fd00::1":       "[fd00::1]:2377",
		"[fd00::1]:800": "[fd00::1]:800",
		"10.0.0.1:0":    "",
		"10.0.0.1:x":    "",
		":2377":         "",
	} {
		if got, err := listenAddr(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestInterfacesAreResolved(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.1:7": "10.0.0.1:7", "[fd00::1]:7": "[fd00::1]:7", "nosuch0:7": "", "lo:7": "", "x": ""} {
		if got, err := resolve(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestAnIPv6NodeListensOnIPv6(t *testing.T) {
	n := &Node{cfg: Config{GossipPort: 47946}}
	m, err := n.place(t.Context(), "0.0.0.0:42377", "[fd00::1]:42377", "")
	if err != nil {
		t.Skipf("NOT RUN: this machine has no IPv6: %v", err)
	}
	if m.Listen != "[::]:42377" || m.Advertise != "[fd00::1]:42377" || m.Own || m.Gossip != "[::]:47946" {
		t.Errorf("%+v", m)
	}
	if _, err := n.place(t.Context(), "", "0.0.0.0", ""); err == nil {
		t.Error("all addresses are advertised")
	}
}
