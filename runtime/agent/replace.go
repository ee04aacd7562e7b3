package agent

import (
	"context"
	"errors"

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
