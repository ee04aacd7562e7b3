package loop

import (
	"context"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/schedule"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// Config is what a Loop works on. Store, Propose and NewID are required.
type Config struct {
	Store      *state.Store
	Propose    func(ctx context.Context, changes []state.Change) (uint64, error) // returns when the command is applied to Store
	NewID      func() string                                                     // of tasks
	Inventory  Inventory                                                         // nil: nothing is known of what nodes have
	LeaseEnded func(node string) bool                                            // nil: as reconcile.Input
	DrainGrace time.Duration                                                     // as reconcile.Input
	Books      *address.Books                                                    // nil: the loop's own
}

// Inventory tells what nodes have.
type Inventory interface {
	// Inventory returns the images of a node (IDs and references), its volumes by
	// name, and a number that changes with them; 0: nothing is known.
	Inventory(node string) (images, volumes []string, version uint64)
	// Changed is closed when a node has something else than when it was asked for.
	Changed() <-chan struct{}
}

// Loop is the leader's deciding: each Round follows what changed in the state,
// looks at the stacks that this concerns and proposes what is to be done. What
// it remembers can be lost at any time: a new Loop looks at every stack. It is
// used by one goroutine at a time.
//
// The price of a round is that of the stacks looked at, never that of the cluster.
type Loop struct {
	cfg  Config
	view view
	due  queue
	// Stacks that something else than a change of theirs can help.
	pending map[string]bool // with tasks that fit nowhere now
	global  map[string]bool // with a service that has a task on each node
	stats   Stats
}

// Stats counts what a Loop has done.
type Stats struct {
	Looks    int // at stacks
	Visited  int // tasks of those
	Placed   int // tasks
	Refused  int // placements, each time that one was tried
	Changes  int // stored
	Commands int
}

// Stats returns what was done so far.
func (l *Loop) Stats() Stats { return l.stats }

// New starts from nothing but the store.
func New(cfg Config) *Loop {
	if cfg.Books == nil {
		cfg.Books = address.New()
	}
	return &Loop{cfg: cfg, view: view{books: cfg.Books}, due: newQueue(), pending: map[string]bool{}, global: map[string]bool{}}
}

// What one round and one command are bounded by. A command is one entry of the
// log: it must travel to the other managers within a heartbeat.
const (
	commandChanges = 2000
	commandBytes   = 1 << 20 // estimated
	roundChanges   = 10 * commandChanges
	roundVisits    = 200_000 // tasks looked at
)

// Round decides for the stacks that are due and returns when to come again
// without a change of the state or of what nodes have; zero: not needed.
func (l *Loop) Round(ctx context.Context, now time.Time) (time.Time, error) {
	l.follow(now)
	b := &batch{loop: l}
	start := l.stats
	for l.stats.Visited-start.Visited < roundVisits && l.stats.Changes-start.Changes+len(b.changes) < roundChanges {
		name, ok := l.due.next(now)
		if !ok {
			break
		}
		if err := l.look(ctx, name, now, b); err != nil {
			l.due.add(name)
			return time.Time{}, err
		}
	}
	if err := b.flush(ctx); err != nil {
		return time.Time{}, err
	}
	next := l.due.wake(now)
	if l.cfg.Inventory != nil && l.view.stale() && len(l.pending) > 0 {
		if look := l.view.asked.Add(inventoryWanted); next.IsZero() || look.Before(next) {
			next = look
		}
	}
	return next, nil
}

// look decides about one stack and puts what is to be done into b.
func (l *Loop) look(ctx context.Context, name string, now time.Time, b *batch) error {
	s := l.view.snap.Stack(name)
	if s == nil {
		l.forget(name)
		return nil
	}
	d := decide(&l.view, s, now, &l.cfg)
	l.stats.Looks++
	l.stats.Visited += d.visited
	l.due.looked(name, now, d.visited)
	if d.again != 0 {
		l.due.at(name, time.Unix(0, d.again))
	}
	mark(l.global, name, d.global)
	p := placer{view: &l.view, stack: s, decision: d, now: now, newID: l.cfg.NewID, failures: map[string]map[string]int{}, given: map[string]error{}}
	d.first = append(p.give(d.services), d.first...)
	whole, err := b.put(ctx, d, &p)
	l.stats.Placed += p.placed
	l.stats.Refused += p.refused
	mark(l.pending, name, p.refused > 0)
	if !whole || err != nil {
		l.due.add(name)
	}
	return err
}

func (l *Loop) forget(name string) {
	l.due.forget(name)
	delete(l.pending, name)
	delete(l.global, name)
}

func mark(set map[string]bool, name string, in bool) {
	if in {
		set[name] = true
		return
	}
	delete(set, name)
}

// follow brings the view up to the state and notes which stacks that concerns.
func (l *Loop) follow(now time.Time) {
	touched, known := l.view.follow(l.cfg.Store)
	if !known {
		l.due = newQueue()
		l.view.inventory(l.cfg.Inventory, now, true)
		for _, s := range l.view.snap.Stacks() {
			l.due.add(s.Name)
		}
		return
	}
	room := false // for tasks that wait
	for _, name := range touched.stacks {
		l.due.add(name)
	}
	for _, node := range touched.nodes {
		for _, t := range l.view.snap.NodeTasks(node) {
			l.due.add(t.Stack)
		}
		for _, name := range sortedKeys(l.global) {
			l.due.add(name)
		}
		room = true
	}
	if l.view.inventory(l.cfg.Inventory, now, len(l.pending) > 0) || touched.freed || room {
		for _, name := range sortedKeys(l.pending) {
			l.due.soon(name, now, room)
		}
	}
}

// filters are read once for the many nodes of a global service.
type filters map[*stack.Service]*schedule.Filter

func (f filters) fits(s *stack.Service, n *stack.Node) bool {
	if f[s] == nil {
		f[s] = schedule.NewFilter(s)
	}
	return f[s].Miss(n) == ""
}
