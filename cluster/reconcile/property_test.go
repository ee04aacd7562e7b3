package reconcile

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dhow-project/dhow/stack"
)

// history remembers what was wanted of tasks, to see that it only grows.
type history struct {
	desired map[string]stack.Desired
	surplus map[string]bool // that were to go while their node was lost: of those many may come back at once
}

func newHistory() *history {
	return &history{desired: map[string]stack.Desired{}, surplus: map[string]bool{}}
}

// check holds at every moment.
func (m *model) check(t *rapid.T, h *history) {
	slots, processes := map[string]int{}, map[string]int{}
	for _, id := range sorted(m.tasks) {
		task := m.tasks[id]
		key := fmt.Sprintf("%s.%d@%s", task.Service, task.Slot, task.Pin)
		if h.desired[id] == stack.DesiredRemove && task.Desired != stack.DesiredRemove {
			t.Fatalf("%s of %s came back:\n%s", id, key, m)
		}
		if was := h.desired[id]; was != "" && was != stack.DesiredCreate && task.Desired == stack.DesiredCreate {
			t.Fatalf("%s of %s was %s and is only to be created:\n%s", id, key, was, m)
		}
		h.desired[id] = task.Desired
		h.surplus[id] = h.surplus[id] || task.Desired == stack.DesiredRemove && !m.live(task)
		if m.live(task) && up(task) && !h.surplus[id] {
			slots[key]++
		}
		for _, name := range task.Status.Anonymous {
			if m.live(task) && up(task) && task.Desired != stack.DesiredRemove && m.volumes[name] != task.Node {
				t.Fatalf("%s runs on %s without its volume %q, which is on %q:\n%s", key, task.Node, name, m.volumes[name], m)
			}
		}
	}
	for _, n := range sorted(m.runs) {
		for id := range m.runs[n] {
			if task := m.tasks[id]; task != nil {
				processes[fmt.Sprintf("%s.%d@%s", task.Service, task.Slot, task.Pin)]++
			}
		}
	}
	for _, name := range sorted(m.services) {
		s := m.services[name]
		for key, n := range slots {
			limit := 2
			if s.Spec.Beside(true) != "" && len(s.Versions) == 1 || job(s.Spec.Mode) && len(s.Versions) == 1 {
				limit = 1
			}
			if service, _, _ := cut(key); service == name && n > limit {
				t.Fatalf("%s has %d tasks that may run:\n%s", key, n, m)
			}
			if service, _, _ := cut(key); service == name && alwaysExclusive(s) && processes[key] > 1 {
				t.Fatalf("%s is exclusive and runs %d times:\n%s", key, processes[key], m)
			}
		}
	}
}

func alwaysExclusive(s *Service) bool {
	for _, spec := range s.Versions {
		if !spec.Exclusive {
			return false
		}
	}
	return s.Spec.Exclusive
}

func cut(key string) (service, slot, pin string) {
	for i := range key {
		if key[i] == '.' {
			return key[:i], key[i+1:], ""
		}
	}
	return key, "", ""
}

// calm runs rounds and agents until nothing changes any more, also not with time.
func (m *model) calm(t *rapid.T, h *history) {
	for i := 0; ; i++ {
		if i > 600 {
			t.Fatalf("does not converge:\n%s", m)
		}
		m.now += int64(time.Second)
		moved, again := m.decide()
		m.check(t, h)
		moved = m.work() || moved
		m.check(t, h)
		if moved {
			continue
		}
		if again == 0 {
			break
		}
		m.now = max(m.now, again)
	}
	if changed, again := m.decide(); changed || again != 0 {
		t.Fatalf("not idempotent, again %d:\n%s", again, m)
	}
}

// cascade runs rounds at one moment: decisions may follow from decisions, but come to an end.
func (m *model) cascade(t *rapid.T, h *history) {
	for i := 0; ; i++ {
		changed, again := m.decide()
		m.check(t, h)
		if again != 0 && again <= m.now {
			t.Fatalf("asks for a look at %d, which is not after %d:\n%s", again, m.now, m)
		}
		if !changed {
			return
		}
		if i > 12 {
			t.Fatalf("decides without end:\n%s", m)
		}
	}
}

// mutate draws one thing that a person or the world does.
func (m *model) mutate(t *rapid.T, h *history) {
	names := []string{"a", "b", "c", "d"}
	i := rapid.IntRange(0, len(names)-1).Draw(t, "service")
	name := names[i]
	s := m.services[name]
	switch kind := rapid.IntRange(0, 15).Draw(t, "kind"); {
	case s == nil || kind <= 2:
		m.put(drawSpec(t, name, names[:i]), m.nextVersion(name))
	case kind == 3:
		c := *s
		c.Desired = rapid.SampledFrom([]stack.Desired{stack.DesiredRun, stack.DesiredStop, stack.DesiredPause, stack.DesiredRemove}).Draw(t, "desired")
		m.services[name] = &c
	case kind == 4:
		c := *s
		c.Removing, c.RemoveVolumes = true, true
		m.services[name] = &c
	case kind == 5:
		for _, task := range m.of(name) {
			if c := *task; c.Node != "" && c.Desired != stack.DesiredRemove {
				c.Wanted = max(c.Wanted, c.Restarts) + 1
				m.tasks[c.ID] = &c
			}
		}
	case kind == 6:
		for _, task := range m.of(name) {
			m.obey(task, 1)
		}
	case kind <= 10:
		m.mutateNode(t)
	default:
		m.now += rapid.SampledFrom([]int64{0, int64(time.Second), int64(time.Minute), -int64(time.Minute)}).Draw(t, "time")
		m.cascade(t, h)
		for _, id := range sorted(m.tasks) {
			if rapid.Bool().Draw(t, "agent") {
				m.obey(m.tasks[id], 0)
			}
		}
	}
}

func (m *model) nextVersion(name string) uint64 {
	v := uint64(1)
	if s := m.services[name]; s != nil {
		for old := range s.Versions {
			v = max(v, old+1)
		}
	}
	return v
}

func drawSpec(t *rapid.T, name string, before []string) stack.Service {
	spec := stack.Service{Name: name, Replicas: rapid.IntRange(0, 4).Draw(t, "replicas"), Labels: map[string]string{}}
	spec.Mode = rapid.SampledFrom([]stack.Mode{"", "", "", stack.Global, stack.ReplicatedJob, stack.GlobalJob}).Draw(t, "mode")
	spec.Exclusive = name == "d"
	if rapid.Bool().Draw(t, "rule") {
		spec.Deploy.Update = &stack.UpdateRule{
			Parallelism: rapid.IntRange(0, 2).Draw(t, "parallelism"), Delay: time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Second,
			Order:         rapid.SampledFrom([]string{"", "start-first", "stop-first"}).Draw(t, "order"),
			FailureAction: rapid.SampledFrom([]string{"", "pause", "continue", "rollback"}).Draw(t, "action"),
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "nature") {
	case 0:
		spec.Labels["bad"] = "1"
	case 1:
		spec.Labels["anonymous"] = "1"
	case 2:
		spec.Container.Mounts = []stack.Mount{{Type: stack.MountVolume, Source: "data", Target: "/data"}}
	}
	spec.Container.Restart.Condition = rapid.SampledFrom([]string{"", "on-failure"}).Draw(t, "restart")
	spec.Container.Restart.MaxAttempts = rapid.IntRange(1, 3).Draw(t, "attempts")
	for _, other := range before { // no cycles
		if rapid.IntRange(0, 3).Draw(t, "depends") == 0 {
			spec.DependsOn = append(spec.DependsOn, stack.Dependency{Service: other, Condition: stack.Started, Optional: rapid.Bool().Draw(t, "optional")})
		}
	}
	return spec
}

func (m *model) mutateNode(t *rapid.T) {
	n := rapid.SampledFrom(m.nodes).Draw(t, "node")
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0, 1:
		m.lose(n.ID)
	case 2:
		if n.Down {
			m.expire(n.ID)
		}
	case 3:
		m.back(n.ID)
	case 4, 5:
		to := rapid.SampledFrom([]stack.Availability{stack.Active, stack.Drain, stack.Paused}).Draw(t, "availability")
		m.node(n.ID, func(n *stack.Node) { n.Availability = to })
	case 6:
		m.broken[n.ID] = !m.broken[n.ID]
	case 7:
		if n.Down && len(m.nodes) > 2 && rapid.Bool().Draw(t, "remove") {
			m.expire(n.ID)
			m.forget(n.ID)
		}
	}
}

// heal ends all faults.
func (m *model) heal() {
	for _, n := range m.nodes {
		m.back(n.ID)
		m.node(n.ID, func(n *stack.Node) { n.Availability = stack.Active })
	}
	clear(m.broken)
	m.room = 0
}

func TestConvergesAfterFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, h := newModel("n1", "n2", "n3", "n4"), newHistory()
		m.room = rapid.SampledFrom([]int{0, 0, 6}).Draw(t, "room")
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m.mutate(t, h)
			m.check(t, h)
		}
		m.heal()
		m.calm(t, h)
		m.counts(t)
		m.removeAll()
		m.calm(t, h)
		if len(m.services)+len(m.tasks) > 0 {
			t.Fatalf("all is to go:\n%s", m)
		}
	})
}

// counts checks what is left when all is calm.
func (m *model) counts(t *rapid.T) {
	for _, name := range sorted(m.services) {
		s := m.services[name]
		if s.Removing {
			t.Fatalf("%s is still there:\n%s", name, m)
		}
		n, want := 0, s.Spec.Replicas
		if global(s.Spec.Mode) {
			want = len(m.nodes)
		}
		for _, task := range m.of(name) {
			n++
			if s.Desired == stack.DesiredStop && up(task) {
				t.Fatalf("%s is stopped but runs:\n%s", name, m)
			}
			if task.Version != s.Version && s.Desired == stack.DesiredRun && !s.Update.Active() && m.open(s) && (s.Update == nil || len(s.Update.Failed) == 0) {
				t.Fatalf("%s has an old task without an update:\n%s", name, m)
			}
		}
		paused := s.Update != nil && (s.Update.State == stack.UpdatePaused || s.Update.State == stack.RollbackPaused || len(s.Update.Failed) > 0)
		switch {
		case s.Desired == stack.DesiredRemove && n != 0, n > want && !paused && m.open(s), s.Desired == stack.DesiredRun && n < want && !paused:
			t.Fatalf("%s has %d tasks, wanted %d (%s):\n%s", name, n, want, s.Desired, m)
		}
		if u := s.Update; s.Desired == stack.DesiredRun && u != nil && (u.State == stack.Updating || u.State == stack.RollbackStarted) && m.open(s) {
			t.Fatalf("the update of %s does not end:\n%s", name, m)
		}
	}
}

// open reports whether nothing that s depends on holds it back.
func (m *model) open(s *Service) bool {
	return len(s.Spec.DependsOn) == 0
}

// removeAll asks for the end of everything, with its volumes.
func (m *model) removeAll() {
	for name, s := range m.services {
		c := *s
		c.Removing, c.RemoveVolumes = true, true
		m.services[name] = &c
	}
}
