package volumes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/volumes/internal/fsx"
	"github.com/dhow-project/dhow/volumes/internal/swap"
)

const (
	dataName    = "_data"
	metaName    = "meta.json"
	journalName = "_swap.json"
	usersName   = ".users"
	newPrefix   = ".new-"
	trashPrefix = ".trash-"
)

// Manager keeps the volumes of one node. It is safe for concurrent use.
type Manager struct {
	cfg  Config
	root string // DataDir/volumes
	run  string // RunDir/volumes

	mu    sync.Mutex
	vols  map[string]*entry  // guarded by mu
	users map[string]*record // guarded by mu; a record is replaced, never changed
}

// entry is one volume in memory.
type entry struct {
	v   Volume // never changed
	dir string

	// op serialises driver calls, copy-up, restore and removal. It is taken
	// before Manager.mu, never after.
	op      sync.Mutex
	gone    bool // guarded by op
	recover bool // guarded by op; a swap waits to be finished at the next mount

	users   map[string]bool // guarded by Manager.mu; containers that use it
	holds   int             // guarded by Manager.mu; backups and the like
	busy    string          // guarded by Manager.mu; why nobody may use it now, "" mostly
	mounted map[string]bool // guarded by op; users and holds for whom the driver mounted it
	last    string          // guarded by Manager.mu; the last user, for RemoveAnonymous after Release
}

// Open loads the records below cfg.DataDir and repairs what a crash left.
func Open(cfg Config) (*Manager, error) {
	if cfg.Drivers[DefaultDriver] == nil {
		return nil, fmt.Errorf("open volumes: no %q driver: %w", DefaultDriver, runtime.ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		cfg:   cfg,
		root:  filepath.Join(cfg.DataDir, "volumes"),
		run:   filepath.Join(cfg.RunDir, "volumes"),
		vols:  map[string]*entry{},
		users: map[string]*record{},
	}
	for _, dir := range []string{filepath.Join(m.root, usersName), m.run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open volumes: %w", err)
		}
	}
	if err := m.load(); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	return m, nil
}

// load reads all volumes and users; what is half made or half removed goes.
func (m *Manager) load() error {
	entries, err := os.ReadDir(m.root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, trashPrefix) {
			if err := fsx.RemoveTree(filepath.Join(m.root, name)); err != nil {
				m.cfg.Log.Warn("leftover volume directory stays", "dir", name, "err", err)
			}
			continue
		}
		if !e.IsDir() || CheckName(name) != nil {
			continue
		}
		m.loadVolume(name)
	}
	return m.loadUsers()
}

func (m *Manager) loadVolume(name string) {
	dir := filepath.Join(m.root, name)
	v, err := readMeta(dir, name)
	if err != nil {
		// Content without a definition is somebody's data: keep it reachable.
		m.cfg.Log.Warn("volume has no readable definition, taken as a plain one", "volume", name, "err", err)
		if !isDir(filepath.Join(dir, dataName)) {
			return
		}
		v = Volume{Name: name, Driver: DefaultDriver}
	}
	e := newEntry(v, dir)
	os.Remove(filepath.Join(dir, journalName+fsx.TempSuffix)) // of a killed writer
	if _, err := os.Lstat(filepath.Join(dir, journalName)); err == nil {
		e.recover = true
		if len(v.Options) == 0 {
			m.recoverSwap(e)
		}
	}
	m.vols[name] = e
}

// recoverSwap finishes an interrupted exchange of content.
func (m *Manager) recoverSwap(e *entry) {
	if err := swap.Recover(filepath.Join(e.dir, journalName)); err != nil {
		m.cfg.Log.Error("volume recovery", "volume", e.v.Name, "err", err)
		return
	}
	e.recover = false
	m.cfg.Log.Info("finished an interrupted copy or restore", "volume", e.v.Name)
}

func newEntry(v Volume, dir string) *entry {
	v.Mountpoint = filepath.Join(dir, dataName)
	return &entry{v: v, dir: dir, users: map[string]bool{}, mounted: map[string]bool{}}
}

func readMeta(dir, name string) (Volume, error) {
	var v Volume
	data, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, err
	}
	if v.Name != name || v.Driver == "" {
		return v, fmt.Errorf("%s speaks of volume %q: %w", metaName, v.Name, fs.ErrInvalid)
	}
	return v, nil
}

// Create makes a volume; one that exists with an equal definition is returned.
func (m *Manager) Create(ctx context.Context, s Spec) (Volume, error) {
	e, err := m.ensure(ctx, s, nil)
	if err != nil {
		return Volume{}, err
	}
	return e.v.clone(), nil
}

// ensure returns the volume of s, making it when it is missing. fill, when not
// nil, writes the first content and makes an existing volume a conflict.
func (m *Manager) ensure(ctx context.Context, s Spec, fill func(dir string) error) (*entry, error) {
	anonymous := s.Name == ""
	if anonymous {
		s.Name = randomName()
	}
	if err := CheckName(s.Name); err != nil {
		return nil, err
	}
	if e, err := m.existing(s, fill != nil); e != nil || err != nil {
		return e, err
	}
	v := Volume{Name: s.Name, Driver: s.Driver, Options: s.Options, Labels: s.Labels, Created: time.Now().UTC(), Anonymous: anonymous}
	if _, ok := s.Labels[AnonymousLabel]; ok {
		v.Anonymous = true
	}
	if v.Driver == "" {
		v.Driver = DefaultDriver
	}
	e, err := m.build(ctx, v.clone(), fill)
	if errors.Is(err, fs.ErrExist) { // another call was faster
		if e, err := m.existing(s, fill != nil); e != nil || err != nil {
			return e, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create volume %s: %w", s.Name, err)
	}
	m.publish("create", v.Name, map[string]string{"driver": v.Driver})
	return e, nil
}

func (m *Manager) existing(s Spec, mustBeNew bool) (*entry, error) {
	m.mu.Lock()
	e := m.vols[s.Name]
	m.mu.Unlock()
	if e == nil {
		return nil, nil
	}
	if mustBeNew {
		return nil, fmt.Errorf("volume %s exists: %w", s.Name, runtime.ErrConflict)
	}
	if why := e.v.conflict(s); why != "" {
		return nil, fmt.Errorf("volume %s exists with another definition: %s: %w", s.Name, why, runtime.ErrConflict)
	}
	return e, nil
}

// build makes the volume in a directory of its own and renames it into place.
func (m *Manager) build(ctx context.Context, v Volume, fill func(dir string) error) (*entry, error) {
	driver := m.cfg.Drivers[v.Driver]
	if driver == nil {
		return nil, fmt.Errorf("unknown volume driver %q: %w", v.Driver, runtime.ErrInvalid)
	}
	tmp, err := os.MkdirTemp(m.root, newPrefix)
	if err != nil {
		return nil, err
	}
	err = m.fillNew(ctx, v, driver, tmp, fill)
	e := newEntry(v, filepath.Join(m.root, v.Name))
	if err == nil {
		err = m.adopt(e, tmp)
	}
	if err != nil {
		return nil, errors.Join(err, fsx.RemoveTree(tmp))
	}
	if !v.Anonymous {
		err = fsx.SyncDir(m.root)
	}
	return e, err
}

func (m *Manager) fillNew(ctx context.Context, v Volume, driver Driver, tmp string, fill func(dir string) error) error {
	data := filepath.Join(tmp, dataName)
	if err := errors.Join(os.Chmod(tmp, 0o700), os.Mkdir(data, 0o755), os.Chmod(data, 0o755)); err != nil {
		return err
	}
	if err := driver.Create(ctx, v, tmp); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(data); err != nil {
			return err
		}
		if err := fsx.SyncFS(data); err != nil {
			return err
		}
	}
	meta, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	// The definition of an anonymous volume says nothing that its name does not.
	return fsx.WriteFile(filepath.Join(tmp, metaName), append(meta, '\n'), !v.Anonymous)
}

// adopt renames the finished directory and enters the volume into the records.
func (m *Manager) adopt(e *entry, tmp string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.vols[e.v.Name] != nil {
		return fs.ErrExist
	}
	if err := os.Rename(tmp, e.dir); err != nil {
		return err
	}
	m.vols[e.v.Name] = e
	return nil
}

// Inspect returns one volume.
func (m *Manager) Inspect(_ context.Context, name string) (Volume, error) {
	e, err := m.entry(name)
	if err != nil {
		return Volume{}, err
	}
	return e.v.clone(), nil
}

// List returns all volumes by name.
func (m *Manager) List(context.Context) ([]Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Volume, 0, len(m.vols))
	for _, e := range m.vols {
		all = append(all, e.v.clone())
	}
	slices.SortFunc(all, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Usage returns the bytes that a volume's content occupies on disk.
func (m *Manager) Usage(_ context.Context, name string) (int64, error) {
	e, err := m.entry(name)
	if err != nil {
		return 0, err
	}
	n, err := fsx.Size(e.v.Mountpoint)
	if err != nil {
		return 0, fmt.Errorf("size of volume %s: %w", name, err)
	}
	return n, nil
}

func (m *Manager) entry(name string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.vols[name]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("volume %s: %w", name, runtime.ErrNotFound)
}

func (m *Manager) publish(action, name string, attrs map[string]string) {
	if m.cfg.Publish != nil {
		m.cfg.Publish(runtime.Event{Type: "volume", Action: action, ID: name, Attrs: attrs, Time: time.Now()})
	}
}

func randomName() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func isDir(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.IsDir()
}
