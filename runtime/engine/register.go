package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/runtime/shim"
)

// registered tells whether the OCI runtime still has a state of a container.
// It then refuses another of the same ID, and that is each further start.
func (e *Engine) registered(id string) bool {
	_, err := os.Lstat(filepath.Join(e.runtimeRoot(), id))
	return err == nil
}

// unregister makes the OCI runtime forget a container without process. That is
// the shim's work, but there it may have failed, or have taken too long.
func (e *Engine) unregister(ctx context.Context, c *container) error {
	if !e.registered(c.id) {
		return nil
	}
	c.mu.Lock()
	name, rt := c.rec.Name, c.rec.Spec.Runtime
	c.mu.Unlock()
	e.log.Warn("the runtime still knows a container that has ended: deleted again", "container", name)
	return e.deleteState(ctx, c.id, rt)
}

// deleteState deletes a container from a runtime, given by its name.
func (e *Engine) deleteState(ctx context.Context, id, runtimeName string) error {
	path, err := e.runtimePath(runtimeName)
	if err == nil {
		err = shim.Delete(ctx, shim.Config{ID: id, Runtime: path, RuntimeRoot: e.runtimeRoot()})
	}
	if err != nil {
		return fmt.Errorf("state of container %s in its runtime: %w", short(id), err)
	}
	return nil
}

// sweepStates deletes what the runtime knows and nobody runs. Containers that
// were found to have a run are left to whoever settles it.
func (e *Engine) sweepStates(ctx context.Context, runs map[string]*found) {
	entries, _ := os.ReadDir(e.runtimeRoot()) // not there: nothing is known
	for _, entry := range entries {
		id := entry.Name()
		if !entry.IsDir() || len(id) != idLength || runs[id] != nil {
			continue
		}
		rt := "" // without a record the one that nearly all have
		if c := e.containers[id]; c != nil {
			rt = c.rec.Spec.Runtime
		}
		if err := e.deleteState(ctx, id, rt); err != nil {
			e.log.Error("remains of a container", "container", short(id), "err", err)
		}
	}
}
