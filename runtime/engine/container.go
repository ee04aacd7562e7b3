package engine

import (
	"context"
	"sync"
	"time"

	"github.com/dhow-project/dhow/overlaynet"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/health"
	"github.com/dhow-project/dhow/runtime/shim"
	"github.com/dhow-project/dhow/stack"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// record is what does not change, but for a rename, an update or another set of networks.
type record struct {
	ID      string              `json:"id"`
	Name    string              `json:"name"`
	Created time.Time           `json:"created"`
	Spec    stack.ContainerSpec `json:"spec"`
	ImageID string              `json:"imageID"`
	Image   runtime.ImageConfig `json:"image"`
	Rewired bool                `json:"rewired,omitempty"` // Spec.Networks are all: they were changed by hand

	locked error // why the content of its secrets cannot be read; nil: it can
}

// state is what changes.
type state struct {
	runtime.State
	RestartCount int                   `json:"restartCount,omitempty"`
	Attempts     []time.Time           `json:"attempts,omitempty"` // restarts within the policy's window
	Delay        time.Duration         `json:"delay,omitempty"`    // of the last restart
	Connected    *overlaynet.Connected `json:"connected,omitempty"`
	Sandbox      *overlaynet.Sandbox   `json:"sandbox,omitempty"` // while connected
	Mounts       []runtime.MountPoint  `json:"mounts,omitempty"`
	Boot         string                `json:"boot,omitempty"` // boot ID of the last start
	Unhealthy    bool                  `json:"unhealthy,omitempty"`
	Removing     bool                  `json:"removing,omitempty"` // the removal has begun and will be finished
	DropVolumes  bool                  `json:"dropVolumes,omitempty"`
}

// container is one container. Its fields below mu are guarded by it.
type container struct {
	op opLock
	id string

	mu        sync.Mutex
	rec       record
	st        state
	run       *run              // nil when there is no process
	unsure    bool              // the state could not be read: what runs is asked
	keep      bool              // the exit under way belongs to a restart: no auto-remove
	gone      bool              // removed
	withdrawn bool              // gets no new requests: it is about to stop
	retry     *time.Timer       // pending restart
	late      []*lateStreams    // attached before the start
	waiters   []waiter          //
	changed   chan struct{}     // closed and replaced when the status changes
	execs     map[string]*execs // by ID
}

// run is one life of a container's process.
type run struct {
	client  *shim.Client
	done    chan struct{}   // closed when the exit has been handled
	process *specs.Process  // of the container, for execs; nil after a restart of the daemon until needed
	probe   *health.Monitor // nil without health check
	lost    chan struct{}   // closed when the daemon lets go of the run without an exit

	oomKills uint64 // processes killed for want of memory that were told; of the watcher alone
}

func newContainer(rec record, st state) *container {
	return &container{op: newOpLock(), id: rec.ID, rec: rec, st: st, changed: make(chan struct{}), execs: map[string]*execs{}}
}

// opLock serialises operations; unlike a mutex it can be waited for with a context.
type opLock chan struct{}

func newOpLock() opLock { return make(opLock, 1) }

func (l opLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l opLock) unlock() { <-l }

func (c *container) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Name
}

func (c *container) status() runtime.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st.Status
}

// current returns the running process, nil when there is none, and the status.
func (c *container) current() (*run, runtime.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run, c.st.Status
}

// spec returns the spec; callers must not change what it refers to.
func (c *container) spec() stack.ContainerSpec {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Spec
}

func (c *container) touchLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// saveLocked writes the state as it is. It is the only writer of a container's
// state, together with noteLocked, and mu is held over the change and the
// write: what is on disk is the last that was decided, and never torn.
func (e *Engine) saveLocked(c *container) error { return e.store.saveState(c.id, c.st) }

// noteLocked does the same with what may be lost when the machine goes down.
func (e *Engine) noteLocked(c *container) error { return e.store.noteState(c.id, c.st) }

func alive(s runtime.Status) bool { return s == runtime.Running || s == runtime.Paused }

// snapshotLocked returns a copy for callers.
func (c *container) snapshotLocked(e *Engine) runtime.Container {
	dir := e.bundleDir(c.id)
	out := runtime.Container{
		ID: c.id, Name: c.rec.Name, Created: c.rec.Created, Spec: c.rec.Spec.Clone(), ImageID: c.rec.ImageID, Image: c.rec.Image,
		State: c.st.State, Mounts: append([]runtime.MountPoint(nil), c.st.Mounts...),
		RestartCount: c.st.RestartCount, LogPath: e.store.logPath(c.id), Driver: "overlayfs",
		HostsPath: dir + "/hosts", HostnamePath: dir + "/hostname", ResolvConfPath: dir + "/resolv.conf",
	}
	if n := c.st.Connected; n != nil {
		out.NetNS = n.NetNS
		out.Endpoints = append([]runtime.Endpoint(nil), n.Endpoints...)
		out.Ports = append([]runtime.PortBinding(nil), n.Ports...)
	}
	if h := c.st.Health; h != nil {
		copied := *h
		copied.Log = append([]runtime.HealthResult(nil), h.Log...)
		out.State.Health = &copied
	}
	if c.st.Removing {
		out.State.Status = runtime.Removing
	}
	for id, x := range c.execs {
		if x.running() {
			out.ExecIDs = append(out.ExecIDs, id)
		}
	}
	return out
}
