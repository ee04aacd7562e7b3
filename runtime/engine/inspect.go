package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
	"github.com/dhow-project/dhow/stack"

	"encoding/json"
)

// Inspect returns a copy of all that is known about a container.
func (e *Engine) Inspect(_ context.Context, ref string) (*runtime.Container, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.snapshotLocked(e)
	return &out, nil
}

// List returns the containers that f selects, the newest first.
func (e *Engine) List(_ context.Context, f runtime.Filter) ([]runtime.Container, error) {
	e.mu.Lock()
	all := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		all = append(all, c)
	}
	e.mu.Unlock()
	var out []runtime.Container
	for _, c := range all {
		c.mu.Lock()
		if !c.gone && c.matchesLocked(f) {
			out = append(out, c.snapshotLocked(e))
		}
		c.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b runtime.Container) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

func (c *container) matchesLocked(f runtime.Filter) bool {
	if s := c.st.Status; !f.All && !alive(s) && s != runtime.Restarting {
		return false
	}
	for k, want := range f.Labels {
		got, ok := c.rec.Spec.Labels[k]
		if !ok || (want != "" && got != want) {
			return false
		}
	}
	if len(f.Names) > 0 && !slices.Contains(f.Names, c.rec.Name) {
		return false
	}
	return len(f.IDs) == 0 || slices.ContainsFunc(f.IDs, func(id string) bool { return strings.HasPrefix(c.id, id) })
}

// Rename gives a container another name, also in its networks.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return fmt.Errorf("rename container %s: no name: %w", c.name(), runtime.ErrInvalid)
	}
	if name, err = e.claimName(name, c.id); err != nil {
		return err
	}
	c.mu.Lock()
	old := c.rec.Name
	rec := c.rec
	rec.Name = name
	c.mu.Unlock()
	if err := e.store.saveRecord(rec); err != nil {
		e.freeName(name, c.id)
		return fmt.Errorf("rename container %s: %w", old, err)
	}
	c.mu.Lock()
	c.rec.Name = name
	c.mu.Unlock()
	e.freeName(old, c.id)
	e.publish(c, "rename", "oldName", "/"+old)
	return e.renameInNetworks(c)
}

// renameInNetworks makes a running container known by its present name. op is held.
func (e *Engine) renameInNetworks(c *container) error {
	c.mu.Lock()
	rec, sb := c.rec, c.st.Sandbox
	c.mu.Unlock()
	if sb == nil {
		return nil
	}
	names := sandboxOf(rec).DNSNames
	now, err := e.cfg.Networks.Rename(c.id, names)
	if err != nil {
		return fmt.Errorf("rename container %s in its networks: %w", rec.Name, err)
	}
	renamed := *sb
	renamed.DNSNames = names
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.Sandbox == nil { // its end has been recorded meanwhile
		return nil
	}
	c.st.Sandbox, c.st.Connected = &renamed, now
	return e.saveLocked(c)
}

// Update changes limits, also of a running container, and the restart policy
// (nil leaves it). Zero values in res leave what is.
func (e *Engine) Update(ctx context.Context, ref string, res stack.Resources, restart *stack.RestartPolicy) error {
	c, err := e.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	c.mu.Lock()
	rec, r := c.rec, c.run
	c.mu.Unlock()
	rec.Spec = rec.Spec.Clone()
	if err := mergeResources(&rec.Spec.Resources, res); err != nil {
		return err
	}
	if restart != nil {
		rec.Spec.Restart = *restart
		if err := checkRestart(rec.Spec); err != nil {
			return err
		}
	}
	limits, _, err := oci.Resources(rec.Spec.Resources, e.facts)
	if err != nil {
		return err
	}
	if data, _ := json.Marshal(limits); r != nil && string(data) != "{}" {
		if err := r.client.Update(ctx, data); err != nil {
			return fmt.Errorf("update container %s: %w", rec.Name, err)
		}
	}
	if err := e.store.saveRecord(rec); err != nil {
		return fmt.Errorf("update container %s: %w", rec.Name, err)
	}
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	e.publish(c, "update")
	return nil
}

// mergeResources puts the non-zero values of over on have. All are plain
// values under their own JSON names, so JSON's omitempty does the merging.
func mergeResources(have *stack.Resources, over stack.Resources) error {
	data, err := json.Marshal(over)
	if err != nil {
		return err
	}
	if over.NanoCPUs > 0 {
		have.CPUQuota, have.CPUPeriod = 0, 0
	}
	if over.CPUQuota != 0 || over.CPUPeriod != 0 {
		have.NanoCPUs = 0
	}
	return json.Unmarshal(data, have)
}
