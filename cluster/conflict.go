package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// NodePorts asks a node which of the host ports processes on it have that are
// none of the cluster's: a sentence for each, "port 80/tcp is in use by process
// nginx (pid 812)".
type NodePorts interface {
	PortsTaken(ctx context.Context, node string, ports []stack.Port) ([]string, error)
}

// portConflicts refuses host ports of a plan that cannot be published because
// another service has them. A machine alone finds out when a container starts:
// there, services may take turns.
func portConflicts(snap *state.Snapshot, p *plan.Plan) error {
	if c := snap.Cluster(); c == nil || !c.Open {
		return nil
	}
	names := p.Stack.ServiceNames()
	var found stack.Problems
	for i, name := range names {
		if _, ok := p.Step(plan.Service, name); !ok {
			continue
		}
		mine := p.Stack.Services[name]
		if len(mine.Container.Ports) == 0 {
			continue
		}
		for _, other := range publishers(snap, p.Stack, names[:i]) {
			for _, text := range clashes(snap.Nodes(), &mine, other) {
				found = append(found, stack.Problem{Path: "services." + name + ".ports", Msg: text})
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fmt.Errorf("stack %s: %w: %w", p.Stack.Name, runtime.ErrConflict, found)
}

// publisher is a service that may have host ports already.
type publisher struct {
	name string // for people
	spec *stack.Service
	own  []uint16 // chosen
}

// publishers are the services of other stacks, and some of this one.
func publishers(snap *state.Snapshot, s stack.Stack, own []string) (out []publisher) {
	for _, rec := range snap.Stacks() {
		if rec.Name == s.Name {
			continue
		}
		for _, sv := range snap.Services(rec.Name) {
			if !sv.Removing && len(sv.Spec.Container.Ports) > 0 {
				out = append(out, publisher{"service " + sv.Name + " of stack " + sv.Stack, &sv.Spec, sv.Ports})
			}
		}
	}
	for _, name := range own {
		sv := s.Services[name]
		out = append(out, publisher{"service " + name + " of this stack", &sv, nil})
	}
	return out
}

// clashes says which ports of a service another one has.
func clashes(nodes []*stack.Node, mine *stack.Service, other publisher) (out []string) {
	theirs := chosenPorts(&state.Service{Spec: *other.spec, Ports: other.own})
	for _, p := range other.spec.Container.Ports {
		if p.Mode == "host" && other.spec.Container.OwnNetworks() && !p.Dynamic() {
			theirs = append(theirs, p)
		}
	}
	for _, a := range mine.Container.Ports {
		if a.Dynamic() || !mine.Container.OwnNetworks() {
			continue
		}
		for _, b := range theirs {
			if !samePort(a, b) {
				continue
			}
			how := "publishes it on all nodes"
			if a.Mode == "host" && b.Mode == "host" {
				if !together(nodes, mine, other.spec) {
					continue
				}
				how = "has it on the nodes that this service has to run on"
			} else if b.Mode == "host" {
				how = "has it on its nodes (mode host)"
			}
			out = append(out, fmt.Sprintf("port %s is taken: %s %s; choose another host port, or take that one down first", portName(a), other.name, how))
		}
	}
	return out
}

// samePort reports whether two ports cannot both be published on one node: no
// address is all of them, of both families.
func samePort(a, b stack.Port) bool {
	if a.HostPort != b.HostPort || cmp.Or(a.Protocol, "tcp") != cmp.Or(b.Protocol, "tcp") {
		return false
	}
	x, errA := netip.ParseAddr(a.HostIP)
	y, errB := netip.ParseAddr(b.HostIP)
	if errA != nil || errB != nil {
		return true
	}
	x, y = x.Unmap(), y.Unmap()
	return x == y || x.Is4() == y.Is4() && (x.IsUnspecified() || y.IsUnspecified())
}

// together reports whether two services with the same port of their nodes cannot
// be kept apart: one has a task wherever the other can be. Else the scheduler
// puts them on different nodes.
func together(nodes []*stack.Node, a, b *stack.Service) bool {
	both, onlyA, onlyB := 0, 0, 0
	for _, n := range nodes {
		fa, fb := schedule.Fits(a, n) == "", schedule.Fits(b, n) == ""
		both += count(fa && fb)
		onlyA += count(fa && !fb)
		onlyB += count(fb && !fa)
	}
	everywhere := func(s *stack.Service) bool { return s.Mode == stack.Global || s.Mode == stack.GlobalJob }
	switch {
	case everywhere(a) && everywhere(b):
		return both > 0
	case everywhere(a):
		return both > 0 && onlyB == 0
	case everywhere(b):
		return both > 0 && onlyA == 0
	}
	return both == 1 && onlyA == 0 && onlyB == 0
}

func portName(p stack.Port) string {
	name := fmt.Sprintf("%d/%s", p.HostPort, cmp.Or(p.Protocol, "tcp"))
	if p.HostIP != "" {
		return p.HostIP + ":" + name
	}
	return name
}

// portPatience bounds how long nodes are waited for that are asked about ports.
const portPatience = 2 * time.Second

// portsInUse asks all nodes whether ports that the stack is to publish on each of
// them are free there. A node that does not answer is not waited for: it finds
// out when it publishes them.
func (m *Manager) portsInUse(ctx context.Context, s stack.Stack) error {
	snap := m.store.Snapshot()
	if c := snap.Cluster(); m.cfg.Ports == nil || c == nil || !c.Open {
		return nil
	}
	ports := newPorts(snap, s)
	if len(ports) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	var wg sync.WaitGroup
	nodes := snap.Nodes()
	answers := make([][]string, len(nodes))
	for i, n := range nodes {
		if n.Down {
			continue
		}
		wg.Go(func() {
			said, err := m.cfg.Ports.PortsTaken(ctx, n.ID, ports)
			if err != nil {
				m.log.Debug("ask a node for its ports", "node", n.ID, "error", err)
			}
			for _, text := range said {
				answers[i] = append(answers[i], "node "+name(n)+": "+text)
			}
		})
	}
	wg.Wait()
	if all := slices.Concat(answers...); len(all) > 0 {
		return fmt.Errorf("stack %s: %s: %w", s.Name, strings.Join(all, "; "), runtime.ErrConflict)
	}
	return nil
}

// newPorts are the host ports that a stack is to publish on all nodes and does not yet.
func newPorts(snap *state.Snapshot, s stack.Stack) (out []stack.Port) {
	for _, name := range s.ServiceNames() {
		sv := s.Services[name]
		var had []stack.Port
		if old := snap.Service(s.Name, name); old != nil {
			had = old.Spec.IngressPorts()
		}
		for _, p := range sv.IngressPorts() {
			if !p.Dynamic() && !slices.ContainsFunc(had, func(h stack.Port) bool { return samePort(h, p) }) {
				out = append(out, p)
			}
		}
	}
	return out
}
