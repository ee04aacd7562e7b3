package overlaynet_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// Two thousand questions a second from eight containers, over their own
// interfaces, of a resolver that knows 5,000 containers and 1,000 services,
// while 200 of these change every second. Questions are sent on time whether
// or not earlier ones are answered.
func BenchmarkNames(b *testing.B) {
	if !inHost(b) {
		return
	}
	const askers, rate, seconds = 8, 2000, 5
	n := newNode(b, b.TempDir(), newSource(bridgeNet("front", "10.70.0.0/16")))
	var ends []*overlaynet.Connected
	for i := range askers {
		ends = append(ends, n.connect(overlaynet.Sandbox{ID: fmt.Sprint("asker", i), Attachments: []stack.Attachment{{Network: "front"}}}))
	}
	load := func(i int, ready bool) {
		s := fmt.Sprintf("s%d/web", i%1000)
		n.names.SetHost(overlaynet.Host{
			Sandbox: fmt.Sprint("far", i), Network: "front", Service: s, Remote: true, Ready: ready,
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 70, byte(100 + i>>8), byte(i)})},
			Names: []string{fmt.Sprint("far-", i), fmt.Sprintf("%012x", i)}, Shared: []string{fmt.Sprint("web", i%1000)},
		})
	}
	for i := range 1000 {
		n.names.SetService(overlaynet.Service{
			Network: "front", Service: fmt.Sprintf("s%d/web", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})},
			Names: []string{fmt.Sprint("web", i), fmt.Sprintf("web%d.s%d", i, i)},
		})
	}
	for i := range 5000 {
		load(i, true)
	}
	for b.Loop() {
		stop := make(chan struct{})
		var changes sync.WaitGroup
		changes.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					load(rand.IntN(5000), i%2 == 0)
				}
			}
		})
		var mu sync.Mutex
		var took []time.Duration
		var lost int
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var wg sync.WaitGroup
		for _, c := range ends {
			wg.Go(func() {
				d, l := n.bombard(c, rate/askers, seconds)
				mu.Lock()
				defer mu.Unlock()
				took, lost = append(took, d...), lost+l
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		close(stop)
		changes.Wait()
		slices.Sort(took)
		at := func(f float64) float64 { return float64(took[int(f*float64(len(took)-1))].Microseconds()) }
		b.ReportMetric(at(0.5), "us-p50")
		b.ReportMetric(at(0.99), "us-p99")
		b.ReportMetric(at(0.999), "us-p999")
		b.ReportMetric(float64(lost), "lost")
		b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(len(took)), "allocs/question")
	}
}

// bombard asks from a container and returns how long each answer took.
func (n *node) bombard(c *overlaynet.Connected, rate, seconds int) (took []time.Duration, lost int) {
	var conn net.Conn
	must(n.t, in(n.t, c.NetNS, func() (err error) { conn, err = net.Dial("udp", c.Nameservers[0]+":53"); return err }))
	defer conn.Close()
	var packets [][]byte
	for i := range 256 {
		name := []string{"web%d.", "web%d.s%[1]d.", "tasks.web%d.", "far-%d."}[i%4]
		q := new(mdns.Msg).SetQuestion(fmt.Sprintf(name, rand.IntN(1000)), []uint16{mdns.TypeA, mdns.TypeAAAA}[i/4%2])
		p, err := q.Pack()
		must(n.t, err)
		packets = append(packets, p)
	}
	total := rate * seconds
	sent := make([]time.Time, total)
	var mu sync.Mutex
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for len(took) < total {
			_ = conn.SetReadDeadline(time.Now().Add(time.Duration(seconds+2) * time.Second))
			if k, err := conn.Read(b); err != nil || k < 12 {
				return
			}
			now := time.Now()
			mu.Lock()
			took = append(took, now.Sub(sent[binary.BigEndian.Uint16(b)]))
			mu.Unlock()
		}
	}()
	start := time.Now()
	for i := range total {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		p := packets[i%len(packets)]
		binary.BigEndian.PutUint16(p, uint16(i))
		mu.Lock()
		sent[i] = time.Now()
		mu.Unlock()
		_, err := conn.Write(p)
		must(n.t, err)
	}
	<-done
	return took, total - len(took)
}
