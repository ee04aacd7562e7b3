package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dhow-project/dhow/stack"
)

// desk is a session's stream without a network, with the node's mirror at its end.
type desk struct {
	ctx     context.Context
	mirror  *mirror
	whole   chan struct{} // a whole update has been taken in
	bytes   *atomic.Int64
	updates *atomic.Int64
}

func (d *desk) Context() context.Context     { return d.ctx }
func (d *desk) SetHeader(metadata.MD) error  { return nil }
func (d *desk) SendHeader(metadata.MD) error { return nil }
func (d *desk) SetTrailer(metadata.MD)       {}
func (d *desk) RecvMsg(any) error            { <-d.ctx.Done(); return d.ctx.Err() }

func (d *desk) SendMsg(m any) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	d.bytes.Add(int64(len(data)))
	var got fromServer
	if err := json.Unmarshal(data, &got); err != nil {
		return err
	}
	if got.Update == nil {
		return nil
	}
	if err := d.mirror.take(got.Update); err != nil {
		return err
	}
	if !got.Update.More {
		d.updates.Add(1)
		d.whole <- struct{}{}
	}
	return nil
}

// crowd is what the large test has: containers in networks on nodes.
type crowd struct {
	core  *fakeCore
	nodes int
	desks []*desk

	bytes, updates atomic.Int64
}

func newCrowd(nodes, networks, services, endpoints int) *crowd {
	c := &crowd{core: newCore(), nodes: nodes}
	topics := make([]map[string]bool, nodes)
	for n := range topics {
		topics[n] = map[string]bool{"": true}
	}
	c.core.directories[""] = &stack.Directory{}
	for i := range endpoints {
		network, node := fmt.Sprintf("net-%03d", i%networks), (i*7+i/networks*13)%nodes
		topics[node][network] = true
		d := c.core.directories[network]
		if d == nil {
			d = &stack.Directory{}
			c.core.directories[network] = d
		}
		service := fmt.Sprintf("stack/service-%04d", i%services)
		d.Endpoints = append(d.Endpoints, stack.Endpoint{
			ID: fmt.Sprintf("task-%05d", i), Network: network, Node: nodeName(node), Container: fmt.Sprintf("%064d", i), Service: service, Up: true, Ready: true,
			Name: fmt.Sprint("stack-service-", i), IPv4: fmt.Sprintf("10.%d.%d.%d", i%networks, i/250%250, i%250+2), Names: []string{fmt.Sprintf("%012d", i)}, Aliases: []string{"service"},
		})
		if i < services {
			d.Services = append(d.Services, stack.ServiceAddress{Service: service, IPv4: fmt.Sprintf("10.250.%d.%d", i/250, i%250+1), Names: []string{"service"}})
		}
	}
	for n := range topics {
		for t := range topics[n] {
			c.core.topics[nodeName(n)] = append(c.core.topics[nodeName(n)], t)
		}
		c.desks = append(c.desks, &desk{mirror: newMirror(), bytes: &c.bytes, updates: &c.updates})
	}
	return c
}

func nodeName(n int) string { return fmt.Sprintf("node-%03d", n) }

// call opens a session of each node and waits until all are told.
func (c *crowd) call(t testing.TB) (r *reign, stop func()) {
	r = newReign(NewServer(ServerConfig{Node: "m"}), c.core)
	ctx, cancel := context.WithCancel(context.Background())
	if err := r.spread(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for n, d := range c.desks {
		d.ctx, d.whole = ctx, make(chan struct{}, 64)
		h := &hello{Protocol: protocol}
		d.mirror.greet(h)
		all.Go(func() { r.serve(d, nodeName(n), h) })
	}
	for _, d := range c.desks {
		<-d.whole
	}
	return r, func() { cancel(); all.Wait() }
}

// readers of a network.
func (c *crowd) readers(network string) (out []*desk) {
	for n, d := range c.desks {
		for _, t := range c.core.topics[nodeName(n)] {
			if t == network {
				out = append(out, d)
			}
		}
	}
	return out
}

// change makes one container ready or not, and waits until all readers of its
// network know.
func (c *crowd) change(t testing.TB, r *reign, network string, i int) {
	d := with(c.core.directories[network], i, func(e *stack.Endpoint) { e.Ready = !e.Ready })
	c.core.file(network, d, EndpointKey(d.Endpoints[i].ID))
	if err := r.spread(); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.readers(network) {
		<-d.whole
	}
}

// TestAChangeCostsWhatItsReadersGet among 5,000 containers of 1,000 services in
// 200 networks on 100 nodes.
func TestAChangeCostsWhatItsReadersGet(t *testing.T) {
	c := newCrowd(100, 200, 1000, 5000)
	began := time.Now()
	r, stop := c.call(t)
	t.Logf("all of it: %v, %d bytes for each of %d nodes", time.Since(began).Round(time.Millisecond), c.bytes.Load()/100, c.nodes)
	readers := len(c.readers("net-007"))
	c.bytes.Store(0)
	c.updates.Store(0)
	c.core.asked = 0
	began = time.Now()
	c.change(t, r, "net-007", 3)
	t.Logf("one container's change: %v, %d bytes for %d nodes", time.Since(began).Round(10*time.Microsecond), c.bytes.Load(), readers)
	if n := int(c.updates.Load()); n != readers || readers > 30 {
		t.Errorf("%d nodes were told, %d have something in the network", n, readers)
	}
	if n := c.bytes.Load() / int64(readers); n > 700 {
		t.Errorf("one container's change is %d bytes for each node", n)
	}
	if c.core.asked != 1 {
		t.Errorf("the state was asked for %d records to tell of one", c.core.asked)
	}
	stop()
	shown := c.desks[0].mirror.directory("net-000")
	c.bytes.Store(0)
	began = time.Now()
	_, stop = c.call(t)
	defer stop()
	each := c.bytes.Load() / int64(c.nodes)
	t.Logf("calls after a leader change: %v, %d bytes for each node", time.Since(began).Round(time.Millisecond), each)
	if each > 400 {
		t.Errorf("%d bytes for a node that has all already", each)
	}
	if c.desks[0].mirror.directory("net-000") != shown {
		t.Error("what has not changed is another pointer")
	}
}

// BenchmarkDirectoryChange is one container's change, from the state to the
// sessions of its network's nodes.
func BenchmarkDirectoryChange(b *testing.B) {
	c := newCrowd(100, 200, 1000, 5000)
	r, stop := c.call(b)
	defer stop()
	d := c.core.directories["net-000"]
	c.core.directories["net-000"] = with(d, 3, func(*stack.Endpoint) {})
	b.ReportAllocs()
	for b.Loop() {
		e := &c.core.directories["net-000"].Endpoints[3]
		e.Ready = !e.Ready
		if _, err := r.topics.spread(Touched{Topics: map[string][]string{"net-000": {EndpointKey(e.ID)}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDirectoryTaken is one container's change as a node takes it in.
func BenchmarkDirectoryTaken(b *testing.B) {
	for _, size := range []int{25, 5000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f, d := newFolder(), directory(size)
			f.set(d, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := d.Endpoints[i%size]
				e.Ready = i/size%2 == 1
				f.set(&stack.Directory{Endpoints: []stack.Endpoint{e}}, []string{EndpointKey(e.ID)})
			}
		})
	}
}
