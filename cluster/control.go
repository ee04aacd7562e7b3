package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// RemoveStack removes a stack, or some services of it, in reverse dependency
// order. Its networks, secrets and configs go when the last container is gone.
func (m *Manager) RemoveStack(ctx context.Context, name string, opt RemoveOptions) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("remove stack %s: %w", name, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	chosen, err := choose(snap, name, opt.Services)
	if err != nil {
		return err
	}
	var changes []state.Change
	if len(opt.Services) == 0 {
		if err := lent(snap, name, nil); err != nil {
			return fmt.Errorf("remove stack %s: %w", name, err)
		}
		if err := lentFiles(snap, name); err != nil {
			return fmt.Errorf("remove stack %s: %w", name, err)
		}
		rec := *snap.Stack(name)
		rec.Removing, rec.RemoveVolumes = true, opt.Volumes
		changes = append(changes, state.Change{Stack: &rec})
	}
	for _, sv := range chosen {
		changes = append(changes, removeService(sv, opt.Volumes, opt.Grace)...)
	}
	if _, err := m.propose(ctx, changes); err != nil {
		return fmt.Errorf("remove stack %s: %w", name, err)
	}
	m.log.Info("stack is to go", "stack", name, "services", len(chosen), "volumes", opt.Volumes)
	return nil
}

// choose returns the named services of a stack, all when none is named.
func choose(snap *state.Snapshot, stackName string, names []string) ([]*state.Service, error) {
	if snap.Stack(stackName) == nil {
		return nil, fmt.Errorf("stack %s: %w", stackName, runtime.ErrNotFound)
	}
	if len(names) == 0 {
		return snap.Services(stackName), nil
	}
	var out []*state.Service
	for _, name := range names {
		sv := snap.Service(stackName, name)
		if sv == nil {
			return nil, fmt.Errorf("stack %s: no service %s: %w", stackName, name, runtime.ErrNotFound)
		}
		if !slices.Contains(out, sv) {
			out = append(out, sv)
		}
	}
	return out, nil
}

// Control does act to services of a stack. It returns when the wish is stored.
func (m *Manager) Control(ctx context.Context, stackName string, act Action, opt ControlOptions) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("%s stack %s: %w", act, stackName, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	chosen, err := choose(snap, stackName, opt.Services)
	if err != nil {
		return err
	}
	c := controller{snap: snap, stack: stackName, grace: opt.Grace, volumes: opt.Volumes, done: map[string]bool{}}
	for _, sv := range chosen {
		if err := c.do(sv, act); err != nil {
			return err
		}
	}
	if _, err := m.propose(ctx, c.changes); err != nil {
		return fmt.Errorf("%s stack %s: %w", act, stackName, err)
	}
	m.log.Info("services controlled", "stack", stackName, "action", act, "services", opt.Services)
	return nil
}

// controller collects the changes of one Control.
type controller struct {
	snap    *state.Snapshot
	stack   string
	grace   *time.Duration
	volumes bool
	done    map[string]bool // services
	changes []state.Change
}

func (c *controller) do(sv *state.Service, act Action) error {
	if sv.Removing {
		return nil
	}
	switch act {
	case Start:
		c.start(sv, true)
	case Stop:
		c.wish(sv, stack.DesiredStop)
	case Restart:
		c.restart(sv)
	case Pause:
		if sv.Desired == stack.DesiredRun {
			c.wish(sv, stack.DesiredPause)
		}
	case Unpause:
		if sv.Desired == stack.DesiredPause {
			c.wish(sv, stack.DesiredRun)
		}
	case Remove:
		if !c.anyUp(sv) {
			c.wish(sv, stack.DesiredRemove)
		}
	default:
		return fmt.Errorf("action %q is not known: %w", act, runtime.ErrInvalid)
	}
	return nil
}

func (c *controller) wish(sv *state.Service, d stack.Desired) {
	if sv.Desired == d && samePointee(sv.Grace, c.grace) {
		return
	}
	change := state.ServiceChange{Service: *sv}
	change.Desired, change.Grace = d, c.grace
	change.RemoveVolumes = c.volumes && d == stack.DesiredRemove
	c.changes = append(c.changes, state.Change{Service: &change})
}

// start lets a service run, after what it depends on. A one-shot that has ended
// runs again when it was named, not when something else needs it.
func (c *controller) start(sv *state.Service, named bool) {
	if c.done[sv.Name] {
		return
	}
	c.done[sv.Name] = true
	for _, need := range sv.Spec.Needs() {
		if other := c.snap.Service(c.stack, need); other != nil && !other.Removing && other.Desired != stack.DesiredRun {
			c.start(other, false)
		}
	}
	c.wish(sv, stack.DesiredRun)
	for _, t := range c.snap.ServiceTasks(c.stack, sv.Name) {
		ended := t.Status.State == stack.TaskCompleted || t.Status.State == stack.TaskFailed
		if t.Desired == stack.DesiredStop && (named || t.Status.State != stack.TaskCompleted) || named && ended || byHand(t) {
			c.changes = append(c.changes, wake(t)...)
		}
	}
}

// restart restarts a service and then the dependents that ask for it.
func (c *controller) restart(sv *state.Service) {
	if c.done[sv.Name] {
		return
	}
	c.done[sv.Name] = true
	c.wish(sv, stack.DesiredRun)
	for _, t := range c.snap.ServiceTasks(c.stack, sv.Name) {
		c.changes = append(c.changes, wake(t)...)
	}
	for _, other := range c.snap.Services(c.stack) {
		for _, d := range other.Spec.DependsOn {
			if d.Service == sv.Name && d.Restart && other.Desired == stack.DesiredRun && !other.Removing {
				c.restart(other)
			}
		}
	}
}

func samePointee[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (c *controller) anyUp(sv *state.Service) bool {
	return slices.ContainsFunc(c.snap.ServiceTasks(c.stack, sv.Name), func(t *stack.Task) bool {
		s := t.Status
		return t.Node != "" && s.State < stack.TaskCompleted && !(s.State == stack.TaskReady && (s.Followed == stack.DesiredStop || s.Followed == stack.DesiredCreate || byHand(t)))
	})
}

// Scale sets the number of tasks of services.
func (m *Manager) Scale(ctx context.Context, stackName string, counts map[string]int) error {
	if err := m.turn(ctx); err != nil {
		return fmt.Errorf("scale stack %s: %w", stackName, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	chosen, err := choose(snap, stackName, sortedKeys(counts))
	if err != nil || len(counts) == 0 {
		return err
	}
	var changes []state.Change
	for _, sv := range chosen {
		n := counts[sv.Name]
		switch {
		case n < 0:
			err = fmt.Errorf("scale %s to %d: %w", sv.Name, n, runtime.ErrInvalid)
		case sv.Spec.Mode == stack.Global || sv.Spec.Mode == stack.GlobalJob:
			err = fmt.Errorf("scale %s: a global service has one task on each node: %w", sv.Name, runtime.ErrInvalid)
		case n > 1 && sv.Spec.ContainerName != "":
			err = fmt.Errorf("scale %s: only one container can be named %s: %w", sv.Name, sv.Spec.ContainerName, runtime.ErrInvalid)
		}
		if err != nil {
			return err
		}
		c := state.ServiceChange{Service: *sv}
		c.Spec.Replicas = n
		changes = append(changes, state.Change{Service: &c})
	}
	_, err = m.propose(ctx, changes)
	return err
}
