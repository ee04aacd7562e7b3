package agent

import (
	"context"
	"errors"
	"strconv"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
)

// createNamed creates a task's container. When its name is still held by the
// container that the same stack had under a cluster state that has been lost,
// that one makes room: nobody else would ever end it. Its volumes stay.
func (a *Agent) createNamed(ctx context.Context, t stack.Task, name string, spec stack.ContainerSpec) (id string, warnings []string, err error) {
	id, warnings, err = a.cfg.Engine.Create(ctx, name, spec)
	if !errors.Is(err, runtime.ErrConflict) {
		return id, warnings, err
	}
	old, inspectErr := a.cfg.Engine.Inspect(ctx, name)
	if inspectErr == nil && a.sibling(old, t) {
		return a.cfg.Engine.Create(ctx, besideName(name, t), spec)
	}
	if inspectErr != nil || !a.abandoned(old, t) {
		return id, warnings, err
	}
	a.log.Warn("a container of a cluster state that is gone makes room", "name", name, "container", old.ID, "stack", t.Stack)
	if err := a.remove(ctx, old, false, nil); err != nil {
		return "", nil, err
	}
	return a.cfg.Engine.Create(ctx, name, spec)
}

// abandoned reports whether a container was made for a task of t's stack by a
// cluster that is not this one.
func (a *Agent) abandoned(c *runtime.Container, t stack.Task) bool {
	l := c.Spec.Labels
	return l[LabelTask] != "" && l[LabelCluster] != "" && l[LabelCluster] != a.cfg.Cluster && l["com.docker.compose.project"] == t.Stack
}

// sibling reports whether a container is one of another task of t's slot, beside
// which t's container is to run until that one goes.
func (a *Agent) sibling(c *runtime.Container, t stack.Task) bool {
	l := c.Spec.Labels
	return l[LabelTask] != "" && l[LabelTask] != t.ID && l[LabelCluster] == a.cfg.Cluster &&
		l["com.docker.compose.project"] == t.Stack && l["com.docker.compose.service"] == t.Service &&
		l["com.docker.compose.container-number"] == strconv.Itoa(t.Slot)
}

// besideName is a container's name as long as the one before it has its own.
func besideName(name string, t stack.Task) string {
	return name + "-" + t.ID[:min(len(t.ID), 8)]
}

// rename returns the name that a task's container should get now; "" when it
// has it, or has to wait for another container of its slot to go.
func (a *Agent) rename(e *entry) string {
	t, s := e.assignment.Task, e.assignment.Service
	if e.container == nil || e.renamed || s == nil {
		return ""
	}
	name := Name(t, s)
	if e.container.Name != besideName(name, t) {
		return ""
	}
	for _, other := range a.tasks {
		if other != e && other.container != nil && other.container.Name == name {
			return ""
		}
	}
	return name
}

// freed has the other tasks of e's slot looked at again, as a name may be free.
func (a *Agent) freed(e *entry) {
	t := e.assignment.Task
	for id, other := range a.tasks {
		if o := other.assignment.Task; other != e && o.Slot == t.Slot && o.Service == t.Service && o.Stack == t.Stack {
			a.dirty[id], other.renamed = true, false
		}
	}
}
