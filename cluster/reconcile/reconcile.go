package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/dhow-project/dhow/stack"
)

// Input is all that a decision about one stack depends on.
type Input struct {
	Stack    string
	Services []Service // sorted by name
	Tasks    []*stack.Task
	Nodes    []*stack.Node
	// Eligible tells whether a node may run tasks of a service (global services); nil: all nodes.
	Eligible func(*stack.Service, *stack.Node) bool
	Stale    []string // keys of networks that are to be replaced once no container uses them
	Now      int64    // Unix nanoseconds
	// Past returns the ended tasks of a service that are remembered, in any order; nil: none are.
	Past func(service string) []*stack.Task
	// LeaseEnded tells of a node that is down, or that is not among Nodes, whether
	// it has certainly stopped its exclusive tasks by now; nil: it has. It is asked
	// again every second.
	LeaseEnded func(node string) bool
	DrainGrace time.Duration // between no new requests for a task and the wish to stop it
}

// Service is the wish for one service.
type Service struct {
	Spec          *stack.Service
	Version       uint64
	Versions      map[uint64]*stack.Service // specs of older versions that tasks use
	Update        *stack.UpdateStatus       // of the last update, nil before the first
	Desired       stack.Desired             // create, run, stop, pause; remove: no tasks
	Removing      bool
	RemoveVolumes bool
	Left          stack.Left
	Grace         *time.Duration // of tasks that are stopped, over the spec's
}

// Change is one task to make or to change.
type Change struct {
	Task  stack.Task // without ID when New
	New   bool
	Place bool // may start but has no node yet
}

// Result is what is to be done.
type Result struct {
	Changes []Change
	Delete  []string              // IDs of tasks to forget: they never had a container
	Retire  []stack.Task          // tasks to forget but for the history of their slot
	Rollout []Rollout             // of services whose update got further
	Left    map[string]stack.Left // of services for which that changes
	Gone    []string              // services that are removed and have no task any more
	Swap    []string              // keys of stale networks that nothing uses any more
	Again   int64                 // when time alone changes the decision, Unix nanoseconds; 0: never
}

// Rollout is how far the update of a service has got, and whether it turns back.
type Rollout struct {
	Service string
	Version uint64 // that the decision is about
	Update  *stack.UpdateStatus
	Back    uint64 // version that the service takes again; 0: none
}

// Stack decides about one stack.
func Stack(in Input) Result {
	r := newRound(in)
	for _, s := range r.services {
		r.settle(s)
	}
	for _, s := range r.services {
		r.decide(s)
	}
	r.swap()
	return r.res
}

// round is one decision under way.
type round struct {
	in       Input
	services []*service
	byName   map[string]*service
	nodes    map[string]*stack.Node
	res      Result
}

// service is a service with its tasks.
type service struct {
	Service
	name       string
	tasks      []*stack.Task                 // that stay in the state this round, by slot
	at         map[slotKey]*stack.Task       // tasks by place
	keys       []slotKey                     // wanted, in order
	want       map[slotKey]bool              // keys
	freed      map[slotKey]*stack.Task       // tasks of which nothing is left
	passed     map[slotKey]map[string]string // anonymous volumes that their successors inherit
	dependents []*service
}

// slotKey is a task's place in its service: a number, or a node for global services.
type slotKey struct {
	slot int
	pin  string
}

func keyOf(t *stack.Task) slotKey { return slotKey{t.Slot, t.Pin} }

func newRound(in Input) *round {
	r := &round{res: Result{Left: map[string]stack.Left{}}, in: in, byName: map[string]*service{}, nodes: map[string]*stack.Node{}}
	for _, n := range in.Nodes {
		r.nodes[n.ID] = n
	}
	for _, s := range in.Services {
		sv := &service{Service: s, name: s.Spec.Name, freed: map[slotKey]*stack.Task{}, passed: map[slotKey]map[string]string{}}
		r.services = append(r.services, sv)
		r.byName[sv.name] = sv
	}
	slices.SortFunc(r.services, func(a, b *service) int { return strings.Compare(a.name, b.name) })
	for _, s := range r.services {
		for _, need := range s.Spec.Needs() {
			if d := r.byName[need]; d != nil {
				d.dependents = append(d.dependents, s)
			}
		}
	}
	for _, t := range in.Tasks {
		if s := r.byName[t.Service]; s != nil {
			s.tasks = append(s.tasks, t)
		} else if gone(t, r.nodes) {
			r.res.Delete = append(r.res.Delete, t.ID)
		} else if t.Desired != stack.DesiredRemove {
			r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredRemove })
		}
	}
	for _, s := range r.services {
		slices.SortFunc(s.tasks, byPlace)
	}
	return r
}

func byPlace(a, b *stack.Task) int {
	if a.Slot != b.Slot {
		return a.Slot - b.Slot
	}
	if c := strings.Compare(a.Pin, b.Pin); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// gone reports whether nothing is left of a task on any node.
func gone(t *stack.Task, nodes map[string]*stack.Node) bool {
	if t.Node == "" {
		return t.Desired == stack.DesiredRemove
	}
	return t.Status.State == stack.TaskRemoved || nodes[t.Node] == nil
}

// settle forgets the tasks of which nothing is left, which frees their slots,
// and finds the slots that are wanted.
func (r *round) settle(s *service) {
	s.keys = r.wanted(s)
	s.want = make(map[slotKey]bool, len(s.keys))
	for _, k := range s.keys {
		s.want[k] = true
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *stack.Task) bool {
		unplaced := t.Node == "" && (!s.want[keyOf(t)] || t.Version != s.Version)
		if !unplaced && !gone(t, r.nodes) {
			return false
		}
		r.res.Delete = append(r.res.Delete, t.ID)
		s.freed[keyOf(t)] = t
		return true
	})
	s.at = make(map[slotKey]*stack.Task, len(s.tasks))
	for _, t := range s.tasks {
		s.at[keyOf(t)] = t
	}
}

// decide makes, changes and ends the tasks of s.
func (r *round) decide(s *service) {
	if len(s.tasks) > 0 || !s.Removing {
		r.lead(s)
	}
	if swept := r.leftovers(s); s.Removing && len(s.tasks) == 0 && !swept {
		r.res.Gone = append(r.res.Gone, s.name)
	}
}

// lead brings the tasks of s where they are wanted.
func (r *round) lead(s *service) {
	g := r.gate(s)
	replace := r.replaceable(s, g)
	for _, t := range s.tasks {
		switch {
		case t.Desired == stack.DesiredRemove:
			if s.RemoveVolumes && s.leaving() && !t.RemoveVolumes {
				r.change(t, func(t *stack.Task) { t.RemoveVolumes = true })
			}
		case s.leaving():
			r.remove(s, t)
		case !s.want[keyOf(t)] || replace[t.ID]:
			r.change(t, func(t *stack.Task) { t.Desired, t.Grace = stack.DesiredRemove, s.Grace })
		default:
			r.steer(s, t, g)
		}
	}
	r.fill(s, g)
}

// leaving reports whether no task of s is wanted at all.
func (s *service) leaving() bool { return s.Removing || s.Desired == stack.DesiredRemove }

// down reports whether s is wanted not to run.
func (s *service) down() bool { return s.leaving() || s.Desired == stack.DesiredStop }

// remove ends a task of a service that goes, after those of the services that depend on it.
func (r *round) remove(s *service, t *stack.Task) {
	if r.heldByDependents(s, true) {
		return
	}
	r.change(t, func(t *stack.Task) {
		t.Desired, t.Grace = stack.DesiredRemove, s.Grace
		t.RemoveVolumes = s.RemoveVolumes
	})
}

// steer turns a task that stays to what is wanted of its service.
func (r *round) steer(s *service, t *stack.Task, g gate) {
	if t.Node == "" {
		r.open(s, t, g)
		return
	}
	switch s.Desired {
	case stack.DesiredStop:
		if t.Desired != stack.DesiredStop && !r.heldByDependents(s, false) {
			r.change(t, func(t *stack.Task) { t.Desired, t.Grace = stack.DesiredStop, s.Grace })
		}
	case stack.DesiredPause:
		if t.Desired == stack.DesiredRun {
			r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredPause })
		}
	case stack.DesiredCreate: // what runs already goes on
	default:
		r.start(s, t, g)
	}
}

// start lets a task with a node run, when its dependencies allow.
func (r *round) start(s *service, t *stack.Task, g gate) {
	if t.Desired == stack.DesiredPause && t.Wanted <= t.Restarts {
		r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredRun })
		return
	}
	if t.Desired == stack.DesiredRun && t.Wanted <= t.Restarts || !g.open() {
		return
	}
	r.change(t, func(t *stack.Task) {
		t.Restarts = max(t.Wanted, t.Restarts)
		if t.Desired != stack.DesiredRun && t.Restarts <= t.Status.Restarts {
			t.Restarts = t.Status.Restarts + 1
		}
		t.Wanted = t.Restarts
		t.Desired, t.Grace = stack.DesiredRun, s.Grace
	})
}

// open lets a task without a node be placed, or says what it waits for.
func (r *round) open(s *service, t *stack.Task, g gate) {
	if s.Desired != stack.DesiredRun && s.Desired != stack.DesiredCreate {
		g = gate{state: stack.TaskPending, message: "is not to run: " + string(s.Desired)}
	}
	if g.open() {
		r.res.Changes = append(r.res.Changes, Change{Task: *t, Place: true})
		return
	}
	if t.Status.State != g.state || t.Status.Message != g.message {
		r.change(t, func(t *stack.Task) { t.Status = r.waiting(g) })
	}
}

// fill makes the tasks of wanted slots that have none.
func (r *round) fill(s *service, g gate) {
	if s.Desired != stack.DesiredRun && s.Desired != stack.DesiredCreate || s.Removing {
		return
	}
	busy := 0
	for _, t := range s.tasks {
		if t.Status.State < stack.TaskCompleted {
			busy++
		}
	}
	for _, k := range s.keys {
		if s.at[k] != nil {
			continue
		}
		if s.Spec.Mode == stack.ReplicatedJob && s.Spec.MaxConcurrent > 0 && busy >= s.Spec.MaxConcurrent {
			return
		}
		busy++
		r.make(s, k, g)
	}
}

// make adds a task; it inherits the anonymous volumes of the one before it.
func (r *round) make(s *service, k slotKey, g gate) {
	t := stack.Task{
		Stack: r.in.Stack, Service: s.name, Slot: k.slot, Pin: k.pin,
		Version: s.Version, Desired: s.Desired, Created: r.in.Now,
	}
	if old := s.freed[k]; old != nil && !old.RemoveVolumes {
		t.Anonymous = old.Status.Anonymous
		if t.Anonymous == nil {
			t.Anonymous = old.Anonymous
		}
		s.passed[k] = t.Anonymous
	}
	if !g.open() {
		t.Status = r.waiting(g)
	}
	r.res.Changes = append(r.res.Changes, Change{Task: t, New: true, Place: g.open()})
}

func (r *round) change(t *stack.Task, f func(*stack.Task)) {
	c := *t
	f(&c)
	r.res.Changes = append(r.res.Changes, Change{Task: c})
}
