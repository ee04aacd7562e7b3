package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// InUse is the error of removing a volume that containers have, running or not.
type InUse struct {
	Volume string
	Users  []string // IDs; from Manager.Remove names, where Config.UserName knows them
}

func (e *InUse) Error() string {
	users := make([]string, len(e.Users))
	for i, u := range e.Users {
		users[i] = shortID(u)
	}
	return fmt.Sprintf("volume %s is in use: remove container %s first", e.Volume, strings.Join(users, ", "))
}

// Unwrap makes it a conflict.
func (e *InUse) Unwrap() error { return runtime.ErrConflict }

// Remove removes a volume and its content. One that has users is refused
// (runtime.ErrConflict names them), also with force; force forgives a missing
// volume and a driver that fails.
func (m *Manager) Remove(ctx context.Context, name string, force bool) error {
	_, err := m.remove(ctx, name, force)
	var used *InUse
	if errors.As(err, &used) && m.cfg.UserName != nil {
		for i, id := range used.Users {
			used.Users[i] = m.cfg.UserName(id)
		}
	}
	if force && errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	return err
}

// remove returns the bytes that the content occupied.
func (m *Manager) remove(ctx context.Context, name string, force bool) (int64, error) {
	e, err := m.entry(name)
	if err != nil {
		return 0, err
	}
	e.op.Lock()
	defer e.op.Unlock()
	if e.gone {
		return 0, fmt.Errorf("volume %s: %w", name, runtime.ErrNotFound)
	}
	if err := m.checkUnused(e); err != nil {
		return 0, err
	}
	if err := m.dropDriver(ctx, e); err != nil {
		if !force {
			return 0, fmt.Errorf("remove volume %s: %w", name, err)
		}
		m.cfg.Log.Warn("volume removed although its driver failed", "volume", name, "err", err)
	}
	trash := filepath.Join(m.root, trashPrefix+randomName()[:16])
	if err := m.discard(e, trash); err != nil {
		return 0, fmt.Errorf("remove volume %s: %w", name, err)
	}
	e.gone = true
	m.publish("destroy", name, map[string]string{"driver": e.v.Driver})
	size, _ := fsx.Size(trash) // for the report only
	if err := fsx.RemoveTree(trash); err != nil {
		return 0, fmt.Errorf("remove volume %s: %w", name, err)
	}
	return size, nil
}

// discard takes the volume out of the records and renames its directory, so
// that a crash from here on leaves only rubbish that Open sweeps.
func (m *Manager) discard(e *entry, trash string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkUnusedLocked(e); err != nil {
		return err
	}
	if err := os.Rename(e.dir, trash); err != nil {
		return err
	}
	delete(m.vols, e.v.Name)
	return nil
}

func (m *Manager) dropDriver(ctx context.Context, e *entry) error {
	driver := m.cfg.Drivers[e.v.Driver]
	if driver == nil {
		return fmt.Errorf("unknown volume driver %q: %w", e.v.Driver, runtime.ErrInvalid)
	}
	if err := driver.Unmount(ctx, e.v, e.dir); err != nil {
		return err
	}
	return driver.Remove(ctx, e.v, e.dir)
}

func (m *Manager) checkUnused(e *entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.checkUnusedLocked(e)
}

func (m *Manager) checkUnusedLocked(e *entry) error {
	if len(e.users) > 0 {
		return &InUse{Volume: e.v.Name, Users: slices.Sorted(maps.Keys(e.users))}
	}
	if e.holds > 0 {
		return fmt.Errorf("volume %s is in use by a backup or restore: %w", e.v.Name, runtime.ErrConflict)
	}
	return nil
}

// Users returns the containers that use a volume, sorted.
func (m *Manager) Users(name string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.vols[name]; e != nil {
		return slices.Sorted(maps.Keys(e.users))
	}
	return nil
}

// Prune removes the volumes without users that carry all labels (an empty
// value asks for the key only): the anonymous ones, or all.
func (m *Manager) Prune(ctx context.Context, all bool, labels map[string]string) (runtime.PruneReport, error) {
	var report runtime.PruneReport
	list, err := m.List(ctx)
	if err != nil {
		return report, err
	}
	var errs []error
	for _, v := range list {
		if !all && !v.Anonymous || !hasLabels(v.Labels, labels) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return report, err
		}
		size, err := m.remove(ctx, v.Name, false)
		switch {
		case err == nil:
			report.Deleted = append(report.Deleted, v.Name)
			report.Reclaimed += size
		case !errors.Is(err, runtime.ErrConflict) && !errors.Is(err, runtime.ErrNotFound):
			errs = append(errs, err)
		}
	}
	return report, errors.Join(errs...)
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		got, ok := have[k]
		if !ok || v != "" && got != v {
			return false
		}
	}
	return true
}

func shortID(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}
