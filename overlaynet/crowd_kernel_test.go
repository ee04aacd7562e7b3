package overlaynet_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/stack"
)

// throng is what the cluster's state says, and the containers of this node, n1.
type throng struct {
	t     *testing.T
	n     *node
	src   *source
	rnd   *rand.Rand
	nets  map[string]*area
	down  map[string]bool
	here  map[string]*overlaynet.Restored // by task ID
	fresh int                             // tasks made so far
	calm  bool                            // nodes stay as they are: a change of those has all networks looked at, which hides what was missed
}

// area is one network of it.
type area struct {
	def      stack.Network
	index    int
	tasks    map[string]stack.Endpoint // by ID
	services map[string]stack.ServiceAddress
	next     int  // last octet of the next address
	dirty    bool // to be published
	unseen   bool // the node has not heard of it: no task of it comes there before
}

const crowdNets, crowdServices, crowdTasks, crowdNodes, crowdHere, crowdPublished = 200, 5, 5, 10, 60, 20

func (a *area) addr(host int) string {
	return fmt.Sprintf("10.%d.%d.%d", 80+a.index/100, a.index%100, host)
}

func (a *area) service(j int) string { return fmt.Sprintf("s%d/web%d-%d", a.index, a.index, j) }

// make fills an empty network; every fifth service has no virtual address.
func (w *throng) make(i, generation int) *area {
	a := &area{index: i, tasks: map[string]stack.Endpoint{}, services: map[string]stack.ServiceAddress{}, next: 60, dirty: true, unseen: true}
	virtual := fmt.Sprintf("10.%d.%d.", 90+i/100, i%100)
	a.def = stack.Network{Name: fmt.Sprint("net", i), ID: fmt.Sprintf("id-%d-%d", i, generation), VNI: 1000 + i + generation*crowdNets, Subnets: []stack.Subnet{{CIDR: a.addr(0) + "/24"}}, Virtual: []string{virtual + "0/24"}}
	for j := range crowdServices {
		s := stack.ServiceAddress{Service: a.service(j), Names: []string{bareName(a.service(j))}, Sticky: j == 3}
		if j != 4 {
			s.IPv4 = virtual + fmt.Sprint(1+j)
		}
		a.services[s.Service] = s
		for k := range crowdTasks {
			w.come(a, a.service(j), w.elsewhere(), a.addr(10+j*crowdTasks+k))
		}
	}
	w.nets[a.def.Name] = a
	return a
}

func bareName(service string) string { return service[strings.IndexByte(service, '/')+1:] }

func (w *throng) elsewhere() string { return fmt.Sprint("n", 2+w.rnd.IntN(crowdNodes-1)) }

func (w *throng) come(a *area, service, node, addr string) string {
	w.fresh++
	e := far(fmt.Sprint("t", w.rnd.IntN(10), "-", w.fresh), node, a.def.Name, service, addr) // in no order
	e.Aliases = []string{bareName(service)}
	a.tasks[e.ID], a.dirty = e, true
	return e.ID
}

// publish lets the node see all that has changed, at once.
func (w *throng) publish() {
	w.src.mu.Lock()
	for name, a := range w.nets {
		w.src.nets[name] = a.def
	}
	for name := range w.src.nets {
		if w.nets[name] == nil {
			delete(w.src.nets, name)
			delete(w.src.dirs, name)
		}
	}
	w.src.mu.Unlock()
	for name, a := range w.nets {
		if a.dirty {
			w.src.edit(name, func(d *stack.Directory) {
				d.Endpoints, d.Services = slices.Collect(maps.Values(a.tasks)), slices.Collect(maps.Values(a.services))
			})
			a.dirty, a.unseen = false, false
		}
	}
	w.src.edit("", func(d *stack.Directory) {
		d.Endpoints, d.Published = nil, nil
		for i := range crowdPublished {
			a := w.nets[fmt.Sprint("net", i)]
			if a == nil || a.services[a.service(0)].Service == "" {
				continue
			}
			d.Published = append(d.Published, stack.Published{Service: a.service(0), Ports: []stack.Port{{HostPort: uint16(20000 + i), ContainerPort: 80}}})
			for _, e := range a.tasks {
				if e.Service == a.service(0) {
					d.Endpoints = append(d.Endpoints, e)
				}
			}
		}
	})
	for i := 2; i <= crowdNodes; i++ {
		w.src.peer(fmt.Sprint("n", i), func(p *overlaynet.Peer) { p.Down = w.down[fmt.Sprint("n", p.Number)] })
	}
	w.src.change()
}

// start runs a task here: in its own network and in others of the same rest modulo 60.
func (w *throng) start(a *area, id string) {
	e := a.tasks[id]
	e.Node = "n1"
	a.tasks[id], a.dirty = e, true
	r := &overlaynet.Restored{Sandbox: overlaynet.Sandbox{ID: "c" + id, Name: id, DNSNames: []string{id}, PortGroup: e.Service,
		Attachments: []stack.Attachment{{Network: a.def.Name, Given4: e.IPv4, Aliases: e.Aliases}}}}
	if a.index < crowdPublished && e.Service == a.service(0) {
		r.Sandbox.Ports = []stack.Port{{HostPort: uint16(20000 + a.index), ContainerPort: 80}}
	}
	for i := a.index % crowdHere; i < crowdNets; i += crowdHere {
		b := w.nets[fmt.Sprint("net", i)]
		if b == nil || b == a || b.unseen {
			continue
		}
		x := e
		x.Network, x.IPv4, x.Aliases = b.def.Name, b.free(), nil
		b.tasks[id], b.dirty = x, true
		r.Attachments = append(r.Attachments, stack.Attachment{Network: b.def.Name, Given4: x.IPv4})
	}
	r.Connected = *w.n.connect(r.Sandbox)
	w.here[id] = r
	w.ready(id, e.Ready)
}

// free is an address that nobody has, or "".
func (a *area) free() string {
	for range 190 {
		a.next = 60 + (a.next-59)%190
		addr := a.addr(a.next)
		if !slices.ContainsFunc(slices.Collect(maps.Values(a.tasks)), func(e stack.Endpoint) bool { return e.IPv4 == addr }) {
			return addr
		}
	}
	return ""
}

func (w *throng) ready(id string, ready bool) {
	w.here[id].Ready = ready
	w.n.SetReady("c"+id, ready)
}

// end ends a sandbox; its task is gone, or goes on elsewhere with its addresses.
func (w *throng) end(id, node string) {
	must(w.t, w.n.Disconnect(w.t.Context(), "c"+id))
	delete(w.here, id)
	for _, a := range w.nets {
		if e, ok := a.tasks[id]; ok {
			if delete(a.tasks, id); node != "" {
				e.Node, e.Up = node, true
				a.tasks[id] = e
			}
			a.dirty = true
		}
	}
}

// remove takes a network away from containers and state, and may make it anew.
func (w *throng) remove(a *area, again bool) {
	for id, r := range w.here {
		switch at := slices.IndexFunc(r.Attachments, func(x stack.Attachment) bool { return x.Network == a.def.Name }); {
		case at >= 0 && len(r.Attachments) == 1:
			w.end(id, "")
		case at >= 0:
			c, err := w.n.DisconnectNetwork(w.t.Context(), "c"+id, a.def.Name)
			must(w.t, err)
			r.Attachments, r.Connected = slices.Delete(slices.Clone(r.Attachments), at, at+1), *c
		}
	}
	delete(w.nets, a.def.Name)
	if again {
		w.make(a.index, a.def.VNI/crowdNets-4)
	}
}

// TestCrowd is a node of ten in 200 networks with 1,000 services and 5,000
// containers. After 500 changes kernel and names are what the state says, with
// nothing twice and nothing left over; and nothing is left of all that in the end.
func TestCrowd(t *testing.T) {
	if !inHost(t) {
		return
	}
	run(t, "sh", "-c", "ip link add up1 type dummy 2>/dev/null || ip link add up1 type bridge; ip link set up1 addrgenmode none; ip addr add 192.0.2.1/24 dev up1 && ip link set up1 up")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := &throng{t: t, src: newSource(), rnd: rand.New(rand.NewPCG(seed, 1)), nets: map[string]*area{}, down: map[string]bool{}, here: map[string]*overlaynet.Restored{}}
	w.src.cluster(crowdNodes)
	for i := range crowdNets {
		w.make(i, 0)
	}
	w.publish()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.53\n"), 0o600))
	answering(t, "", "127.0.0.53:53", "192.0.2.53")
	before := traceOfRoutes(t, dir)
	w.n = newNode(t, dir, w.src)
	must(t, w.n.Restore(t.Context(), nil))
	for i := range crowdHere {
		a := w.nets[fmt.Sprint("net", i)]
		ids := slices.Sorted(maps.Keys(a.tasks))
		w.start(a, ids[w.rnd.IntN(len(ids))])
	}
	w.publish()
	w.compare("at first")
	w.ask()
	for done := 0; done < 500; {
		burst := 1 + w.rnd.IntN(40)
		for range burst {
			w.change()
		}
		w.publish()
		if done += burst; done >= 350 && !w.calm {
			w.compare("after most changes")
			w.calm = true
		}
	}
	w.compare("after 500 changes")
	w.ask()
	if repaired, err := w.n.rules.Check(t.Context()); repaired || err != nil {
		t.Errorf("the rules had to be repaired: %v, %v", repaired, err)
	}
	must(t, w.n.Set(context.Background(), overlaynet.Config{}))
	if after := traceOfRoutes(t, dir); after != before {
		t.Errorf("left:\n%s\nwant\n%s", after, before)
	}
}

// traceOfRoutes is trace with all tables and rules, and entries of the bridges.
func traceOfRoutes(t *testing.T, dir string) string {
	return trace(t, dir) + run(t, "sh", "-c", "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip neigh show nud permanent; bridge fdb show dynamic; ip -d link show type vxlan; ls /run/netns 2>/dev/null | grep "+overlaynet.Mark(dir)+" || true")
}

func parseAddr(s string) netip.Addr { a, _ := netip.ParseAddr(s); return a }
