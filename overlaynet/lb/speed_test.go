package lb_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// What a service's address costs beside its container's own: bytes per second
// of one connection, round trips of one byte, connections per second. The two
// are measured in turns, since a machine's pace changes.
func BenchmarkVirtualBesideDirect(b *testing.B) {
	if !nettest.InHost(b) {
		return
	}
	l := newVIPLab(b)
	client, web := l.run(1, 2), l.run(1, 3)
	l.serve(1, 1, false, web)
	serveLoad(b, web)
	v4, _ := vip(1, 1)
	addrs := map[string]netip.Addr{"direct": web.v4, "virtual": v4}
	total := map[string]float64{}
	for b.Loop() {
		for _, what := range []string{"direct", "virtual"} {
			nettest.Must(b, nettest.In(b, client.path, func() error {
				for _, m := range []struct {
					unit string
					f    func(netip.Addr) (float64, error)
				}{{"Gbit/s", throughput}, {"us/trip", roundTrip}, {"conn/s", setups}} {
					x, err := m.f(addrs[what])
					if err != nil {
						return err
					}
					total[what+"-"+m.unit] += x
				}
				return nil
			}))
		}
	}
	for what, x := range total {
		b.ReportMetric(x/float64(b.N), what)
	}
	for _, unit := range []string{"Gbit/s", "us/trip", "conn/s"} {
		b.ReportMetric(100*total["virtual-"+unit]/total["direct-"+unit], "%-of-direct-"+unit)
	}
}

// serveLoad discards what comes to port 90, and repeats what comes to 91.
func serveLoad(t testing.TB, b box) {
	t.Helper()
	for port, f := range map[int]func(net.Conn){
		90: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		91: func(c net.Conn) { _, _ = io.Copy(c, c) },
	} {
		nettest.Accept(t, b.path, "tcp", fmt.Sprint(":", port), f)
	}
}

const each = 500 * time.Millisecond

func throughput(a netip.Addr) (float64, error) {
	c, err := net.Dial("tcp", at(a, 90))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf, sent := make([]byte, 256<<10), 0
	start := time.Now()
	for time.Since(start) < each {
		n, err := c.Write(buf)
		if err != nil {
			return 0, err
		}
		sent += n
	}
	return float64(sent) * 8 / 1e9 / time.Since(start).Seconds(), nil
}

func roundTrip(a netip.Addr) (float64, error) {
	c, err := net.Dial("tcp", at(a, 91))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf, n := make([]byte, 1), 0
	start := time.Now()
	for ; time.Since(start) < each; n++ {
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds() * 1e6 / float64(n), nil
}

// setups counts connections that are opened, and reset so that no port waits.
func setups(a netip.Addr) (float64, error) {
	n := 0
	start := time.Now()
	for ; time.Since(start) < each; n++ {
		c, err := net.Dial("tcp", at(a, 91))
		if err != nil {
			return 0, err
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	return float64(n) / time.Since(start).Seconds(), nil
}
