package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dhow-project/dhow/cluster/dispatch"
	"github.com/dhow-project/dhow/runtime/shim/lease"
	"github.com/dhow-project/dhow/stack"
)

// fence is what the agent sees of its tasks: those of exclusive services only
// while this node's lease holds. When no manager has been heard of for most of
// a lease they are ended here, before another node may run them, whatever the
// managers think of this node. They come back when a manager says so.
//
// The end of the lease is also written to a file, before such a task is shown
// for the first time and each time it moves: should this process die or stand
// still, the shims of their containers end them.
type fence struct {
	cfg fenceConfig

	mu        sync.Mutex
	some      bool          // guarded by mu: there are exclusive tasks here
	held      bool          // guarded by mu: the lease has held since there are
	waits     time.Time     // guarded by mu: until then, who has no lease yet is given the time to get one
	inherited int64         // guarded by mu: end of the lease that a process before this one has left
	written   int64         // guarded by mu: what the file says; 0: not known
	told      hold          // guarded by mu: the last that Assignments or run has seen
	changed   chan struct{} // guarded by mu: closed and replaced when told has changed

	wake chan struct{} // capacity 1: run has something to do
}

// fenceConfig is what a fence needs.
type fenceConfig struct {
	client interface {
		Assignments(node string) []stack.Assignment
		Changed() <-chan struct{}
		Report(ctx context.Context, reports []stack.TaskReport) error
		Term() (from, until time.Time)
	}
	file  string      // "": none is kept
	alone func() bool // nobody else could run anything: the lease has no end; it may become one of several at any time
	clock *clock      // nil: the machine's
	log   *slog.Logger
}

// hold is how it stands with the lease.
type hold int

const (
	waiting hold = iota // there has been none yet: nothing starts, what runs is left to its shim
	holding
	ended
)

const (
	// early is how long before the end of the lease exclusive tasks are ended:
	// they have to be gone when it is over.
	early = 1500 * time.Millisecond
	// farewell is what they get between the signal to stop and the kill, which
	// comes before their shims' own (lease.Margin).
	farewell = 800 * time.Millisecond
	// every is how often the file follows the lease.
	every = time.Second
)

// firstLease is what a node has at least when it calls for the first time.
var firstLease = dispatch.DefaultTerms(1).Lease

func newFence(cfg fenceConfig) *fence {
	if cfg.clock == nil {
		cfg.clock = bootClock
	}
	f := &fence{cfg: cfg, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	f.waits = cfg.clock.mono().Add(firstLease)
	if cfg.file == "" {
		return f
	}
	if end, err := lease.Read(cfg.file); err == nil {
		f.inherited = end
	}
	if f.inherited == lease.Never && !cfg.alone() { // it was alone until now: the others know of no other lease
		f.inherited = cfg.clock.boot() + int64(firstLease)
		f.store(f.inherited)
	}
	return f
}

// Assignments of this node. How it stands is found out before what is assigned is
// read: a lease counts for what was told with it.
func (f *fence) Assignments(node string) []stack.Assignment {
	list := f.cfg.client.Assignments(node)
	for {
		some := slices.ContainsFunc(list, exclusive)
		now := f.look(some)
		if list = f.cfg.client.Assignments(node); slices.ContainsFunc(list, exclusive) == some {
			return now.show(list)
		}
	}
}

func exclusive(a stack.Assignment) bool { return a.Service != nil && a.Service.Exclusive }

// show is the list as the agent may see it.
func (h hold) show(list []stack.Assignment) []stack.Assignment {
	if h == holding {
		return list
	}
	list = slices.Clone(list)
	for i := range list {
		t := &list[i].Task
		switch {
		case !exclusive(list[i]):
		case h == ended:
			grace := farewell
			t.Desired, t.Grace = stack.DesiredRemove, &grace
		case t.Desired == stack.DesiredRun:
			t.Desired = stack.DesiredCreate
		}
	}
	return list
}

// look finds out how it stands, some being whether there are exclusive tasks.
func (f *fence) look(some bool) hold {
	f.mu.Lock()
	defer f.mu.Unlock()
	if some != f.some {
		f.some, f.held, f.waits = some, false, f.cfg.clock.mono().Add(firstLease)
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	return f.lookLocked()
}

// lookLocked finds out how it stands, and sees to it that the file says so first.
func (f *fence) lookLocked() hold {
	end, now := f.endLocked(), ended
	switch left := time.Duration(end - f.cfg.clock.boot()); {
	case left > early && f.writeLocked(end):
		now, f.held = holding, true
	case !f.held && f.cfg.clock.mono().Before(f.waits):
		now = waiting
	}
	if now != f.told {
		f.told = now
		close(f.changed)
		f.changed = make(chan struct{})
	}
	return now
}

// endLocked is when the lease ends, in ns since boot.
func (f *fence) endLocked() int64 {
	if f.cfg.alone() {
		return lease.Never
	}
	from, until := f.cfg.client.Term()
	if until.IsZero() {
		return f.inherited
	}
	return f.cfg.clock.at(from, until)
}

// writeLocked makes the file say end, and says whether it does. There is no file
// to keep while nothing needs it.
func (f *fence) writeLocked(end int64) bool {
	if f.cfg.file == "" || f.written == end || !f.some {
		return true
	}
	return f.store(end)
}

func (f *fence) store(end int64) bool {
	if err := lease.Write(f.cfg.file, end); err != nil {
		f.written = 0
		f.cfg.log.Error("the lease is not written: what is exclusive ends", "file", f.cfg.file, "error", err)
		return false
	}
	f.written = end
	return true
}

// Changed is closed when Assignments may answer otherwise.
func (f *fence) Changed() <-chan struct{} {
	assigned := f.cfg.client.Changed()
	f.mu.Lock()
	lease := f.changed
	f.mu.Unlock()
	out := make(chan struct{})
	go func() {
		defer close(out)
		select {
		case <-assigned:
		case <-lease:
		}
	}()
	return out
}

func (f *fence) Report(ctx context.Context, reports []stack.TaskReport) error {
	return f.cfg.client.Report(ctx, reports)
}

// run follows the lease while there are exclusive tasks.
func (f *fence) run(ctx context.Context) error {
	for {
		f.mu.Lock()
		var next <-chan time.Time
		if f.some {
			pause := early / 6 // it may come back at any time
			if f.lookLocked() == holding {
				pause = min(every, time.Duration(f.endLocked()-f.cfg.clock.boot())-early)
			}
			next = time.After(max(pause, 10*time.Millisecond))
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		case <-next:
		}
	}
}
