package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/stack"
	"github.com/dhow-project/dhow/stack/plan"
)

// Deployment is a stack to be applied, with what came along with it.
type Deployment struct {
	Stack   stack.Stack
	Options plan.Options
	DryRun  bool                 // only the plan
	Pins    map[string]stack.Pin // images of the node where a person deploys, by service (PinLocal); nil: that is this node
	Node    string               // host name of the node that was asked, for the history
	Found   *stack.Findings      // on the node where a person deploys; nil: that is this node
	Logins  Logins               // of the person who deploys; those of earlier deployments stay for registries that are not among them

	back uint64 // revision that this brings back; 0: none
}

// ApplyStack deploys s from this node.
func (m *Manager) ApplyStack(ctx context.Context, s stack.Stack, opt plan.Options, dryRun bool) (*plan.Plan, uint64, error) {
	return m.Deploy(ctx, Deployment{Stack: s, Options: opt, DryRun: dryRun})
}

// Deploy makes d the wish for its stack, in one command, and returns the plan
// and the index of the state that holds it. A dry run returns the plan only
// (index 0). A plan with refusals is returned together with the error that joins
// them. The loop brings about what was wished for; this does not wait for it.
func (m *Manager) Deploy(ctx context.Context, d Deployment) (*plan.Plan, uint64, error) {
	s := d.Stack
	if err := check(s); err != nil {
		return nil, 0, fmt.Errorf("stack %s: %w: %w", s.Name, runtime.ErrInvalid, err)
	}
	pins := maps.Clone(d.Pins)
	if pins == nil {
		pins = PinLocal(ctx, s, m.cfg.Images)
	}
	if d.Found == nil {
		d.Found = CheckLocal(s, m.cfg.Host)
	}
	if s.Home == "" {
		s.Home = m.node
	}
	if err := m.portsInUse(ctx, s); err != nil {
		return nil, 0, err
	}
	notes := m.pinElsewhere(ctx, s, pins, d.Logins)
	if err := m.turn(ctx); err != nil {
		return nil, 0, fmt.Errorf("stack %s: %w", s.Name, err)
	}
	defer m.write.Unlock()
	snap := m.store.Snapshot()
	s = pin(s, pins, snap)
	var keys summer
	if len(s.Secrets)+len(s.Configs) > 0 {
		var err error
		if keys, err = m.summer(snap); err != nil {
			return nil, 0, fmt.Errorf("stack %s: %w", s.Name, err)
		}
		s = withSums(snap, s, keys)
	}
	d.Stack = s
	p, index, err := m.apply(ctx, snap, d, keys.store)
	if p != nil {
		p.Notes = append(p.Notes, notes...)
	}
	return p, index, err
}

// apply is Deploy of a stack whose images are pinned and whose files have sums.
// extra goes into the command, if there is one. write is held.
func (m *Manager) apply(ctx context.Context, snap *state.Snapshot, d Deployment, extra []state.Change) (*plan.Plan, uint64, error) {
	s, opt := d.Stack, d.Options
	p, err := m.plan(snap, s, opt)
	if err != nil {
		return nil, 0, fmt.Errorf("stack %s: %w", s.Name, err)
	}
	if err := p.Err(); err != nil {
		return p, 0, fmt.Errorf("stack %s: %w: %w", s.Name, runtime.ErrConflict, err)
	}
	if err := preflight(snap, p, d.Found); err != nil {
		return p, 0, err
	}
	if err := portConflicts(snap, p); err != nil {
		return p, 0, err
	}
	changes, err := m.applyChanges(snap, p, &d, time.Now().UnixNano())
	if err != nil {
		return p, 0, fmt.Errorf("stack %s: %w", s.Name, err)
	}
	if d.DryRun {
		return p, 0, nil
	}
	if len(changes) > 0 {
		changes = append(changes, extra...)
	}
	if changes, err = m.withLogins(snap, p.Stack, changes, d.Logins); err != nil {
		return p, 0, fmt.Errorf("stack %s: %w", s.Name, err)
	}
	index, err := m.propose(ctx, changes)
	if err != nil {
		return p, 0, fmt.Errorf("stack %s: %w", s.Name, err)
	}
	if rec := m.store.Snapshot().Stack(s.Name); rec != nil {
		index = min(index, rec.Index) // of this stack: what happened to others since is no sign to wait for
	}
	m.log.Info("stack applied", "stack", s.Name, "steps", len(p.Steps), "index", index)
	return p, index, nil
}

func check(s stack.Stack) error {
	errs := []error{s.Validate()}
	for _, name := range s.ServiceNames() {
		for _, expr := range s.Services[name].Deploy.Constraints {
			if err := schedule.CheckConstraint(expr); err != nil {
				errs = append(errs, fmt.Errorf("service %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// plan compares s with the state. What the stack's services are wished to do by
// a person (stopped, removed containers) is a step too.
func (m *Manager) plan(snap *state.Snapshot, s stack.Stack, opt plan.Options) (*plan.Plan, error) {
	have := plan.Snapshot{Networks: map[string]bool{"host": true, "none": true}}
	for _, t := range snap.Tasks(s.Name) {
		have.Tasks = append(have.Tasks, *t)
	}
	for _, n := range snap.Networks() {
		have.Networks[n.Name] = true
	}
	var err error
	if have.Volumes, err = m.volumeNames(snap); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	if old, ok := assemble(snap, s.Name); ok {
		for _, sv := range snap.Services(s.Name) {
			if sv.Removing {
				delete(old.Services, sv.Name)
			}
		}
		have.Stack = &old
	}
	p := plan.Diff(s, have, opt)
	if !opt.NoStart {
		addStarts(snap, p, s, opt)
	}
	return p, nil
}

// addStarts adds what a comparison of definitions cannot see: services whose
// containers a person took away or stopped behind the cluster's back.
func addStarts(snap *state.Snapshot, p *plan.Plan, s stack.Stack, opt plan.Options) {
	chosen := s.ServiceNames()
	if len(opt.Services) > 0 {
		chosen = slices.Clone(opt.Services)
		if !opt.NoDeps {
			chosen = s.Closure(opt.Services)
		}
	}
	for _, name := range chosen {
		sv := snap.Service(s.Name, name)
		if _, has := p.Step(plan.Service, name); has || sv == nil {
			continue
		}
		cause := ""
		if sv.Desired != stack.DesiredRun {
			cause = "is not to run: " + string(sv.Desired)
		}
		for _, t := range snap.ServiceTasks(s.Name, name) {
			if byHand(t) {
				cause = fmt.Sprintf("%s.%d was %s", name, t.Slot, stack.StoppedByHand)
			}
		}
		if cause != "" {
			p.Steps = append(p.Steps, plan.Step{Action: plan.Start, Kind: plan.Service, Name: name, Cause: cause})
		}
	}
}

func byHand(t *stack.Task) bool {
	return t.Status.State == stack.TaskReady && t.Status.Message == stack.StoppedByHand
}

// applyChanges turns a plan into the changes of one command.
func (m *Manager) applyChanges(snap *state.Snapshot, p *plan.Plan, d *Deployment, now int64) ([]state.Change, error) {
	name, opt := p.Stack.Name, d.Options
	old := snap.Stack(name)
	if len(p.Steps) == 0 && old != nil && !old.Removing {
		return nil, nil
	}
	rec := state.Stack{Name: name, Spec: header(p.Stack), Created: now, Updated: now}
	if old != nil {
		rec.Created, rec.Logins = old.Created, old.Logins
	}
	changes := []state.Change{{Stack: &rec}}
	networks, err := m.networkChanges(snap, p.Stack, func(key string) bool {
		_, ok := p.Step(plan.Network, key, plan.Recreate)
		return ok
	}, now)
	if err != nil {
		return nil, err
	}
	changes = append(changes, networks...)
	files, changed, err := m.fileChanges(snap, p.Stack)
	if err != nil {
		return nil, err
	}
	changes = append(changes, files...)
	changes = append(changes, guestChanges(snap, p, changed)...)
	for _, sv := range p.Stack.ServiceNames() {
		changes = append(changes, serviceChanges(snap, p, opt, sv)...)
	}
	for _, step := range p.Steps {
		if step.Kind == plan.Service && step.Action == plan.Remove {
			changes = append(changes, removeService(snap.Service(name, step.Name), false, opt.Grace)...)
		}
	}
	revision, err := newRevision(snap, p, d, now)
	return append(changes, revision...), err
}

// serviceChanges stores one service and wakes its tasks, as its step says.
func serviceChanges(snap *state.Snapshot, p *plan.Plan, opt plan.Options, name string) []state.Change {
	step, ok := p.Step(plan.Service, name)
	old := snap.Service(p.Stack.Name, name)
	if !ok && old != nil && !old.Removing {
		return nil
	}
	c := state.ServiceChange{Service: state.Service{
		Stack: p.Stack.Name, Name: name, Hash: p.Stack.ServiceHash(name), Desired: stack.DesiredRun, Grace: opt.Grace,
	}}
	c.NewVersion = old == nil || step.Action == plan.Recreate || step.Action == plan.Create && old.Hash != c.Hash
	var given *stack.Service // what its containers have
	if !c.NewVersion {
		given = &old.Spec
	}
	c.Spec = pinFiles(p.Stack.Services[name], p.Stack, given)
	if opt.NoStart && (c.NewVersion || old.Desired != stack.DesiredRun) {
		c.Desired = stack.DesiredCreate
	}
	changes := []state.Change{{Service: &c}}
	if c.NewVersion || c.Desired != stack.DesiredRun {
		return changes
	}
	for _, t := range snap.ServiceTasks(p.Stack.Name, name) {
		if step.Action == plan.Restart || t.Status.State == stack.TaskFailed || t.Desired == stack.DesiredStop || byHand(t) {
			changes = append(changes, wake(t)...)
		}
	}
	return changes
}

// wake asks for a start or restart of a task that has a container; the loop
// lets it through when the task's dependencies allow.
//
// One that was never placed because a dependency failed waits again: whoever
// looks before the loop has judged anew must not take the old failure for a new one.
func wake(t *stack.Task) []state.Change {
	if t.Desired == stack.DesiredRemove {
		return nil
	}
	c := *t
	if t.Node == "" {
		if t.Status.State != stack.TaskFailed {
			return nil
		}
		c.Status = stack.TaskStatus{State: stack.TaskPending}
		return []state.Change{{Update: &c}}
	}
	c.Wanted = max(t.Wanted, t.Restarts, t.Status.Restarts) + 1
	return []state.Change{{Update: &c}}
}

func removeService(sv *state.Service, volumes bool, grace *time.Duration) []state.Change {
	if sv == nil {
		return nil
	}
	c := state.ServiceChange{Service: *sv}
	c.Removing, c.RemoveVolumes, c.Grace = true, volumes, grace
	return []state.Change{{Service: &c}}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func mapsEqual(a, b map[string]string) bool { return maps.Equal(a, b) }
