package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

// Hold mounts a volume for work on the node, such as a backup, and keeps it
// from being removed or restored until release is called.
func (m *Manager) Hold(ctx context.Context, name string) (dir string, release func() error, err error) {
	e, err := m.hold(name, "")
	if err != nil {
		return "", nil, err
	}
	return m.mountHeld(ctx, e)
}

// hold counts a hold. With a reason the volume becomes busy: no other hold may
// exist, and containers cannot start on it.
func (m *Manager) hold(name, busy string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.vols[name]
	if e == nil {
		return nil, fmt.Errorf("volume %s: %w", name, runtime.ErrNotFound)
	}
	if e.busy != "" {
		return nil, fmt.Errorf("volume %s %s: %w", name, e.busy, runtime.ErrConflict)
	}
	if busy != "" && e.holds > 0 {
		return nil, fmt.Errorf("volume %s is in use by a backup: %w", name, runtime.ErrConflict)
	}
	e.holds++
	e.busy = busy
	return e, nil
}

func (m *Manager) unhold(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.holds--
	e.busy = ""
}

func (m *Manager) mountHeld(ctx context.Context, e *entry) (string, func() error, error) {
	key := "hold:" + randomName()
	e.op.Lock()
	dir, err := m.mountFor(ctx, e, key)
	e.op.Unlock()
	if err != nil {
		m.unhold(e)
		return "", nil, fmt.Errorf("volume %s: %w", e.v.Name, err)
	}
	return dir, func() error {
		defer m.unhold(e)
		return m.unmountFor(context.WithoutCancel(ctx), e, key)
	}, nil
}

// Replace exchanges the content of a volume for what fill writes into an empty
// directory. Until fill has succeeded the volume is as it was; a crash leaves
// all of the old content or all of the new. Containers that use the volume see
// the new content at once, in the mounts that they have: who must not see the
// exchange is to be paused or stopped by quiet, which runs when fill is done
// and returns what undoes it. quiet may be nil.
func (m *Manager) Replace(ctx context.Context, name string, fill func(dir string) error, quiet func() (func() error, error)) (err error) {
	e, err := m.hold(name, "is being restored")
	if err != nil {
		return err
	}
	dir, release, err := m.mountHeld(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	s, err := swap.Begin(dir, journalOf(e), e.inside(dir), true)
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	staged := false
	defer func() {
		if !staged { // also when fill panics
			err = errors.Join(err, s.Abort())
		}
	}()
	if err := fill(s.Stage()); err != nil {
		return err
	}
	if quiet != nil {
		resume, qerr := quiet()
		if resume != nil {
			// The volume must be free again before its users start.
			inner := release
			release = func() error { return errors.Join(inner(), resume()) }
		}
		if qerr != nil {
			return qerr
		}
	}
	staged = true
	if err := s.Commit(); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return nil
}

// CreateFrom makes a new volume with the content that fill writes. The volume
// appears complete or not at all. One that exists is runtime.ErrConflict.
func (m *Manager) CreateFrom(ctx context.Context, s Spec, fill func(dir string) error) (Volume, error) {
	if len(s.Options) == 0 {
		e, err := m.ensure(ctx, s, fill)
		if err != nil {
			return Volume{}, err
		}
		return e.v.clone(), nil
	}
	if e, err := m.existing(s, true); e != nil || err != nil {
		return Volume{}, err
	}
	v, err := m.Create(ctx, s)
	if err != nil {
		return v, err
	}
	if err := m.Replace(ctx, v.Name, fill, nil); err != nil {
		return v, errors.Join(err, m.Remove(context.WithoutCancel(ctx), v.Name, true))
	}
	return v, nil
}
