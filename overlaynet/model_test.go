package overlaynet_test

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// world is a Manager, what it is to follow, and the sandboxes that it has.
type world struct {
	src  *source
	k    *kernel
	m    *overlaynet.Manager
	have map[string]overlaynet.Restored
}

var modelNets = []string{"front", "back", "bridge"}

func newWorld(t *testing.T) *world {
	w := &world{src: newSource(span("front", 1), span("back", 2), bridgeNet("bridge", "10.70.9.0/24")), k: newKernel(), have: map[string]overlaynet.Restored{}}
	w.m = w.k.manager(t, w.src)
	return w
}

// drawEndpoint is one of a few containers of this node and three others. Each
// has an address of its own.
func drawEndpoint(t *rapid.T, network string, n int) stack.Endpoint {
	i := rapid.IntRange(0, 7).Draw(t, "endpoint")
	e := far(fmt.Sprint("t", i), fmt.Sprint("n", rapid.IntRange(1, 4).Draw(t, "node")), network, rapid.SampledFrom([]string{"", "shop/web", "shop/db"}).Draw(t, "service"), fmt.Sprintf("10.70.%d.%d", n, 100+i))
	e.Up, e.Ready = rapid.Bool().Draw(t, "up"), rapid.Bool().Draw(t, "ready")
	e.Ready = e.Ready && e.Up
	return e
}

func (w *world) editDirectory(t *rapid.T) {
	n := rapid.IntRange(1, 2).Draw(t, "network")
	network := modelNets[n-1]
	for range rapid.IntRange(1, 3).Draw(t, "changes") {
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			w.src.put(network, drawEndpoint(t, network, n))
		case 1:
			w.src.take(network, fmt.Sprint("t", rapid.IntRange(0, 7).Draw(t, "gone")))
		case 2:
			var list []stack.ServiceAddress
			for i, s := range []string{"shop/db", "shop/web"} {
				if rapid.Bool().Draw(t, "there") {
					a := stack.ServiceAddress{Service: s, Names: []string{s[5:]}, Sticky: rapid.Bool().Draw(t, "sticky")}
					if rapid.Bool().Draw(t, "virtual") {
						a.IPv4 = fmt.Sprintf("10.71.%d.%d", n, 1+i+rapid.IntRange(0, 1).Draw(t, "other")*10)
					}
					list = append(list, a)
				}
			}
			w.src.edit(network, func(d *stack.Directory) { d.Services = list })
		}
	}
}

func (w *world) editPublished(t *rapid.T) {
	if rapid.Bool().Draw(t, "endpoints") {
		w.src.put("", drawEndpoint(t, "front", 1))
		w.src.take("", fmt.Sprint("t", rapid.IntRange(0, 7).Draw(t, "gone")))
		return
	}
	var list []stack.Published
	for i, s := range []string{"shop/db", "shop/web"} {
		if rapid.Bool().Draw(t, "published") {
			p := stack.Published{Service: s, Sticky: rapid.Bool().Draw(t, "sticky"), Local: rapid.Bool().Draw(t, "local")}
			for j := range rapid.IntRange(1, 2).Draw(t, "ports") {
				p.Ports = append(p.Ports, stack.Port{HostPort: uint16(8080 + 10*i + j), ContainerPort: uint16(80 + j)})
			}
			list = append(list, p)
		}
	}
	w.src.edit("", func(d *stack.Directory) { d.Published = list })
}

func (w *world) editFabric(t *rapid.T) {
	nodes := rapid.SampledFrom([]int{0, 3, 4}).Draw(t, "nodes")
	if nodes == 0 {
		w.src.mu.Lock()
		w.src.fabric = overlaynet.Fabric{Known: true, Node: "n1"}
		w.src.mu.Unlock()
		return
	}
	w.src.cluster(nodes)
	w.src.fabric.MTU = rapid.SampledFrom([]int{1450, 1400}).Draw(t, "mtu")
	w.src.peer(fmt.Sprint("n", rapid.IntRange(2, 4).Draw(t, "peer")), func(p *overlaynet.Peer) {
		switch rapid.IntRange(0, 3).Draw(t, "peer is") {
		case 0:
			p.Down = true
		case 1:
			p.Addr = netip.MustParseAddr("192.0.2.77")
		case 2:
			p.Number = 0
		}
	})
}

// change does one thing to the sandboxes.
func (w *world) editSandboxes(t *rapid.T, ctx *testing.T) {
	id := fmt.Sprint("c", rapid.IntRange(0, 4).Draw(t, "sandbox"))
	if r, ok := w.have[id]; ok {
		if rapid.Bool().Draw(t, "goes") {
			must(ctx, w.m.Disconnect(ctx.Context(), id))
			delete(w.have, id)
			return
		}
		r.Ready = !r.Ready
		w.m.SetReady(id, r.Ready)
		w.have[id] = r
		return
	}
	number := id[1] - '0'
	sb := overlaynet.Sandbox{ID: id, Name: id, DNSNames: []string{id}, PortGroup: rapid.SampledFrom([]string{"", "shop/web", "shop/db"}).Draw(t, "group")}
	from := rapid.IntRange(0, 2).Draw(t, "from")
	for i := from; i < rapid.IntRange(from+1, 3).Draw(t, "to"); i++ {
		at := stack.Attachment{Network: modelNets[i], Aliases: []string{"alias"}, Given4: fmt.Sprintf("10.70.%d.%d", i+1, 20+number)}
		if i == 2 {
			at.Given4, at.IPv4 = "", fmt.Sprintf("10.70.9.%d", 20+number)
		}
		sb.Attachments = append(sb.Attachments, at)
	}
	switch {
	case sb.PortGroup == "shop/web" && rapid.Bool().Draw(t, "claims"):
		sb.Ports = []stack.Port{{HostPort: 8090, ContainerPort: 80}}
	case sb.PortGroup == "shop/db" && rapid.Bool().Draw(t, "claims"):
		sb.Ports = []stack.Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	}
	_, err := w.m.Connect(ctx.Context(), sb)
	must(ctx, err)
	w.have[id] = overlaynet.Restored{Sandbox: sb}
}

func (w *world) config() (c overlaynet.Config) {
	for _, id := range []string{"c0", "c1", "c2", "c3", "c4"} {
		if r, ok := w.have[id]; ok {
			c.Sandboxes = append(c.Sandboxes, r)
		}
	}
	return c
}

// fresh is what a Manager makes that never knew anything else.
func (w *world) fresh(t *testing.T) string {
	k := newKernel()
	m := k.manager(t, w.src)
	must(t, m.Restore(t.Context(), nil))
	if c := w.config(); len(c.Sandboxes) > 0 {
		must(t, m.Set(t.Context(), c))
	}
	must(t, m.Round(t.Context()))
	return k.show()
}

// Whatever happened before, what is there is what the last state asks for.
func TestEveryStateFromEveryOther(t *testing.T) {
	empty := newWorld(t).k.show()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		must(t, w.m.Restore(t.Context(), nil))
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			for range rapid.IntRange(1, 3).Draw(rt, "at once") {
				switch rapid.IntRange(0, 4).Draw(rt, "step") {
				case 0, 1:
					w.editSandboxes(rt, t)
				case 2:
					w.editDirectory(rt)
				case 3:
					w.editPublished(rt)
				case 4:
					w.editFabric(rt)
				}
			}
			call := rapid.SampledFrom([]string{"", "", "SetSegment", "SetRemotes", "SetMesh", "Apply", "Reset", "Forget"}).Draw(rt, "fails")
			if call != "" {
				w.k.failing(call, fmt.Errorf("%s: no", call))
				_ = w.m.Round(t.Context()) // it is tried again
				w.k.failing(call, nil)
			}
			must(t, w.m.Round(t.Context()))
			if got, want := w.k.show(), w.fresh(t); got != want {
				rt.Fatalf("after changes\n%s\nfrom nothing\n%s", got, want)
			}
		}
		must(t, w.m.Set(t.Context(), overlaynet.Config{}))
		must(t, w.m.Round(t.Context()))
		if got := w.k.show(); got != empty {
			rt.Fatalf("the zero Config leaves\n%s\nwant\n%s", got, empty)
		}
	})
}
