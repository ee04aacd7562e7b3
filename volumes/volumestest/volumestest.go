package volumestest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/volumes"
	"github.com/dhow-project/dhow/volumes/bind"
	"github.com/dhow-project/dhow/volumes/local"
	"github.com/dhow-project/dhow/volumes/tmpfs"
)

// Config returns a configuration over fresh directories. Whatever is still
// mounted at the volumes is unmounted when the test ends.
func Config(t testing.TB) volumes.Config {
	t.Helper()
	c := ConfigAt(t.TempDir())
	t.Cleanup(func() { unmountAll(c) })
	return c
}

// ConfigAt returns the configuration with its directories below dir.
func ConfigAt(dir string) volumes.Config {
	return volumes.Config{
		DataDir: dir + "/data",
		RunDir:  dir + "/run",
		Drivers: map[string]volumes.Driver{volumes.DefaultDriver: local.New()},
		Makers:  map[stack.MountType]volumes.Maker{stack.MountBind: bind.New(), stack.MountTmpfs: tmpfs.New()},
	}
}

// New opens a manager over Config.
func New(t testing.TB) *volumes.Manager {
	t.Helper()
	return Open(t, Config(t))
}

// Open opens a manager.
func Open(t testing.TB, c volumes.Config) *volumes.Manager {
	t.Helper()
	m, err := volumes.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func unmountAll(c volumes.Config) {
	names, _ := os.ReadDir(c.DataDir + "/volumes")
	for _, n := range names {
		_ = unix.Unmount(c.DataDir+"/volumes/"+n.Name()+"/_data", unix.MNT_DETACH)
	}
	users, _ := os.ReadDir(c.RunDir + "/volumes")
	for _, u := range users {
		mounts, _ := os.ReadDir(c.RunDir + "/volumes/" + u.Name())
		for _, n := range mounts {
			_ = unix.Unmount(c.RunDir+"/volumes/"+u.Name()+"/"+n.Name(), unix.MNT_DETACH)
		}
	}
}

// Containers is a fake of the containers that use volumes. It implements
// backup.Users and remembers what happened.
type Containers struct {
	mu    sync.Mutex
	state map[string]string // guarded by mu; "running", "paused", "exited"
	log   []string          // guarded by mu; "pause a"
	// Fail, when not nil, may refuse an action ("pause", "unpause", "stop", "start") on a container.
	Fail func(action, id string) error
}

// NewContainers returns running containers.
func NewContainers(ids ...string) *Containers {
	c := &Containers{state: map[string]string{}}
	for _, id := range ids {
		c.state[id] = "running"
	}
	return c
}

// State returns "running", "paused", "exited", or "" for an unknown container.
func (c *Containers) State(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state[id]
}

// Set changes the state of a container from outside.
func (c *Containers) Set(id, state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state[id] = state
}

// Log returns what was done, in order.
func (c *Containers) Log() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// States returns all containers.
func (c *Containers) States() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.state)
}

// Running implements backup.Users.
func (c *Containers) Running(_ context.Context, id string) (bool, error) {
	return c.State(id) == "running", nil
}

// Pause implements backup.Users.
func (c *Containers) Pause(_ context.Context, id string) error {
	return c.to("pause", id, "running", "paused")
}

// Unpause implements backup.Users.
func (c *Containers) Unpause(_ context.Context, id string) error {
	return c.to("unpause", id, "paused", "running")
}

// Stop implements backup.Users.
func (c *Containers) Stop(_ context.Context, id string) error {
	return c.to("stop", id, "running", "exited")
}

// Start implements backup.Users.
func (c *Containers) Start(_ context.Context, id string) error {
	return c.to("start", id, "exited", "running")
}

func (c *Containers) to(action, id, from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Fail != nil {
		if err := c.Fail(action, id); err != nil {
			return fmt.Errorf("%s container %s: %w", action, id, err)
		}
	}
	c.log = append(c.log, action+" "+id)
	if c.state[id] == from {
		c.state[id] = to
	}
	return nil
}
