package sim

import (
	"bytes"
	"fmt"
	"runtime"
	"time"

	"github.com/dhow-project/dhow/cluster/loop"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Size of a cluster that is measured.
type Size struct {
	Nodes, Tasks int
	PerStack     int // tasks of a stack, in five services
}

// Measure is one thing that happened and its price.
type Measure struct {
	What      string
	Decide    time.Duration // of the loop
	Store     time.Duration // of what it decided: encode, decode, apply
	Reports   time.Duration // commands of agents and persons
	Virtual   time.Duration
	Decisions int // changes stored
	Placed    int
	Looks     int
	Visited   int // tasks looked at
	Heap      uint64
	Sys       uint64
}

// Total is the real time that a leader spends.
func (m Measure) Total() time.Duration { return m.Decide + m.Store }

// Scale builds a cluster and measures what happens to it.
func Scale(size Size, log func(Measure)) ([]Measure, error) {
	s := &scale{World: NewWorld(1), size: size, log: log}
	if err := s.nodes(size.Nodes); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"initial placement", s.deploy},
		{"all tasks start and report", s.settle},
		{"one node lost", s.loseNode},
		{"replacements start and report", s.settle},
		{"node returns, its surplus goes", s.returnNode},
		{"one service updated, rolling", s.update},
		{"leader change: snapshot restored", s.restore},
		{"leader change: first rounds", s.takeOver},
		{"nothing to do", s.Decide},
	} {
		if err := s.measure(step.what, step.do); err != nil {
			return s.found, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s.found, s.settled()
}

type scale struct {
	*World
	size  Size
	log   func(Measure)
	found []Measure
	lost  string
}

func (s *scale) measure(what string, do func() error) error {
	s.Times = Times{}
	before, l, now := s.Loop.Stats(), s.Loop, s.Now
	began := time.Now()
	if err := do(); err != nil {
		return err
	}
	after := s.Loop.Stats()
	if s.Loop != l { // a new leader counts from nothing
		before = loop.Stats{}
	}
	m := Measure{
		What: what, Decide: s.Times.Decide, Store: s.Times.Store, Reports: s.Times.Reports, Virtual: s.Now.Sub(now),
		Decisions: after.Changes - before.Changes, Placed: after.Placed - before.Placed,
		Looks: after.Looks - before.Looks, Visited: after.Visited - before.Visited,
	}
	if m.Total() == 0 {
		m.Decide = time.Since(began)
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	m.Heap, m.Sys = mem.HeapInuse, mem.Sys-mem.HeapReleased
	s.found = append(s.found, m)
	if s.log != nil {
		s.log(m)
	}
	return nil
}

func (s *scale) nodes(n int) error {
	for i := range n {
		node := stack.Node{
			ID: fmt.Sprintf("%025d", i*7919+1), Hostname: fmt.Sprint("node", i), OS: "linux", Architecture: "amd64",
			Memory: 256 << 30, NanoCPUs: 64e9, Addr: fmt.Sprintf("10.%d.%d.%d:2377", i>>16, i>>8&255, i&255),
			Labels: map[string]string{"zone": fmt.Sprint("z", i%3)},
		}
		if err := s.AddNode(node); err != nil {
			return err
		}
	}
	return s.Decide()
}

// deploy applies stacks one after the other; the leader decides after each.
func (s *scale) deploy() error {
	for i := range s.size.Tasks / s.size.PerStack {
		name := fmt.Sprintf("stack%04d", i)
		spec := stack.Stack{Name: name, Networks: onNetworks(name + "_net")}
		changes := []state.Change{{Stack: &state.Stack{Name: name, Spec: spec, Created: s.Now.UnixNano()}}, network(name+"_net", name, i)}
		for j := range services {
			changes = append(changes, s.service(name, fmt.Sprint("web", j), "web:1"))
		}
		if err := s.Propose(changes...); err != nil {
			return err
		}
		if err := s.Decide(); err != nil {
			return err
		}
		s.tell()
	}
	return nil
}

// services of a stack.
const services = 5

func (s *scale) service(stackName, name, image string) state.Change {
	spec := stack.Service{Name: name, Replicas: s.size.PerStack / services, Container: stack.ContainerSpec{Image: image}}
	spec.Container.Networks = []stack.Attachment{{Network: "net"}}
	spec.Container.Resources.ReservedMemory, spec.Container.Resources.ReservedNanoCPUs = 64<<20, 1e7
	spec.Deploy.Update = &stack.UpdateRule{Parallelism: 10, Order: "stop-first"}
	return state.Change{Service: &state.ServiceChange{
		Service:    state.Service{Stack: stackName, Name: name, Spec: spec, Hash: image, Desired: stack.DesiredRun},
		NewVersion: true,
	}}
}

func (s *scale) settle() error { return s.Run(time.Hour) }

func (s *scale) loseNode() error {
	s.lost = s.Store.Snapshot().Nodes()[3].ID
	s.Agents[s.lost].dead = true
	n := *s.Store.Snapshot().Node(s.lost)
	n.Down, n.Since = true, s.Now.UnixNano()
	if err := s.Propose(state.Change{Node: &n}); err != nil {
		return err
	}
	return s.Decide()
}

func (s *scale) returnNode() error {
	a := s.Agents[s.lost]
	a.dead = false
	n := *s.Store.Snapshot().Node(s.lost)
	n.Down = false
	if err := s.Propose(state.Change{Node: &n}); err != nil {
		return err
	}
	s.resync(s.lost)
	return s.settle()
}

func (s *scale) update() error {
	if err := s.Propose(s.service("stack0001", "web1", "web:2")); err != nil {
		return err
	}
	return s.settle()
}

func (s *scale) restore() error {
	var b bytes.Buffer
	if err := s.Store.Snapshot().Persist(&b); err != nil {
		return err
	}
	s.Store = state.New()
	return s.Store.Restore(&b)
}

func (s *scale) takeOver() error {
	s.Elect()
	s.told = s.index
	return s.Decide()
}

// settled checks that every task runs, once, on a node that is up.
func (s *scale) settled() error {
	running, want := 0, s.size.Tasks
	s.Store.Snapshot().EachTask(func(t *stack.Task) bool {
		c := s.Agents[t.Node].containers[t.ID]
		if t.Desired == stack.DesiredRun && t.Status.State == stack.TaskRunning && c != nil && c.state == stack.TaskRunning {
			running++
		}
		return true
	})
	if running != want {
		return fmt.Errorf("%d tasks run in the end, want %d", running, want)
	}
	return nil
}
