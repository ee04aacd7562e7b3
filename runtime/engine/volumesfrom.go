package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
)

// withVolumesFrom are the mounts of rec and those that it takes from others.
// Its own win over others', and those over the image's.
func (e *Engine) withVolumesFrom(ctx context.Context, rec record) ([]stack.Mount, error) {
	var inherited []stack.Mount
	for _, from := range rec.Spec.VolumesFrom {
		ref, mode, _ := strings.Cut(strings.TrimPrefix(from, "container:"), ":")
		if mode != "" && mode != "rw" && mode != "ro" && mode != "z" && mode != "Z" {
			return nil, fmt.Errorf("volumes from %q: mode %q: %w", from, mode, runtime.ErrInvalid)
		}
		other, err := e.find(ref)
		if err != nil {
			return nil, fmt.Errorf("volumes from: %w", err)
		}
		points, err := e.mountPoints(ctx, other)
		if err != nil {
			return nil, fmt.Errorf("volumes from %s: %w", other.name(), err)
		}
		inherited = append(inherited, volumes.Offered(points, mode == "ro")...)
	}
	return volumes.Inherit(rec.Spec.Mounts, inherited), nil
}

// runningMounts are those of a container that has been started.
func (c *container) runningMounts() ([]runtime.MountPoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.Mounts == nil && c.unsure {
		return nil, fmt.Errorf("its mounts are not known any more: restart it: %w", runtime.ErrConflict)
	}
	return c.st.Mounts, nil
}

// mountPoints are the mounts of a container as they came out. One that was
// never started gets its volumes now: containers that only hold data never are.
func (e *Engine) mountPoints(ctx context.Context, c *container) ([]runtime.MountPoint, error) {
	c.mu.Lock()
	points, rec := c.st.Mounts, c.rec
	c.mu.Unlock()
	if points != nil || (len(rec.Spec.Mounts) == 0 && len(rec.Spec.VolumesFrom) == 0) {
		return points, nil
	}
	if err := c.use(ctx); err != nil {
		return nil, err
	}
	defer c.op.unlock()
	if r, _ := c.current(); r != nil { // what it has mounted stays
		return c.runningMounts()
	}
	b := &bundle{e: e, c: c, dir: e.bundleDir(c.id), rec: rec}
	err := e.withRootfs(ctx, c, func() error { return b.prepareVolumes(ctx) })
	if err == nil {
		c.mu.Lock()
		points = c.st.Mounts
		err = e.saveLocked(c)
		c.mu.Unlock()
	}
	return points, errors.Join(err, e.cfg.Volumes.Unmount(ctx, c.id))
}
