package cluster

import (
	"fmt"

	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// Stacks returns all stacks, by name.
func (m *Manager) Stacks() []StackStatus {
	snap := m.store.Snapshot()
	var out []StackStatus
	for _, s := range snap.Stacks() {
		out = append(out, stackStatus(snap, s, 0))
	}
	return out
}

// Stack returns one stack, or runtime.ErrNotFound.
func (m *Manager) Stack(name string) (StackStatus, error) {
	snap := m.store.Snapshot()
	s := snap.Stack(name)
	if s == nil {
		return StackStatus{}, fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	}
	return stackStatus(snap, s, 0), nil
}

// StackSince returns one stack if anything about it has changed after index:
// false, and at little cost, if not. What was applied is left out when that is
// as it was at index. A stack that is gone is runtime.ErrNotFound.
func (m *Manager) StackSince(name string, index uint64) (StackStatus, bool, error) {
	snap := m.store.Snapshot()
	s := snap.Stack(name)
	switch {
	case s == nil:
		return StackStatus{}, false, fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	case changedAt(snap, s) <= index:
		return StackStatus{}, false, nil
	}
	return stackStatus(snap, s, index), true, nil
}

// changedAt is when a stack's status changed last. It also tells how many tasks
// there should be, which may run and which are lost: that is a matter of the
// nodes. One that dies need not change a task, when its tasks are to go anyhow
// for example, and who waits for their end must hear of it.
func changedAt(snap *state.Snapshot, s *state.Stack) uint64 { return max(s.Index, snap.Fleet()) }

// stackStatus leaves out what was applied when it is older than since; 0: never.
func stackStatus(snap *state.Snapshot, s *state.Stack, since uint64) StackStatus {
	st := StackStatus{Removing: s.Removing, Index: changedAt(snap, s), Created: s.Created, Updated: s.Updated}
	if since == 0 || s.Defined > since {
		st.Stack = definition(snap, s)
	}
	for _, sv := range snap.Services(s.Name) {
		st.Services = append(st.Services, serviceStatus(snap, sv))
	}
	for _, t := range snap.Tasks(s.Name) {
		st.Tasks = append(st.Tasks, *t)
	}
	return st
}

func serviceStatus(snap *state.Snapshot, sv *state.Service) ServiceStatus {
	st := ServiceStatus{
		Name: sv.Name, Mode: sv.Spec.Mode, Image: sv.Spec.Container.Image, Desired: sv.Desired,
		Version: sv.Version, Hash: sv.Hash, Wanted: wantedTasks(snap, sv), Update: sv.Update, Addresses: sv.Addresses, Ports: sv.Ports,
	}
	if sv.Removing {
		st.Desired = stack.DesiredRemove
	}
	ready, old := 0, 0
	job := sv.Spec.Mode == stack.ReplicatedJob || sv.Spec.Mode == stack.GlobalJob
	for _, t := range snap.ServiceTasks(sv.Stack, sv.Name) {
		if st.Message == "" && t.Status.Message != "" {
			st.Message = t.Status.Message
		}
		if lost(snap, t) {
			continue
		}
		if t.Desired != stack.DesiredRemove && t.Status.State < stack.TaskCompleted && misplaced(snap, sv, t) {
			st.Moving++
		}
		if t.Version != sv.Version || t.Desired == stack.DesiredRemove {
			old += count(t.Version != sv.Version && t.Node != "" && t.Status.State < stack.TaskCompleted)
			continue
		}
		st.Updated++
		behind := max(t.Wanted, t.Restarts) > t.Status.Restarts && t.Node != ""
		switch h := t.Status.Health; t.Status.State {
		case stack.TaskRunning:
			st.Running++
			if h == "" || h == "healthy" {
				st.Healthy++
				ready += count(!behind && !job && !beside(snap, t))
			}
		case stack.TaskCompleted:
			st.Completed++
			ready += count(!behind)
		case stack.TaskFailed:
			st.Failed++
		}
	}
	st.Ready = sv.Desired == stack.DesiredRun && !sv.Removing && ready >= st.Wanted && old == 0 && st.Moving == 0
	return st
}

// beside reports whether the task whose place t takes is still wanted.
func beside(snap *state.Snapshot, t *stack.Task) bool {
	if t.Replaces == "" {
		return false
	}
	other := snap.Task(t.Replaces)
	return other != nil && other.Desired != stack.DesiredRemove && !lost(snap, other)
}

// misplaced reports whether a task is on a node that is drained or fits no more.
func misplaced(snap *state.Snapshot, sv *state.Service, t *stack.Task) bool {
	n := snap.Node(t.Node)
	return n != nil && (n.Availability == stack.Drain || schedule.Fits(&sv.Spec, n) != "")
}

// lost reports whether nobody knows if a task runs, as its node does not answer.
func lost(snap *state.Snapshot, t *stack.Task) bool {
	if t.Node == "" || t.Status.State == stack.TaskCompleted {
		return false
	}
	n := snap.Node(t.Node)
	return n == nil || n.Down
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wantedTasks is how many tasks there should be.
func wantedTasks(snap *state.Snapshot, sv *state.Service) int {
	switch {
	case sv.Removing || sv.Desired == stack.DesiredRemove:
		return 0
	case sv.Spec.Mode != stack.Global && sv.Spec.Mode != stack.GlobalJob:
		return sv.Spec.Replicas
	}
	n := 0
	for _, node := range snap.Nodes() {
		n += count(node.Availability == stack.Active && !node.Down && schedule.Fits(&sv.Spec, node) == "")
	}
	return n
}
