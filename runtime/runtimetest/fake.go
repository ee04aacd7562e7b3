package runtimetest

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/events"
	"github.com/dhow-project/dhow/stack"
)

// Fake is an engine without processes. A container "runs" until it is stopped
// or Exit is called, but for a few commands that it understands: true, false,
// "sh -c 'exit N'" and "echo WORDS" end by themselves as soon as they start.
// It is safe for concurrent use.
type Fake struct {
	Bus *events.Bus
	// Now is the clock, time.Now when nil.
	Now func() time.Time

	mu         sync.Mutex
	seq        int                       // guarded by mu
	containers map[string]*fakeContainer // guarded by mu; by ID
	withdrawn  map[string]bool           // guarded by mu; by ID: get no new requests
	execs      map[string]*runtime.Exec  // guarded by mu
	images     map[string]runtime.Image  // guarded by mu; nil: every image exists
	failStart  map[string]error          // guarded by mu; by container name
	onExec     func(container string, spec runtime.ExecSpec) (output string, code int)
}

type fakeContainer struct {
	runtime.Container
	log     []runtime.LogEntry
	waiters []fakeWaiter
	files   map[string]fakeFile
	changed chan struct{} // closed and replaced at every change of state or log
}

type fakeWaiter struct {
	cond runtime.WaitCondition
	ch   chan runtime.ExitStatus
}

var _ Engine = (*Fake)(nil)

// NewFake returns an empty engine in which every image exists.
func NewFake() *Fake {
	return &Fake{
		Bus:        events.New(),
		containers: map[string]*fakeContainer{},
		execs:      map[string]*runtime.Exec{},
		failStart:  map[string]error{},
	}
}

// AddImage makes an image known; from then on images that are not known are missing.
func (f *Fake) AddImage(ref string, img runtime.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.images == nil {
		f.images = map[string]runtime.Image{}
	}
	f.images[ref] = img
}

// FailStart makes every start of the named container fail with err; nil ends that.
func (f *Fake) FailStart(name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.failStart, name)
		return
	}
	f.failStart[name] = err
}

// OnExec sets what an exec prints and how it ends; by default it prints
// nothing and ends with 0.
func (f *Fake) OnExec(run func(container string, spec runtime.ExecSpec) (output string, code int)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onExec = run
}

// Exit ends the main process of a running container. The restart policy applies at once.
func (f *Fake) Exit(ref string, code int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if !running(c) {
		return fmt.Errorf("container %s: %w", c.Name, runtime.ErrNotRunning)
	}
	f.exitLocked(c, code)
	return nil
}

// SetHealth sets the health of a running container: "starting", "healthy", "unhealthy".
func (f *Fake) SetHealth(ref, status string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	if c.State.Health == nil {
		c.State.Health = &runtime.Health{}
	}
	if c.State.Health.Status != status {
		c.State.Health.Status = status
		f.eventLocked(c, "health_status: "+status, nil)
	}
	return nil
}

// Print adds a line to the container's log.
func (f *Fake) Print(ref, stream, line string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	f.printLocked(c, stream, line)
	return nil
}

func (f *Fake) printLocked(c *fakeContainer, stream, line string) {
	c.log = append(c.log, runtime.LogEntry{Time: f.now(), Stream: stream, Line: []byte(line + "\n")})
	c.touch()
}

// String prints the state, one container a line, sorted by name:
// "web running image=nginx health=healthy restarts=2".
func (f *Fake) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, c := range f.containers {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s image=%s", c.Name, c.State.Status, c.Spec.Image)
		if c.State.Status == runtime.Exited {
			fmt.Fprintf(&b, " exit=%d", c.State.ExitCode)
		}
		if c.State.Health != nil {
			fmt.Fprintf(&b, " health=%s", c.State.Health.Status)
		}
		if c.RestartCount > 0 {
			fmt.Fprintf(&b, " restarts=%d", c.RestartCount)
		}
		if c.State.Error != "" {
			fmt.Fprintf(&b, " error=%q", c.State.Error)
		}
		lines = append(lines, b.String()+"\n")
	}
	sort.Strings(lines)
	return strings.Join(lines, "")
}

func (f *Fake) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

func (f *Fake) findLocked(ref string) (*fakeContainer, error) {
	ref = strings.TrimPrefix(ref, "/")
	if c, ok := f.containers[ref]; ok {
		return c, nil
	}
	var found []*fakeContainer
	for _, c := range f.containers {
		if c.Name == ref {
			return c, nil
		}
		if ref != "" && strings.HasPrefix(c.ID, ref) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("container %s: %w", ref, runtime.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("container %s: several IDs begin like this: %w", ref, runtime.ErrInvalid)
}

func (f *Fake) eventLocked(c *fakeContainer, action string, attrs map[string]string) {
	all := map[string]string{"name": c.Name, "image": c.Spec.Image}
	for k, v := range c.Spec.Labels {
		all[k] = v
	}
	for k, v := range attrs {
		all[k] = v
	}
	f.Bus.Publish(runtime.Event{Type: "container", Action: action, ID: c.ID, Attrs: all, Time: f.now()})
	c.touch()
}

func (c *fakeContainer) touch() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *fakeContainer) notify(removed bool) {
	st := runtime.ExitStatus{Code: c.State.ExitCode, Err: c.State.Error}
	kept := c.waiters[:0]
	for _, w := range c.waiters {
		if w.cond == runtime.WaitRemoved && !removed {
			kept = append(kept, w)
			continue
		}
		w.ch <- st
	}
	c.waiters = kept
}

func running(c *fakeContainer) bool {
	return c.State.Status == runtime.Running || c.State.Status == runtime.Paused
}

// ownExit says with which code and output the commands that the fake
// understands end by themselves.
func ownExit(c *fakeContainer) (code int, output string, ends bool) {
	argv := append(append([]string{}, c.Spec.Entrypoint...), c.Spec.Command...)
	if len(argv) == 0 {
		return 0, "", false
	}
	switch {
	case argv[0] == "true":
		return 0, "", true
	case argv[0] == "false":
		return 1, "", true
	case argv[0] == "echo":
		return 0, strings.Join(argv[1:], " "), true
	case len(argv) == 3 && argv[0] == "sh" && argv[1] == "-c" && strings.HasPrefix(argv[2], "exit "):
		n, err := strconv.Atoi(strings.TrimPrefix(argv[2], "exit "))
		return n, "", err == nil
	}
	return 0, "", false
}

// snapshot returns a copy that shares nothing that changes.
func (c *fakeContainer) snapshot() runtime.Container {
	out := c.Container
	out.Spec = c.Spec.Clone()
	if h := c.State.Health; h != nil {
		copied := *h
		copied.Log = append([]runtime.HealthResult(nil), h.Log...)
		out.State.Health = &copied
	}
	return out
}

// List implements Engine.
func (f *Fake) List(_ context.Context, flt runtime.Filter) ([]runtime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []runtime.Container
	for _, c := range f.containers {
		if (flt.All || running(c)) && matches(c, flt) {
			out = append(out, c.snapshot())
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if !out[i].Created.Equal(out[j].Created) {
			return out[i].Created.After(out[j].Created)
		}
		return out[i].ID > out[j].ID
	})
	return out, nil
}

func matches(c *fakeContainer, flt runtime.Filter) bool {
	for k, v := range flt.Labels {
		got, ok := c.Spec.Labels[k]
		if !ok || (v != "" && got != v) {
			return false
		}
	}
	return anyOf(flt.Names, func(n string) bool { return n == c.Name }) &&
		anyOf(flt.IDs, func(id string) bool { return strings.HasPrefix(c.ID, id) })
}

func anyOf(list []string, ok func(string) bool) bool {
	for _, s := range list {
		if ok(s) {
			return true
		}
	}
	return len(list) == 0
}

// Inspect implements Engine.
func (f *Fake) Inspect(_ context.Context, ref string) (*runtime.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return nil, err
	}
	out := c.snapshot()
	return &out, nil
}

// Update implements Engine.
func (f *Fake) Update(_ context.Context, ref string, res stack.Resources, restart *stack.RestartPolicy) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.findLocked(ref)
	if err != nil {
		return err
	}
	c.Spec.Resources = res
	if restart != nil {
		c.Spec.Restart = *restart
	}
	f.eventLocked(c, "update", nil)
	return nil
}
