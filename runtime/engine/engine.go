package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/oci"
)

// Engine runs the containers of one node. It is safe for concurrent use.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	store   *store
	facts   oci.Facts
	mark    string // names this instance: cgroups of others are not ours
	boot    string // boot ID of the host
	closing chan struct{}
	oom     oomSource
	work    sync.WaitGroup // goroutines that Run waits for

	mu         sync.Mutex
	containers map[string]*container // by ID
	names      map[string]string     // name to ID, also of containers being created
	execs      map[string]*execs     // by ID
	runtimes   map[string]string     // resolved paths by name
	resume     []func()              // what Run has to do first: restarts decided at Open
	closed     bool
}

// Open loads the containers, takes over those that run, settles what was left
// half done and sweeps what has no owner. The caller must call Run.
func Open(cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &Engine{
		cfg: cfg, log: cfg.Log, facts: oci.HostFacts(), boot: bootID(), closing: make(chan struct{}),
		containers: map[string]*container{}, names: map[string]string{}, execs: map[string]*execs{}, runtimes: map[string]string{},
	}
	e.oom.v2 = e.facts.CgroupV2
	for _, dir := range []string{cfg.DataDir, e.bundles(), e.runtimeRoot()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	if e.mark, err = instanceMark(filepath.Join(cfg.DataDir, "instance")); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if e.store, err = openStore(cfg.DataDir, cfg.Log); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if err := e.restore(context.Background()); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return e, nil
}

// Run applies restart policies and syncs records until ctx ends; then it lets
// go of the containers, which go on running.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	resume := e.resume
	e.resume = nil
	e.mu.Unlock()
	for _, f := range resume {
		e.spawn(f)
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		e.store.flushLoop(e.closing)
	}()
	<-ctx.Done()
	e.letGo()
	e.work.Wait()
	<-flushed
	e.dropCgroupParent()
	return ctx.Err()
}

// spawn runs f in a goroutine that Run waits for.
func (e *Engine) spawn(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.work.Go(f)
}

// letGo stops timers, probes and watchers. Processes are not touched.
func (e *Engine) letGo() {
	e.mu.Lock()
	e.closed = true
	all := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		all = append(all, c)
	}
	e.mu.Unlock()
	close(e.closing)
	e.oom.close()
	for _, c := range all {
		c.mu.Lock()
		if c.retry != nil {
			c.retry.Stop()
		}
		r := c.run
		c.mu.Unlock()
		if r != nil {
			r.probe.Stop()
			close(r.lost)
			_ = r.client.Close()
		}
	}
}

// find resolves an ID, a unique beginning of one, or a name.
func (e *Engine) find(ref string) (*container, error) {
	ref = strings.TrimPrefix(ref, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[ref]; c != nil {
		return c, nil
	}
	if c := e.containers[e.names[ref]]; c != nil {
		return c, nil
	}
	var found *container
	if ref != "" {
		for id, c := range e.containers {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("container %s: several IDs begin like this: %w", ref, runtime.ErrInvalid)
			}
			found = c
		}
	}
	if found == nil {
		return nil, fmt.Errorf("container %s: %w", ref, runtime.ErrNotFound)
	}
	return found, nil
}

// locked finds a container and takes its op lock.
func (e *Engine) locked(ctx context.Context, ref string) (*container, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	if err := c.op.lock(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone {
		c.op.unlock()
		return nil, fmt.Errorf("container %s: %w", ref, runtime.ErrNotFound)
	}
	return c, nil
}

// use takes the op lock of a container whose parts somebody wants: one that is
// being removed, or was while the lock was awaited, must not get them back.
func (c *container) use(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	if err := c.op.lock(ctx); err != nil {
		return err
	}
	if err := c.usable(); err != nil {
		c.op.unlock()
		return err
	}
	return nil
}

func (c *container) usable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return fmt.Errorf("container %s: %w", c.rec.Name, runtime.ErrNotFound)
	case c.st.Removing:
		return fmt.Errorf("container %s is being removed: %w", c.rec.Name, runtime.ErrConflict)
	}
	return nil
}

func (e *Engine) bundles() string            { return filepath.Join(e.cfg.RunDir, "c") }
func (e *Engine) bundleDir(id string) string { return filepath.Join(e.bundles(), id[:16]) }
func (e *Engine) rootfs(id string) string    { return filepath.Join(e.bundleDir(id), "rootfs") }
func (e *Engine) runtimeRoot() string        { return filepath.Join(e.cfg.RunDir, "runc") }

func (e *Engine) cgroupParent() string {
	if p := e.cfg.CgroupParent; p != "" {
		return filepath.Join("/", p)
	}
	return "/dhow-" + e.mark
}

// idLength is the length of a container's ID: 32 bytes in hexadecimal.
const idLength = 64

func newID() string {
	b := make([]byte, idLength/2)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func short(id string) string { return id[:12] }

// instanceMark is a random word that stays with the data directory.
func instanceMark(path string) (string, error) {
	b, err := os.ReadFile(path)
	if mark := strings.TrimSpace(string(b)); err == nil && len(mark) == 8 {
		return mark, nil
	}
	mark := newID()[:8]
	return mark, writeFile(path, []byte(mark+"\n"), 0o644)
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
