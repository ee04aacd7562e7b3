package overlaynet_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// crowd is a node that is in all of 200 networks with 1,000 services and 5,000
// containers on ten nodes, a hundred of them here.
func crowd() (*source, []overlaynet.Sandbox) {
	const networks, services, tasks = 200, 5, 5
	src := newSource()
	src.cluster(10)
	var own []overlaynet.Sandbox
	for i := range networks {
		name := fmt.Sprint("net", i)
		def := stack.Network{Name: name, ID: "id-" + name, VNI: 1000 + i, Subnets: []stack.Subnet{{CIDR: fmt.Sprintf("10.%d.%d.0/24", 80+i/100, i%100)}}, Virtual: []string{fmt.Sprintf("10.%d.%d.0/24", 90+i/100, i%100)}}
		src.nets[name] = def
		d := &stack.Directory{}
		for j := range services {
			service := fmt.Sprintf("s%d/web%d", i, j)
			d.Services = append(d.Services, stack.ServiceAddress{Service: service, IPv4: fmt.Sprintf("10.%d.%d.%d", 90+i/100, i%100, 1+j), Names: []string{fmt.Sprint("web", j)}})
			for k := range tasks {
				e := far(fmt.Sprintf("t%d-%d-%d", i, j, k), fmt.Sprint("n", 2+(i+j+k)%9), name, service, fmt.Sprintf("10.%d.%d.%d", 80+i/100, i%100, 10+j*tasks+k))
				if j == 0 && k == 0 && i%2 == 0 { // each is in two networks
					e.Node = "n1"
					own = append(own, overlaynet.Sandbox{ID: e.ID, Name: e.ID, DNSNames: []string{e.ID}, PortGroup: service, Attachments: []stack.Attachment{
						{Network: name, Given4: e.IPv4, Aliases: []string{"web0"}}, {Network: fmt.Sprint("net", i+1), Given4: fmt.Sprintf("10.%d.%d.200", 80+i/100, i%100+1)}}})
				}
				d.Endpoints = append(d.Endpoints, e)
			}
		}
		src.dirs[name] = d
	}
	return src, own
}

// BenchmarkCrowd is one container of another node that comes or goes; beside
// it, what it took to make everything, and the memory that it takes.
func BenchmarkCrowd(b *testing.B) {
	if !inHost(b) {
		return
	}
	run(b, "sh", "-c", "ip link add up1 type dummy 2>/dev/null || ip link add up1 type bridge; ip addr add 192.0.2.1/24 dev up1 && ip link set up1 up")
	src, own := crowd()
	n := idleNode(b, b.TempDir(), src)
	ctx := context.Background()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	t0 := time.Now()
	must(b, n.Restore(ctx, nil))
	for _, sb := range own {
		n.connect(sb)
		n.SetReady(sb.ID, true)
	}
	must(b, n.Round(ctx))
	first := time.Since(t0)
	runtime.GC()
	runtime.ReadMemStats(&after)
	extra := far("extra", "n5", "net7", "s7/web3", "10.80.7.220")
	t0 = time.Now()
	must(b, n.Round(ctx))
	idle := time.Since(t0)
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			src.put("net7", extra)
		} else {
			src.take("net7", "extra")
		}
		must(b, n.RoundOnly(ctx))
	}
	b.ReportMetric(first.Seconds(), "s/first")
	b.ReportMetric(idle.Seconds()*1e3, "ms/idle-round")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
	var have []overlaynet.Restored
	for _, sb := range own {
		c, _ := n.Connected(sb.ID)
		have = append(have, overlaynet.Restored{Sandbox: sb, Connected: *c, Ready: true})
	}
	n.stop()
	next := idleNode(b, n.dir, src)
	t0 = time.Now()
	must(b, next.Restore(ctx, have))
	b.ReportMetric(time.Since(t0).Seconds(), "s/restore")
	must(b, next.Set(ctx, overlaynet.Config{}))
}
