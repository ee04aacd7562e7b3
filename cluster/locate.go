package cluster

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Locate finds the container of a task by the container's ID, a unique
// beginning of it, its name, or STACK-SERVICE-SLOT. A running one wins over one
// that has ended under the same name.
func (m *Manager) Locate(ref string) (Location, bool) {
	ref = strings.TrimPrefix(ref, "/")
	if ref == "" {
		return Location{}, false
	}
	snap := m.store.Snapshot()
	if t := byName(snap, ref); t != nil {
		return location(snap, t), true
	}
	if t := byContainer(snap, ref); t != nil {
		return location(snap, t), true
	}
	return Location{}, false
}

func location(snap *state.Snapshot, t *stack.Task) Location {
	return Location{Node: t.Node, Container: t.Status.ContainerID, Task: t.ID, Name: containerName(snap, t)}
}

func containerName(snap *state.Snapshot, t *stack.Task) string {
	if sv := snap.Service(t.Stack, t.Service); sv != nil {
		if spec, _ := sv.SpecOf(t.Version); spec != nil && spec.ContainerName != "" {
			return spec.ContainerName
		}
	}
	return fmt.Sprintf("%s-%s-%d", t.Stack, t.Service, t.Slot)
}

// byName takes the name apart, as stacks and services may have dashes in theirs.
func byName(snap *state.Snapshot, ref string) *stack.Task {
	if i := strings.LastIndexByte(ref, '-'); i > 0 {
		if slot, err := strconv.Atoi(ref[i+1:]); err == nil {
			for j := 1; j < i; j++ {
				if ref[j] != '-' {
					continue
				}
				if t := inSlot(snap.ServiceTasks(ref[:j], ref[j+1:i]), slot); t != nil {
					return t
				}
			}
		}
	}
	for _, s := range snap.Stacks() {
		for _, sv := range snap.Services(s.Name) {
			if sv.Spec.ContainerName == ref {
				return inSlot(snap.ServiceTasks(s.Name, sv.Name), 1)
			}
		}
	}
	return nil
}

func inSlot(tasks []*stack.Task, slot int) (best *stack.Task) {
	for _, t := range tasks {
		if t.Slot == slot && t.Node != "" && (best == nil || livelier(t, best)) {
			best = t
		}
	}
	return best
}

func livelier(a, b *stack.Task) bool {
	if (a.Status.State == stack.TaskRunning) != (b.Status.State == stack.TaskRunning) {
		return a.Status.State == stack.TaskRunning
	}
	return a.Created > b.Created
}

// shortestID is how much of a container's ID names it at least: less would
// match by chance, and names are looked for first.
const shortestID = 4

func byContainer(snap *state.Snapshot, ref string) *stack.Task {
	if len(ref) < shortestID {
		return nil
	}
	var found *stack.Task
	for _, s := range snap.Stacks() { // rare enough that an index over all containers would cost more
		for _, t := range snap.Tasks(s.Name) {
			switch {
			case !strings.HasPrefix(t.Status.ContainerID, ref) || t.Node == "":
			case t.Status.ContainerID == ref:
				return t
			case found != nil:
				return nil
			default:
				found = t
			}
		}
	}
	return found
}
