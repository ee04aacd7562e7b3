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
	// Node finds one of Nodes by ID, nil when it is not among them; nil: it is looked for.
	Node func(id string) *stack.Node
	// Eligible tells whether a node may run tasks of a service; nil: all nodes.
	// A task on a node that no longer is moves away.
	Eligible func(*stack.Service, *stack.Node) bool
	// Bound tells whether the tasks of a service have to be on one certain node, as
	// their data or files are there; nil: of none. Such a task is not moved when its node cannot start it.
	Bound func(*stack.Service) bool
	Stale []string // keys of networks that are to be replaced once no container uses them
	// Held says, by key, who is in stale networks beside the stack's own tasks.
	Held map[string]string
	Now  int64 // Unix nanoseconds
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
	Delete  []string              // IDs of tasks to forget
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
	node     func(string) *stack.Node
	changed  map[*stack.Task]int // index in res.Changes
	deleted  map[string]bool     // IDs of tasks without a node that this round forgets
	res      Result
}

// service is a service with its tasks.
type service struct {
	Service
	name       string
	tasks      []*stack.Task                 // that stay in the state this round, by slot
	slots      []*slot                       // of tasks, in order
	at         map[slotKey]*slot             // slots by place
	keys       []slotKey                     // wanted, in order
	want       map[slotKey]bool              // keys
	freed      map[slotKey][]*stack.Task     // tasks of which nothing is left
	passed     map[slotKey]map[string]string // anonymous volumes that their successors inherit
	dependents []*service
}

func among(nodes []*stack.Node) func(string) *stack.Node {
	byID := make(map[string]*stack.Node, len(nodes))
	for _, n := range nodes {
		byID[n.ID] = n
	}
	return func(id string) *stack.Node { return byID[id] }
}

func newRound(in Input) *round {
	r := &round{
		in: in, res: Result{Left: map[string]stack.Left{}}, changed: map[*stack.Task]int{}, deleted: map[string]bool{},
		byName: map[string]*service{}, node: in.Node,
	}
	if r.node == nil {
		r.node = among(in.Nodes)
	}
	for _, s := range in.Services {
		sv := &service{Service: s, name: s.Spec.Name, freed: map[slotKey][]*stack.Task{}, passed: map[slotKey]map[string]string{}}
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
		} else {
			r.disown(t)
		}
	}
	for _, s := range r.services {
		slices.SortFunc(s.tasks, byPlace)
	}
	return r
}

// disown ends a task whose service there is no more.
func (r *round) disown(t *stack.Task) {
	if r.gone(t) || r.down(t) {
		r.res.Delete = append(r.res.Delete, t.ID)
	} else if t.Desired != stack.DesiredRemove {
		r.change(t, func(t *stack.Task) { t.Desired = stack.DesiredRemove })
	}
}

// down reports whether a task's node is not heard of.
func (r *round) down(t *stack.Task) bool {
	n := r.node(t.Node)
	return n != nil && n.Down
}

// runs is up for tasks whose nodes can say so.
func (r *round) runs(t *stack.Task) bool {
	n := r.node(t.Node)
	return n != nil && !n.Down && up(t)
}

// leaseEnded reports whether a node that is lost or gone has certainly stopped
// what may run only once.
func (r *round) leaseEnded(s *service, node string) bool {
	return !s.Spec.Exclusive || r.in.LeaseEnded == nil || r.in.LeaseEnded(node)
}

// again asks for another look at a time.
func (r *round) again(at int64) {
	if r.res.Again == 0 || at < r.res.Again {
		r.res.Again = at
	}
}

// change changes a task; several changes of a round become one.
func (r *round) change(t *stack.Task, f func(*stack.Task)) { f(&r.changeOf(t).Task) }

func (r *round) changeOf(t *stack.Task) *Change {
	i, ok := r.changed[t]
	if !ok {
		i = len(r.res.Changes)
		r.changed[t] = i
		r.res.Changes = append(r.res.Changes, Change{Task: *t})
	}
	return &r.res.Changes[i]
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

// leaving reports whether no task of s is wanted at all.
func (s *service) leaving() bool { return s.Removing || s.Desired == stack.DesiredRemove }

// down reports whether s is wanted not to run.
func (s *service) down() bool { return s.leaving() || s.Desired == stack.DesiredStop }

// filling reports whether tasks of s are made.
func (s *service) filling() bool {
	return !s.Removing && (s.Desired == stack.DesiredRun || s.Desired == stack.DesiredCreate)
}
