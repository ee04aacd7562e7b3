package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dhow-project/dhow/volumes/internal/fsx"
)

// record is what one container uses. It is kept in DataDir/volumes/.users
// without an fsync, because it is written when a container starts: after a
// power cut, Known restores it from the container's own record.
type record struct {
	User     string `json:"user"`
	Uses     []use  `json:"uses,omitempty"`
	Extra    bool   `json:"extra,omitempty"`   // has mounts below RunDir
	Complete bool   `json:"complete"`          // Prepare came to its end
	Mounted  string `json:"mounted,omitempty"` // boot ID under which the driver mounts were made
}

type use struct {
	Volume    string `json:"volume"`
	Target    string `json:"target,omitempty"`
	Anonymous bool   `json:"anonymous,omitempty"` // made for this mount
}

func (r *record) clone() *record {
	c := *r
	c.Uses = slices.Clone(r.Uses)
	return &c
}

// at returns the volume used at target.
func (r *record) at(target string) (use, bool) {
	if r != nil {
		for _, u := range r.Uses {
			if u.Target == target {
				return u, true
			}
		}
	}
	return use{}, false
}

func (m *Manager) userFile(user string) string {
	return filepath.Join(m.root, usersName, user+".json")
}

func (m *Manager) loadUsers() error {
	dir := filepath.Join(m.root, usersName)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	boot := bootID()
	for _, f := range entries {
		name, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok {
			os.Remove(filepath.Join(dir, f.Name()))
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		r := &record{}
		if err := json.Unmarshal(data, r); err != nil || r.User != name {
			m.cfg.Log.Warn("volume user record is unreadable, dropped", "user", name, "err", err)
			os.Remove(filepath.Join(dir, f.Name()))
			continue
		}
		m.users[name] = r
		m.enterLocked(r)
		if r.Mounted == boot {
			for _, u := range r.Uses {
				if e := m.vols[u.Volume]; e != nil {
					e.mounted[name] = true
				}
			}
		}
	}
	return nil
}

// enterLocked counts r's user in its volumes.
func (m *Manager) enterLocked(r *record) {
	for _, u := range r.Uses {
		if e := m.vols[u.Volume]; e != nil {
			e.users[r.User] = true
			e.last = r.User
		}
	}
}

// saveLocked makes r the record of its user, on disk and in memory.
func (m *Manager) saveLocked(r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := fsx.WriteFile(m.userFile(r.User), data, false); err != nil {
		return fmt.Errorf("record volume user %s: %w", r.User, err)
	}
	m.users[r.User] = r
	m.enterLocked(r)
	return nil
}

func (m *Manager) record(user string) *record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users[user]
}

// Unmount takes down the mounts of a container that has stopped. It stays a
// user of its volumes; Prepare mounts them again.
func (m *Manager) Unmount(ctx context.Context, user string) error {
	r := m.record(user)
	if r == nil {
		return nil
	}
	var errs []error
	if r.Extra {
		errs = append(errs, m.unmountExtra(ctx, user))
	}
	for _, name := range r.volumes() {
		if e, err := m.entry(name); err == nil {
			errs = append(errs, m.unmountFor(ctx, e, user))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if cur := m.users[user]; cur != nil && (cur.Mounted != "" || cur.Extra) {
		next := cur.clone()
		next.Mounted, next.Extra = "", false
		return m.saveLocked(next)
	}
	return nil
}

// volumes are the names of the volumes of r, each once.
func (r *record) volumes() []string {
	names := make([]string, 0, len(r.Uses))
	for _, u := range r.Uses {
		names = append(names, u.Volume)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Release forgets a container that is gone: its mounts are taken down and its
// volumes no longer count it. Anonymous volumes stay. An unknown user is fine.
func (m *Manager) Release(ctx context.Context, user string) error {
	if m.record(user) == nil {
		return nil
	}
	if err := m.Unmount(ctx, user); err != nil {
		return fmt.Errorf("release volumes of %s: %w", shortID(user), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := os.Remove(m.userFile(user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release volumes of %s: %w", shortID(user), err)
	}
	if r := m.users[user]; r != nil {
		for _, u := range r.Uses {
			if e := m.vols[u.Volume]; e != nil {
				delete(e.users, user)
			}
		}
	}
	delete(m.users, user)
	return nil
}

// RemoveAnonymous releases a container and removes its anonymous volumes,
// except those that another container uses. It may be called after Release.
func (m *Manager) RemoveAnonymous(ctx context.Context, user string) error {
	if err := m.Release(ctx, user); err != nil {
		return err
	}
	m.mu.Lock()
	var names []string
	for name, e := range m.vols {
		if e.v.Anonymous && e.last == user && len(e.users) == 0 {
			names = append(names, name)
		}
	}
	m.mu.Unlock()
	slices.Sort(names)
	var errs []error
	for _, n := range names {
		errs = append(errs, m.Remove(ctx, n, true))
	}
	return errors.Join(errs...)
}

// Known reconciles the records with the containers that exist, once at start:
// users is container ID to the names of the volumes in its mounts. Others are
// released, and what they left is taken down.
func (m *Manager) Known(ctx context.Context, users map[string][]string) error {
	var errs []error
	for _, r := range m.allRecords() {
		if _, ok := users[r.User]; ok {
			continue
		}
		if r.Complete {
			errs = append(errs, m.Release(ctx, r.User))
		} else { // a creation that was cut short: nothing has run on its volumes
			errs = append(errs, m.discardNew(ctx, r))
		}
		m.cfg.Log.Info("released the volumes of a container that is gone", "container", shortID(r.User))
	}
	for user, names := range users {
		if len(names) > 0 {
			errs = append(errs, m.reclaim(user, names))
		}
	}
	errs = append(errs, m.sweepExtra(ctx), m.sweepMounts(ctx))
	return errors.Join(errs...)
}

func (m *Manager) allRecords() []*record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*record
	for _, r := range m.users {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *record) int { return strings.Compare(a.User, b.User) })
	return all
}

// reclaim adds volumes that the record of user lacks.
func (m *Manager) reclaim(user string, names []string) error {
	if err := checkUser(user); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := &record{User: user, Complete: true}
	if r := m.users[user]; r != nil {
		next = r.clone()
	}
	have := next.volumes()
	for _, n := range names {
		if m.vols[n] != nil && !slices.Contains(have, n) {
			next.Uses = append(next.Uses, use{Volume: n})
		}
	}
	if len(next.volumes()) == len(have) {
		return nil
	}
	return m.saveLocked(next)
}

// sweepMounts lets drivers unmount what nobody has mounted, such as after a
// backup that died with the daemon.
func (m *Manager) sweepMounts(ctx context.Context) error {
	m.mu.Lock()
	var idle []*entry
	for _, e := range m.vols {
		if len(e.v.Options) > 0 && e.holds == 0 {
			idle = append(idle, e)
		}
	}
	m.mu.Unlock()
	var errs []error
	for _, e := range idle {
		e.op.Lock()
		if len(e.mounted) == 0 && !e.gone {
			if d := m.cfg.Drivers[e.v.Driver]; d != nil {
				errs = append(errs, d.Unmount(ctx, e.v, e.dir))
			}
		}
		e.op.Unlock()
	}
	return errors.Join(errs...)
}

// bootID tells mounts of this boot from records of an earlier one.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
