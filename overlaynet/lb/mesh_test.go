package lb_test

import (
	"fmt"
	"testing"

	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// Every node asked leads to the task, which sees the client's own address.
func TestMeshReachesTasksOfOtherNodes(t *testing.T) {
	if nettest.InHost(t) {
		reachesFromEverywhere(t, false)
	}
}

func TestMeshOverIPv6(t *testing.T) {
	if nettest.InHost(t) {
		reachesFromEverywhere(t, true)
	}
}

func reachesFromEverywhere(t *testing.T, v6 bool) {
	l := newMeshLab(t, 3)
	l.v6 = v6
	l.hosts[2].run(5, false)
	l.hosts[3].run(0x64, true) // no IPv6
	l.publish(5)
	for n := 1; n <= 3; n++ {
		for _, network := range []string{"tcp", "tcp", "udp"} {
			nettest.WantAsk(t, "from outside", l.near, network, fmt.Sprintf("192.0.2.%d:8080", n), "c5 192.0.2.9")
			nettest.WantAsk(t, "from outside", l.near, network, fmt.Sprintf("[2001:db8::%d]:8080", n), "c5 2001:db8::9")
		}
	}
	for _, network := range []string{"tcp", "udp"} { // whom the task's node does not know
		nettest.WantAsk(t, "from behind", l.behind, network, "192.0.2.1:8080", "c5 198.51.100.9")
		nettest.WantAsk(t, "from behind", l.behind, network, "[2001:db8::1]:8080", "c5 2001:db8:99::9")
	}
	for _, h := range l.hosts {
		want4, want6 := "c5 "+meshAddrs(h.n)[0].String(), "c5 "+meshAddrs(h.n)[1].String()
		if h.n == 2 {
			want4, want6 = "c5 10.20.0.1", "c5 2001:db8::2"
		}
		for _, network := range []string{"tcp", "udp"} {
			nettest.WantAsk(t, "localhost", h.path, network, "127.0.0.1:8080", want4)
			nettest.WantAsk(t, "own address", h.path, network, fmt.Sprintf("[2001:db8::%d]:8080", h.n), want6)
		}
	}
}
