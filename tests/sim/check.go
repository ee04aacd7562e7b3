package sim

import (
	"bytes"
	"fmt"

	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// checker holds what must be true at any time.
type checker struct {
	*Faults
	placing error // the first wrong placement
}

func newChecker(f *Faults) *checker {
	c := &checker{Faults: f}
	f.Seen = func(changes []state.Change) {
		if err := c.placements(changes); err != nil && c.placing == nil {
			c.placing = err
		}
	}
	return c
}

// placements checks a command of the loop: tasks go to nodes that may take them.
func (c *checker) placements(changes []state.Change) error {
	snap := c.Store.Snapshot()
	for _, ch := range changes {
		t := ch.Create
		if ch.Update != nil {
			t = ch.Update
		}
		if t == nil || t.Node == "" || t.Desired == stack.DesiredRemove {
			continue
		}
		if old := snap.Task(t.ID); old != nil && old.Node == t.Node {
			continue
		}
		n, sv := snap.Node(t.Node), snap.Service(t.Stack, t.Service)
		if n == nil || n.Down || n.Availability != stack.Active {
			return fmt.Errorf("%s/%s.%d goes to %s: %+v", t.Stack, t.Service, t.Slot, t.Node, n)
		}
		if sv == nil || sv.Removing {
			return fmt.Errorf("%s/%s.%d is made of a service that goes", t.Stack, t.Service, t.Slot)
		}
		if spec, _ := sv.SpecOf(t.Version); spec == nil || schedule.Fits(spec, n) != "" {
			return fmt.Errorf("%s/%s.%d does not fit %s", t.Stack, t.Service, t.Slot, t.Node)
		}
	}
	return nil
}

// Always checks what must be true after every step.
func (c *checker) Always() error {
	if c.placing != nil {
		return c.placing
	}
	snap := c.Store.Snapshot()
	memory, slots := map[string]int64{}, map[slot][]*stack.Task{}
	var bad error
	snap.EachTask(func(t *stack.Task) bool {
		if t.Node != "" && t.Status.State < stack.TaskCompleted {
			if sv := snap.Service(t.Stack, t.Service); sv != nil {
				if spec, _ := sv.SpecOf(t.Version); spec != nil {
					memory[t.Node] += spec.Container.Resources.ReservedMemory
				}
			}
		}
		if t.Desired != stack.DesiredRemove {
			k := slot{t.Stack, t.Service, t.Slot, t.Pin}
			slots[k] = append(slots[k], t)
		}
		return true
	})
	for node, used := range memory {
		if n := snap.Node(node); n != nil && used > n.Memory {
			bad = fmt.Errorf("node %s has promised %d bytes of %d", node, used, n.Memory)
		}
	}
	for k, tasks := range slots {
		if err := oneOf(tasks); err != nil {
			bad = fmt.Errorf("%v: %w", k, err)
		}
	}
	if bad == nil {
		bad = c.runningOnce()
	}
	if bad == nil {
		bad = c.addressesOnce()
	}
	return bad
}

// addressesOnce: nobody has the address of another, and who has a node has its addresses.
func (c *checker) addressesOnce() error {
	snap := c.Store.Snapshot()
	has := map[stack.TaskAddress]string{}
	var bad error
	claim := func(who string, list []stack.TaskAddress) {
		for _, a := range list {
			if other := has[a]; other != "" && bad == nil {
				bad = fmt.Errorf("%s and %s both have %v", who, other, a)
			}
			has[a] = who
		}
	}
	snap.EachTask(func(t *stack.Task) bool {
		claim(t.ID, t.Addresses)
		sv := snap.Service(t.Stack, t.Service)
		if sv == nil || t.Node == "" || t.Desired == stack.DesiredRemove {
			return bad == nil
		}
		if spec, _ := sv.SpecOf(t.Version); spec != nil && len(t.Addresses) != len(spec.Container.Networks) && !c.displaced(t) {
			bad = fmt.Errorf("%s/%s.%d has %v in %d networks", t.Stack, t.Service, t.Slot, t.Addresses, len(spec.Container.Networks))
		}
		return bad == nil
	})
	for _, s := range snap.Stacks() {
		for _, sv := range snap.Services(s.Name) {
			claim(state.ServiceKey(sv.Stack, sv.Name), sv.Addresses)
		}
	}
	return bad
}

// displaced: a task whose node is lost may have left its address to who came in its place.
func (c *checker) displaced(t *stack.Task) bool {
	return t.Service == "fixed" && c.wasAway(t.Node)
}

// oneOf: a slot has one wanted task, or two of which one takes over from the other.
func oneOf(tasks []*stack.Task) error {
	switch {
	case len(tasks) == 1:
		return nil
	case len(tasks) == 2 && (tasks[0].Replaces == tasks[1].ID || tasks[1].Replaces == tasks[0].ID):
		return nil
	}
	var ids []string
	for _, t := range tasks {
		ids = append(ids, fmt.Sprintf("%s on %s (version %d, %s, replaces %q)", t.ID, t.Node, t.Version, t.Desired, t.Replaces))
	}
	return fmt.Errorf("%d wanted tasks: %v", len(tasks), ids)
}

// runningOnce: of the containers of a slot on nodes that are there, one runs, or
// two while one takes over from the other.
func (c *checker) runningOnce() error {
	running := map[slot][]string{}
	for id, a := range c.Agents {
		if a.cut || a.dead || c.Store.Snapshot().Node(id).Down {
			continue
		}
		for task, con := range a.containers {
			if con.state == stack.TaskRunning {
				running[con.slot] = append(running[con.slot], task)
			}
		}
	}
	snap := c.Store.Snapshot()
	for k, ids := range running {
		if len(ids) < 2 {
			continue
		}
		allowed := 1
		for _, id := range ids {
			t := snap.Task(id)
			if t == nil || t.Replaces != "" || t.Desired == stack.DesiredRemove && c.wasAway(t.Node) {
				allowed++ // start-first, or what came back with its node and is told to go
			}
		}
		if len(ids) > allowed {
			return fmt.Errorf("%v runs %d times: %v", k, len(ids), ids)
		}
	}
	return nil
}

func (c *checker) wasAway(node string) bool { return !c.Agents[node].leaseEnd.Equal(Start) }

// Settled checks what must be true when nothing has failed for a while.
func (c *checker) Settled() error {
	snap := c.Store.Snapshot()
	for _, s := range snap.Stacks() {
		if s.Removing {
			return fmt.Errorf("stack %s is still there", s.Name)
		}
		for _, sv := range snap.Services(s.Name) {
			if err := c.converged(snap, sv); err != nil {
				return fmt.Errorf("%s/%s: %w", s.Name, sv.Name, err)
			}
		}
	}
	containers := 0
	for id, a := range c.Agents {
		containers += len(a.containers)
		for task, con := range a.containers {
			if t := snap.Task(task); t == nil || t.Node != id || con.state != t.Status.State {
				return fmt.Errorf("node %s has a container of %s (%d): %+v", id, task, con.state, t)
			}
		}
	}
	tasks := 0
	snap.EachTask(func(*stack.Task) bool { tasks++; return true })
	if tasks != containers {
		return fmt.Errorf("%d tasks, %d containers", tasks, containers)
	}
	return c.sameEverywhere()
}

func (c *checker) converged(snap *state.Snapshot, sv *state.Service) error {
	want := sv.Spec.Replicas
	if sv.Spec.Mode == stack.Global {
		want = 0
		for _, n := range snap.Nodes() {
			if schedule.Fits(&sv.Spec, n) == "" {
				want++
			}
		}
	}
	got := 0
	for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
		if t.Version != sv.Version || t.Desired != stack.DesiredRun || t.Status.State != stack.TaskRunning {
			return fmt.Errorf("task %s.%d on %q is of version %d of %d, to %s, %d %q", t.Service, t.Slot, t.Node, t.Version, sv.Version, t.Desired, t.Status.State, t.Status.Message)
		}
		got++
	}
	if got != want {
		return fmt.Errorf("%d tasks, want %d", got, want)
	}
	return nil
}

// sameEverywhere: another manager has the same bytes, and a new leader nothing to do.
func (c *checker) sameEverywhere() error {
	var a, b bytes.Buffer
	if err := c.Store.Snapshot().Persist(&a); err != nil {
		return err
	}
	if err := c.Follower.Snapshot().Persist(&b); err != nil {
		return err
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		return fmt.Errorf("two managers differ: %d and %d bytes", a.Len(), b.Len())
	}
	at, books := c.index, c.Books
	books.Follow(c.Store)
	c.Elect()
	if err := c.Decide(); err != nil {
		return err
	}
	if old, fresh := books.String(), c.Books.String(); old != fresh {
		return fmt.Errorf("a new leader's books of addresses:\n%s\nthe old one's:\n%s", fresh, old)
	}
	if c.index != at {
		return fmt.Errorf("a new leader of a settled cluster stored %d commands", c.index-at)
	}
	return nil
}
