package overlaynet_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// One container connected and disconnected.
func BenchmarkConnect(b *testing.B) {
	if !inHost(b) {
		return
	}
	n := newNode(b, b.TempDir(), newSource(bridgeNet("front", "10.70.0.0/20")))
	n.connect(overlaynet.Sandbox{ID: "first", Attachments: on("front")})
	ctx := context.Background()
	var up, down time.Duration
	for i := 0; b.Loop(); i++ {
		sb := overlaynet.Sandbox{ID: fmt.Sprint("c", i), Attachments: on("front"), Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}}
		t0 := time.Now()
		n.connect(sb)
		t1 := time.Now()
		must(b, n.Disconnect(ctx, sb.ID))
		up, down = up+t1.Sub(t0), down+time.Since(t1)
	}
	b.ReportMetric(up.Seconds()*1e3/float64(b.N), "ms/connect")
	b.ReportMetric(down.Seconds()*1e3/float64(b.N), "ms/disconnect")
}

// Sixty containers at once, as when a service is scaled.
func BenchmarkSixty(b *testing.B) {
	if !inHost(b) {
		return
	}
	n := newNode(b, b.TempDir(), newSource(bridgeNet("front", "10.70.0.0/20")))
	ctx := context.Background()
	var up, down time.Duration
	for i := 0; b.Loop(); i++ {
		all := func(f func(id string)) time.Duration {
			t0 := time.Now()
			var wg sync.WaitGroup
			for j := range 60 {
				wg.Go(func() { f(fmt.Sprintf("c%d-%d", i, j)) })
			}
			wg.Wait()
			return time.Since(t0)
		}
		up += all(func(id string) {
			n.connect(overlaynet.Sandbox{ID: id, Attachments: []stack.Attachment{{Network: "front", Aliases: []string{"web"}}}, PortGroup: "g", Ports: []stack.Port{{HostPort: 8080, ContainerPort: 80}}})
		})
		down += all(func(id string) { must(b, n.Disconnect(ctx, id)) })
	}
	b.ReportMetric(up.Seconds()*1e3/float64(b.N), "ms/up60")
	b.ReportMetric(down.Seconds()*1e3/float64(b.N), "ms/down60")
}

// Two hundred containers in one network: what each one costs, and what a look
// at all of them costs when nothing is wrong.
func BenchmarkTwoHundred(b *testing.B) {
	if !inHost(b) {
		return
	}
	n := newNode(b, b.TempDir(), newSource(bridgeNet("front", "10.70.0.0/20")))
	ctx := context.Background()
	var up, look, down time.Duration
	var bytes uint64
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var c overlaynet.Config
		t0 := time.Now()
		for i := range 200 {
			id := fmt.Sprint("c", i)
			sb := overlaynet.Sandbox{ID: id, Name: id, DNSNames: []string{id}, Attachments: []stack.Attachment{{Network: "front", Aliases: []string{"web"}}}, Ports: []stack.Port{{HostPort: uint16(20000 + i), ContainerPort: 80}}}
			n.connect(sb)
			c.Sandboxes = append(c.Sandboxes, overlaynet.Restored{Sandbox: sb})
		}
		t1 := time.Now()
		runtime.GC()
		runtime.ReadMemStats(&after)
		must(b, n.Set(ctx, c))
		t2 := time.Now()
		must(b, n.Set(ctx, overlaynet.Config{}))
		up, look, down = up+t1.Sub(t0), look+t2.Sub(t1), down+time.Since(t2)
		bytes += after.HeapAlloc - min(after.HeapAlloc, before.HeapAlloc)
	}
	b.ReportMetric(up.Seconds()*1e3/float64(b.N)/200, "ms/connect")
	b.ReportMetric(look.Seconds()*1e3/float64(b.N), "ms/look")
	b.ReportMetric(down.Seconds()*1e3/float64(b.N), "ms/down200")
	b.ReportMetric(float64(bytes)/float64(b.N)/200/1024, "KiB/container")
}
