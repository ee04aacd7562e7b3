package overlaynet_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dhow-project/dhow/stack"
)

// pick is one of the keys, always the same with the same seed.
func pick[V any](w *throng, m map[string]V) (key string, ok bool) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 {
		return "", false
	}
	return keys[w.rnd.IntN(len(keys))], true
}

// change does one thing to the cluster. What is of other nodes is seen with the
// next publish; what is of this one happens at once, before the state says so.
func (w *throng) change() {
	name, _ := pick(w, w.nets)
	a := w.nets[name]
	id, ok := pick(w, a.tasks)
	e := a.tasks[id]
	other := ok && e.Node != "n1"
	own := strings.HasPrefix(e.Service, fmt.Sprintf("s%d/", a.index)) // of this network: a successor has its name there
	mine, _ := pick(w, w.here)
	switch k := w.rnd.IntN(100); {
	case k < 15:
		if addr := a.free(); addr != "" {
			w.come(a, a.service(w.rnd.IntN(crowdServices)), w.elsewhere(), addr)
		}
	case k < 30 && other:
		delete(a.tasks, id)
	case k < 42 && other:
		e.Node = w.elsewhere()
		a.tasks[id] = e
	case k < 50 && other && own: // its successor has its address
		delete(a.tasks, id)
		w.come(a, e.Service, w.elsewhere(), e.IPv4)
	case k < 60 && other:
		e.Ready = !e.Ready && e.Up
		a.tasks[id] = e
	case k < 65 && other:
		e.Up = !e.Up
		e.Ready = e.Up
		a.tasks[id] = e
	case k < 77:
		w.changeServices(a)
	case k < 80 && !w.calm:
		n := w.elsewhere()
		w.down = map[string]bool{n: !w.down[n]} // and the one that was down is back
	case k < 82:
		w.remove(a, w.rnd.IntN(2) == 0)
	case k < 85 && mine != "":
		w.end(mine, "")
	case k < 88 && mine != "":
		w.end(mine, w.elsewhere())
	case k < 94 && other && !a.unseen && e.Up && own:
		w.bringHere(a, id)
	case mine != "":
		w.ready(mine, !w.here[mine].Ready)
	}
	a.dirty = true
}

// bringHere moves a task of another node here; its records in other networks go.
func (w *throng) bringHere(a *area, id string) {
	for _, b := range w.nets {
		if _, ok := b.tasks[id]; ok && b != a {
			delete(b.tasks, id)
			b.dirty = true
		}
	}
	w.start(a, id)
}

// changeServices has a service go, come back, or take the address of one that goes.
func (w *throng) changeServices(a *area) {
	gone, back := a.service(w.rnd.IntN(crowdServices)), a.service(w.rnd.IntN(crowdServices))
	old, there := a.services[gone]
	if !there {
		a.services[gone] = stack.ServiceAddress{Service: gone, Names: []string{bareName(gone)}, IPv4: a.freeVirtual()}
		return
	}
	delete(a.services, gone)
	if gone != back && w.rnd.IntN(2) == 0 {
		a.services[back] = stack.ServiceAddress{Service: back, Names: []string{bareName(back)}, IPv4: old.IPv4}
	}
}

func (a *area) freeVirtual() string {
	for i := 1; ; i++ {
		addr := fmt.Sprintf("10.%d.%d.%d", 90+a.index/100, a.index%100, i)
		if !slices.ContainsFunc(slices.Collect(maps.Values(a.services)), func(s stack.ServiceAddress) bool { return s.IPv4 == addr }) {
			return addr
		}
	}
}

// An address that goes from one service to another at once, whichever comes
// first by name, leads to the other.
func TestAVirtualAddressChangesHands(t *testing.T) {
	src, k, m := shop(t)
	src.put("front", far("t3", "n3", "front", "shop/api", "10.70.1.23"))
	for _, c := range [][2]string{{"shop/api", "10.70.1.23"}, {"shop/web", "10.70.1.21"}} {
		src.edit("front", func(d *stack.Directory) {
			d.Services = []stack.ServiceAddress{{Service: c[0], IPv4: "10.71.1.1", Names: []string{bareName(c[0])}}}
		})
		must(t, m.Round(t.Context()))
		wantShow(t, k, c[0], "virtual {Network:id-front Addr:10.71.1.1}: {Backends:[{Addr:"+c[1], "service [id-front "+c[0]+"]")
	}
}
