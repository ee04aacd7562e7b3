package lb_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/overlaynet/nettest"
)

// BenchmarkMesh compares a published port asked on the task's node (direct)
// with the same asked on another one (mesh), and with a task that is reached by
// the same hops and a bare VXLAN pair, routed without any rule of the packet
// filter (bare). By turns; medians of five runs each.
func BenchmarkMesh(b *testing.B) {
	if !nettest.InHost(b) {
		return
	}
	l := newMeshLab(b, 4)
	sink(b, l.hosts[2].run(5, false), 90)
	sink(b, l.hosts[4].run(6, false), 90)
	for _, n := range []int{1, 2} {
		l.hosts[n].publish(5)
		l.hosts[n].publishMore(90)
	}
	for _, n := range []int{3, 4} {
		h := l.hosts[n]
		h.do(func() error { return h.links.SetMesh(context.Background(), h.mesh()) })
	}
	l.hosts[3].sh("ip route add 10.20.0.6 via 10.255.0.4 dev %s onlink", l.hosts[3].mesh().Device)
	l.hosts[4].sh("ip rule add iif %s lookup 99; ip route add default via 10.255.0.3 dev %s onlink table 99", l.hosts[4].segment().Bridge, l.hosts[4].mesh().Device)
	sh(b, l.near, "ip route add 10.20.0.6 via 192.0.2.3")
	const each = 1200 * time.Millisecond
	for b.Loop() {
		var bytes, conns [3][]float64
		for range 5 {
			for i, addr := range []string{"192.0.2.2:9090", "192.0.2.1:9090", "10.20.0.6:90"} {
				bytes[i] = append(bytes[i], stream(b, l.near, addr, each)*8/1e9)
				conns[i] = append(conns[i], dials(b, l.near, addr, each)/1e3)
			}
		}
		for i, name := range []string{"direct", "mesh", "bare"} {
			b.ReportMetric(median(bytes[i]), name+"-Gbit/s")
			b.ReportMetric(median(conns[i]), name+"-kconn/s")
		}
		b.ReportMetric(median(bytes[1])/median(bytes[0]), "mesh/direct-throughput")
		b.ReportMetric(median(conns[1])/median(conns[0]), "mesh/direct-conns")
		b.ReportMetric(median(bytes[1])/median(bytes[2]), "mesh/bare-throughput")
		b.ReportMetric(median(conns[1])/median(conns[2]), "mesh/bare-conns")
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// sink takes what comes, and closes what is closed.
func sink(t testing.TB, path string, port int) {
	t.Helper()
	nettest.Accept(t, path, "tcp", fmt.Sprint(":", port), func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
}

// stream sends over one connection and returns bytes per second.
func stream(t testing.TB, path, addr string, d time.Duration) (rate float64) {
	t.Helper()
	nettest.Must(t, nettest.In(t, path, func() error {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		block, sent := make([]byte, 256<<10), 0
		begin := time.Now()
		for time.Since(begin) < d {
			n, err := c.Write(block)
			if err != nil {
				return err
			}
			sent += n
		}
		rate = float64(sent) / time.Since(begin).Seconds()
		return nil
	}))
	return rate
}

// dials makes connections one after the other, by four clients at once, and
// returns how many per second. They end with a reset, so that no ports are used up.
func dials(t testing.TB, path, addr string, d time.Duration) float64 {
	t.Helper()
	var wg sync.WaitGroup
	var count atomic.Int64
	begin := time.Now()
	for range 4 {
		wg.Go(func() {
			_ = nettest.In(t, path, func() error {
				for time.Since(begin) < d {
					c, err := (&net.Dialer{Timeout: 5 * time.Second, Control: resetAtEnd}).Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return err
					}
					c.Close()
					count.Add(1)
				}
				return nil
			})
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(begin).Seconds()
}

func resetAtEnd(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}
