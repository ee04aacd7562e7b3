package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

// Prepare makes the mounts of a container ready, outer targets first: volumes
// are made when they are missing, mounted, and filled from the image when they
// are empty. rootfs is the container's mounted root; "" means no copy-up. user
// counts as a user of its volumes until Release. Prepare may be repeated for
// every start; anonymous volumes stay the same.
func (m *Manager) Prepare(ctx context.Context, user string, mounts []stack.Mount, rootfs string) ([]Prepared, error) {
	if len(mounts) == 0 {
		return nil, nil
	}
	mounts, err := order(mounts)
	if err != nil {
		return nil, err
	}
	if err := checkUser(user); err != nil {
		return nil, err
	}
	p := &preparation{m: m, user: user, rootfs: rootfs, mounts: mounts, old: m.record(user)}
	if p.old != nil && p.old.Extra {
		if err := m.unmountExtra(ctx, user); err != nil {
			return nil, err
		}
	}
	out, err := p.run(ctx)
	if err != nil {
		return nil, errors.Join(err, p.undo(context.WithoutCancel(ctx)))
	}
	return out, nil
}

// preparation is one call of Prepare.
type preparation struct {
	m      *Manager
	user   string
	rootfs string
	mounts []stack.Mount
	old    *record // nil at the first start
	rec    *record // nil when the container needs none
	vols   []*entry
}

func (p *preparation) run(ctx context.Context) ([]Prepared, error) {
	if err := p.claim(ctx); err != nil {
		return nil, err
	}
	out := make([]Prepared, 0, len(p.mounts))
	for i, mt := range p.mounts {
		one, err := p.one(ctx, i, mt)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", mt.Target, err)
		}
		out = append(out, one)
	}
	if p.rec != nil && !p.rec.Complete {
		done := p.rec.clone()
		done.Complete = true
		p.m.mu.Lock()
		defer p.m.mu.Unlock()
		return out, p.m.saveLocked(done)
	}
	return out, nil
}

func (p *preparation) one(ctx context.Context, i int, mt stack.Mount) (Prepared, error) {
	switch mt.Type {
	case stack.MountVolume:
		return p.volume(ctx, i, mt)
	case stack.MountImage:
		return p.image(ctx, i, mt)
	}
	maker := p.m.cfg.Makers[mt.Type]
	if maker == nil {
		return Prepared{}, fmt.Errorf("no %s mounts on this node: %w", mt.Type, runtime.ErrInvalid)
	}
	return maker.Make(ctx, p.user, mt)
}

// claim makes the volumes and counts the container as their user. The record
// of a container whose anonymous volumes are yet to be made is written first,
// so that a crash cannot leave one that nobody knows of.
func (p *preparation) claim(ctx context.Context) error {
	rec, specs := p.plan()
	if rec == nil {
		return nil
	}
	if !rec.Complete {
		if err := p.save(rec, nil); err != nil {
			return err
		}
	}
	for i, s := range specs {
		p.vols = append(p.vols, nil)
		if p.mounts[i].Type != stack.MountVolume {
			continue
		}
		e, err := p.m.ensure(ctx, s, nil)
		if err != nil {
			return fmt.Errorf("mount %s: %w", p.mounts[i].Target, err)
		}
		p.vols[i] = e
	}
	return p.save(rec, p.vols)
}

// plan decides the names of all volumes.
func (p *preparation) plan() (*record, []Spec) {
	rec := &record{User: p.user, Complete: true, Mounted: bootID()}
	needed := p.old != nil
	specs := make([]Spec, len(p.mounts))
	for i := range p.mounts {
		mt := &p.mounts[i]
		if mt.Type == stack.MountImage || mt.Subpath != "" {
			rec.Extra, needed = true, true
		}
		if mt.Type != stack.MountVolume {
			continue
		}
		needed = true
		u := use{Volume: mt.Source, Target: mt.Target}
		labels := maps.Clone(mt.VolumeLabels)
		if u.Volume == "" {
			if was, ok := p.old.at(mt.Target); ok && was.Anonymous {
				u = was
			} else {
				u.Volume, rec.Complete = randomName(), false
			}
			u.Anonymous = true
			if labels == nil {
				labels = map[string]string{}
			}
			labels[AnonymousLabel] = ""
		}
		mt.Source = u.Volume
		specs[i] = Spec{Name: u.Volume, Driver: mt.VolumeDriver, Options: mt.VolumeOpts, Labels: labels}
		rec.Uses = append(rec.Uses, u)
	}
	if !needed {
		return nil, nil
	}
	return rec, specs
}

// save makes rec the record of the container, unless one of vols went away or
// is being restored.
func (p *preparation) save(rec *record, vols []*entry) error {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range vols {
		if e == nil {
			continue
		}
		if m.vols[e.v.Name] != e {
			return fmt.Errorf("volume %s was removed meanwhile: %w", e.v.Name, runtime.ErrConflict)
		}
		if e.busy != "" {
			return fmt.Errorf("volume %s %s: %w", e.v.Name, e.busy, runtime.ErrConflict)
		}
	}
	p.rec = rec
	if cur := m.users[rec.User]; cur != nil && cur.equal(rec) {
		m.enterLocked(cur)
		return nil
	}
	if cur := m.users[rec.User]; cur != nil {
		for _, u := range cur.Uses {
			if e := m.vols[u.Volume]; e != nil {
				delete(e.users, rec.User)
			}
		}
	}
	return m.saveLocked(rec)
}

func (r *record) equal(o *record) bool {
	return r.User == o.User && r.Extra == o.Extra && r.Complete == o.Complete && r.Mounted == o.Mounted && slices.Equal(r.Uses, o.Uses)
}

// undo leaves things as before the call: without a trace when the container
// was unknown, unmounted when it was known.
func (p *preparation) undo(ctx context.Context) error {
	if p.rec == nil {
		return nil
	}
	if p.old != nil {
		return p.m.Unmount(ctx, p.user)
	}
	return p.m.discardNew(ctx, p.rec)
}

// discardNew releases a user whose Prepare did not finish, and removes the
// volumes that were made for it.
func (m *Manager) discardNew(ctx context.Context, r *record) error {
	errs := []error{m.Release(ctx, r.User)}
	for _, u := range r.Uses {
		if u.Anonymous {
			errs = append(errs, m.Remove(ctx, u.Volume, true))
		}
	}
	return errors.Join(errs...)
}

// volume mounts one volume, fills it when it is new, and narrows it to its subpath.
func (p *preparation) volume(ctx context.Context, i int, mt stack.Mount) (Prepared, error) {
	e := p.vols[i]
	path, err := p.mountVolume(ctx, e, mt)
	if err != nil {
		return Prepared{}, fmt.Errorf("volume %s: %w", e.v.Name, err)
	}
	if mt.Subpath != "" {
		if path, err = p.m.bindSubpath(p.user, i, path, mt.Subpath); err != nil {
			return Prepared{}, fmt.Errorf("volume %s: %w", e.v.Name, err)
		}
	}
	return prepared(mt, path, runtime.MountPoint{Name: e.v.Name, Driver: e.v.Driver, Anonymous: e.v.Anonymous}), nil
}

func (p *preparation) mountVolume(ctx context.Context, e *entry, mt stack.Mount) (string, error) {
	e.op.Lock()
	defer e.op.Unlock()
	path, err := p.m.mountFor(ctx, e, p.user)
	if err != nil {
		return "", err
	}
	_, seen := p.old.at(mt.Target)
	if seen || mt.NoCopy || mt.Subpath != "" || p.rootfs == "" {
		return path, nil
	}
	return path, copyUp(e, path, p.rootfs, mt.Target)
}

// mountFor mounts e for user; e.op is held.
func (m *Manager) mountFor(ctx context.Context, e *entry, user string) (string, error) {
	if e.gone {
		return "", fmt.Errorf("removed meanwhile: %w", runtime.ErrConflict)
	}
	driver := m.cfg.Drivers[e.v.Driver]
	if driver == nil {
		return "", fmt.Errorf("unknown volume driver %q: %w", e.v.Driver, runtime.ErrInvalid)
	}
	path, err := driver.Mount(ctx, e.v, e.dir)
	if err != nil {
		return "", err
	}
	e.mounted[user] = true
	if e.recover {
		if err := swap.Recover(journalOf(e)); err != nil {
			return "", err
		}
		e.recover = false
	}
	return path, nil
}

// unmountFor undoes mountFor; the last one lets the driver unmount.
func (m *Manager) unmountFor(ctx context.Context, e *entry, user string) error {
	e.op.Lock()
	defer e.op.Unlock()
	if !e.mounted[user] {
		return nil
	}
	if len(e.mounted) == 1 && !e.gone {
		if d := m.cfg.Drivers[e.v.Driver]; d != nil {
			if err := d.Unmount(ctx, e.v, e.dir); err != nil {
				return fmt.Errorf("volume %s: %w", e.v.Name, err)
			}
		}
	}
	delete(e.mounted, user)
	return nil
}

// prepared is the bind mount of a host path that dhow keeps.
func prepared(mt stack.Mount, path string, point runtime.MountPoint) Prepared {
	mode := "rw"
	if mt.ReadOnly {
		mode = "ro"
	}
	point.Type, point.Source, point.Target = mt.Type, path, mt.Target
	point.Subpath, point.ReadOnly = mt.Subpath, mt.ReadOnly
	return Prepared{Mount: mt, Point: point, Type: "bind", Source: path, Options: []string{"rbind", "rprivate", mode}}
}
