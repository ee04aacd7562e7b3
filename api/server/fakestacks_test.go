package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/dhow-project/dhow/cluster"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// fakeStacks keeps stacks and a log of what was asked.
type fakeStacks struct {
	mu       sync.Mutex
	all      map[string]cluster.StackStatus // guarded by mu
	defined  map[string]uint64              // guarded by mu: index of the last apply, by name
	given    int                            // guarded by mu: statuses handed out
	index    uint64                         // guarded by mu
	changed  chan struct{}                  // guarded by mu; closed and replaced at every change
	calls    []string                       // guarded by mu
	deployed []cluster.Deployment           // guarded by mu
}

func newFakeStacks() *fakeStacks {
	return &fakeStacks{all: map[string]cluster.StackStatus{}, defined: map[string]uint64{}, changed: make(chan struct{})}
}

func (f *fakeStacks) touchLocked(call string) {
	f.calls = append(f.calls, call)
	f.index++
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeStacks) Deploy(_ context.Context, d cluster.Deployment) (*plan.Plan, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deployed = append(f.deployed, d)
	s := d.Stack
	p := plan.Diff(s, plan.Snapshot{}, d.Options)
	if d.DryRun {
		return p, 0, nil
	}
	f.touchLocked("apply " + s.Name)
	f.all[s.Name] = cluster.StackStatus{Stack: s, Index: f.index}
	f.defined[s.Name] = f.index
	return p, f.index, nil
}

func (f *fakeStacks) History(name string) ([]cluster.Revision, error) {
	if _, err := f.Stack(name); err != nil {
		return nil, err
	}
	return []cluster.Revision{{Number: 2, Result: "in progress", Current: true}, {Number: 1, Result: "completed"}}, nil
}

func (f *fakeStacks) Rollback(_ context.Context, name string, opt cluster.RollbackOptions) (*plan.Plan, uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touchLocked(fmt.Sprintf("rollback %s to %d asked on %s", name, opt.To, opt.Node))
	return &plan.Plan{}, f.index, nil
}

func (f *fakeStacks) RemoveStack(_ context.Context, name string, opt cluster.RemoveOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, found := f.all[name]; !found {
		return fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	}
	delete(f.all, name)
	f.touchLocked(fmt.Sprintf("remove %s %+v", name, opt))
	return nil
}

func (f *fakeStacks) Control(_ context.Context, name string, action cluster.Action, opt cluster.ControlOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touchLocked(fmt.Sprintf("%s %s %v", action, name, opt.Services))
	return nil
}

func (f *fakeStacks) Scale(_ context.Context, name string, counts map[string]int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touchLocked(fmt.Sprintf("scale %s %v", name, counts))
	if st, found := f.all[name]; found {
		st.Index = f.index
		f.all[name] = st
	}
	return nil
}

func (f *fakeStacks) Stacks() (out []cluster.StackStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, st := range f.all {
		out = append(out, st)
	}
	return out
}

func (f *fakeStacks) Stack(name string) (cluster.StackStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, found := f.all[name]
	if !found {
		return st, fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	}
	return st, nil
}

func (f *fakeStacks) StackSince(name string, index uint64) (cluster.StackStatus, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, found := f.all[name]
	switch {
	case !found:
		return st, false, fmt.Errorf("stack %s: %w", name, runtime.ErrNotFound)
	case st.Index <= index:
		return cluster.StackStatus{}, false, nil
	}
	f.given++
	if index >= f.defined[name] {
		st.Stack = stack.Stack{}
	}
	return st, true, nil
}

func (f *fakeStacks) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeStacks) ForgetVolume(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.touchLocked("forget volume " + name)
	return nil
}
