package schedule

import (
	"slices"

	"github.com/dhow-project/dhow/stack"
)

// want is one request, read: everything that the tests of a host look at.
type want struct {
	c         *Cluster
	task      *stack.Task
	need      *need
	service   *service // nil: as if a host had no task of the service
	platforms []string
	pin, home string
	volumes   []Volume
	mates     []Mate
	needs     []*need        // of mates without node
	sum       need           // cpu, memory, generic and ports of the task and of needs
	avoid     map[*host]bool // for the service's failures there
	replaces  *host          // nil: none
	image     bool           // some host has the image
}

// plain says whether the tests of a host depend on the need and the service only.
func (w *want) plain() bool {
	return w.pin == "" && w.home == "" && len(w.volumes) == 0 && len(w.mates) == 0
}

// test is what a host can fail, in the order in which it is tested.
type test uint8

const (
	passed test = iota
	isDown
	isDrained
	isPaused
	ofOtherPlatform
	ofOtherImage
	badConstraint
	offConstraint // its index in Filter.constraints
	offHome
	lacksVolume // its index in want.volumes
	offMate     // its index in want.mates
	unfitMate   // index in want.needs
	offService  // index in need.near
	isShunned
	portTaken // index in want.sum.ports
	atLimit
	lacksMemory
	lacksCPU
	lacksGeneric // index in want.sum.generic
)

// verdict is the first test that a host failed.
type verdict struct {
	test  test
	index int
}

// test runs all tests on a host that is a node.
func (w *want) test(h *host) verdict {
	n := h.node
	switch {
	case n.Down:
		return verdict{isDown, 0}
	case n.Availability == stack.Drain:
		return verdict{isDrained, 0}
	case n.Availability == stack.Paused:
		return verdict{isPaused, 0}
	}
	if v := w.need.filter.test(n); v.test != passed {
		return v
	}
	if len(w.platforms) > 0 && w.need.filter.platform == "" && !slices.ContainsFunc(w.platforms, func(p string) bool { return runs(p, n) }) {
		return verdict{ofOtherImage, 0}
	}
	if v := w.places(h); v.test != passed {
		return v
	}
	if v := w.neighbours(h); v.test != passed {
		return v
	}
	return w.room(h)
}

func (f *Filter) test(n *stack.Node) verdict {
	if f.platform != "" && !runs(f.platform, n) {
		return verdict{ofOtherPlatform, 0}
	}
	if f.bad != nil {
		return verdict{badConstraint, 0}
	}
	for i := range f.constraints {
		if !f.constraints[i].Matches(n) {
			return verdict{offConstraint, i}
		}
	}
	return verdict{}
}

// places tests where files, volumes and mates are.
func (w *want) places(h *host) verdict {
	if w.home != "" && w.home != h.id {
		return verdict{offHome, 0}
	}
	for i := range w.volumes {
		if !w.hasVolume(&w.volumes[i], h) {
			return verdict{lacksVolume, i}
		}
	}
	for i := range w.mates {
		if at := w.c.stays(&w.mates[i]); at != "" && at != h.id {
			return verdict{offMate, i}
		}
	}
	for i, n := range w.needs {
		if n.filter.test(h.node).test != passed {
			return verdict{unfitMate, i}
		}
	}
	return verdict{}
}

// hasVolume says whether the volume is on the host or may be made there.
func (w *want) hasVolume(v *Volume, h *host) bool {
	switch at := w.nodeOf(v); {
	case at != "":
		return at == h.id
	case len(v.Nodes) > 0:
		return slices.Contains(v.Nodes, h.id)
	}
	return !v.External
}

// nodeOf is the node that a volume is bound to, "" when it is free.
func (w *want) nodeOf(v *Volume) string {
	if v.Node != "" {
		return v.Node
	}
	return w.c.bound[v.Name]
}

// neighbours tests which services' tasks are on the host.
func (w *want) neighbours(h *host) verdict {
	if w.service == nil { // the host has no task of the service, and who shares the result repels and attracts nobody
		return verdict{}
	}
	for i := range w.need.near {
		if !w.c.near(w.service, &w.need.near[i], h) {
			return verdict{offService, i}
		}
	}
	if w.service.shunned[h] > 0 {
		return verdict{isShunned, 0}
	}
	return verdict{}
}

// near says whether an affinity of a service holds on a host. A service that
// wants to be with itself may begin anywhere.
func (c *Cluster) near(sv *service, a *affinity, h *host) bool {
	if a.with && a.self && sv.live == 0 {
		return true
	}
	for _, name := range a.names {
		o := c.services[name]
		if o == nil {
			continue
		}
		if a.with && o.own[h].live > 0 {
			return true
		}
		if !a.with && o.own[h].all > 0 {
			return false
		}
	}
	return !a.with
}

// room tests what the host has left. What it does not know of itself is not limited.
func (w *want) room(h *host) verdict {
	n := h.node
	for i, p := range w.sum.ports {
		if h.taken(p) {
			return verdict{portTaken, i}
		}
	}
	if limit := w.need.limit; limit > 0 && w.service != nil && int(w.service.own[h].all) >= limit {
		return verdict{atLimit, 0}
	}
	if w.sum.memory > 0 && n.Memory > 0 && h.memory+w.sum.memory > n.Memory {
		return verdict{lacksMemory, 0}
	}
	if w.sum.cpu > 0 && n.NanoCPUs > 0 && h.cpu+w.sum.cpu > n.NanoCPUs {
		return verdict{lacksCPU, 0}
	}
	for i, g := range w.sum.generic {
		if h.generic[g.kind]+g.n > n.Generic[g.kind] {
			return verdict{lacksGeneric, i}
		}
	}
	return verdict{}
}
