package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dhow-project/dhow/cluster/address"
	"github.com/dhow-project/dhow/cluster/loop"
	"github.com/dhow-project/dhow/cluster/state"
	"github.com/dhow-project/dhow/stack"
)

// World is a cluster: one leader and its state, and agents. Time stands still
// but between steps.
type World struct {
	Store  *state.Store
	Loop   *loop.Loop
	Books  *address.Books // of Loop
	Now    time.Time
	Agents map[string]*Agent

	// Refuse fails a proposal of the loop, before or after it is applied; nil: none.
	Refuse func() (before, after error)
	// Seen is told of each command of the loop before it is applied; nil: nobody.
	Seen func([]state.Change)
	// Follower is fed all commands too, as another manager; nil: there is none.
	Follower *state.Store

	rng    *rand.Rand
	index  uint64
	ids    int
	wake   time.Time // of the loop; zero: when somebody else stores something
	unseen int       // reports that the loop has not followed
	told   uint64    // index up to which agents know
	events calendar

	Times Times
}

// Times is the real time spent, by what for.
type Times struct {
	Decide  time.Duration // rounds, without what they store
	Store   time.Duration // commands of the loop: encode, decode, apply
	Reports time.Duration // commands of agents and persons
	Rounds  int
}

// Start of virtual time.
var Start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// NewWorld returns a world without nodes.
func NewWorld(seed uint64) *World {
	w := &World{
		Store: state.New(), Now: Start, Agents: map[string]*Agent{},
		rng: rand.New(rand.NewPCG(seed, 1)), events: newCalendar(),
	}
	w.Elect()
	return w
}

// Elect gives the cluster a leader that knows nothing but the state.
func (w *World) Elect() {
	w.Books = address.New()
	w.Loop = loop.New(loop.Config{Store: w.Store, Propose: w.decided, NewID: w.newID, LeaseEnded: w.leaseEnded, Books: w.Books})
	w.wake = w.Now
}

// newID is unlike the one before, as real ones are, and the same in each run.
func (w *World) newID() string {
	w.ids++
	return fmt.Sprintf("%016x%09d", uint64(w.ids)*0x9E3779B97F4A7C15, w.ids)
}

func (w *World) leaseEnded(node string) bool {
	a := w.Agents[node]
	return a == nil || a.leaseEnd.Before(w.Now)
}

// Propose stores a command as persons and agents do. It wakes the loop, as the
// store does it for a leader: nothing else may come for a long time.
func (w *World) Propose(changes ...state.Change) error {
	began := time.Now()
	defer func() { w.Times.Reports += time.Since(began) }()
	if w.wake.IsZero() || w.wake.After(w.Now) {
		w.wake = w.Now
	}
	return w.apply(changes)
}

func (w *World) decided(_ context.Context, changes []state.Change) (uint64, error) {
	began := time.Now()
	defer func() { w.Times.Store += time.Since(began) }()
	var before, after error
	if w.Refuse != nil {
		before, after = w.Refuse()
	}
	if before != nil {
		return 0, before
	}
	if w.Seen != nil {
		w.Seen(changes)
	}
	return w.index, errors.Join(w.apply(changes), after)
}

func (w *World) apply(changes []state.Change) error {
	data, err := state.Command{Time: w.Now.UnixNano(), Changes: changes}.Encode()
	if err != nil {
		return err
	}
	w.index++
	for _, s := range []*state.Store{w.Store, w.Follower} {
		if s == nil {
			continue
		}
		c, err := state.Decode(data)
		if err == nil {
			err = s.Apply(w.index, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddNode makes a node and its agent.
func (w *World) AddNode(n stack.Node) error {
	w.Agents[n.ID] = &Agent{node: n.ID, leaseEnd: w.Now, containers: map[string]*container{}}
	return w.Propose(state.Change{Node: &n})
}

// Decide runs the loop until nothing is left to decide at this moment.
func (w *World) Decide() error {
	for {
		at := w.index
		began, stored := time.Now(), w.Times.Store
		next, err := w.Loop.Round(context.Background(), w.Now)
		w.Times.Decide += time.Since(began) - (w.Times.Store - stored)
		w.Times.Rounds++
		if err != nil {
			w.wake = w.Now.Add(50 * time.Millisecond)
			return err
		}
		w.wake = next
		if w.index == at && (next.IsZero() || next.After(w.Now)) {
			return nil
		}
	}
}

// Step lets the agents see what was decided, goes on to the next moment at which
// something happens, and lets it happen. False: nothing will, before until.
func (w *World) Step(until time.Time) (bool, error) {
	w.tell()
	next := w.events.first()
	if !w.wake.IsZero() && (next.IsZero() || w.wake.Before(next)) {
		next = w.wake
	}
	if next.IsZero() || next.After(until) {
		w.Now = until
		return false, nil
	}
	if next.After(w.Now) {
		w.Now = next
	}
	if err := w.happen(); err != nil {
		return false, err
	}
	return true, w.Decide()
}

// Run steps until nothing happens any more, for at most a virtual time.
func (w *World) Run(d time.Duration) error {
	until := w.Now.Add(d)
	if err := w.Decide(); err != nil {
		return err
	}
	for {
		more, err := w.Step(until)
		if err != nil || !more {
			return err
		}
	}
}

// reportBatch is how many reports share a command, as when many agents speak at once.
const reportBatch = 1000

// decideAfter is how many reports at one moment the loop is behind at most: it
// runs beside them.
const decideAfter = 10_000

// happen lets the agents do what is due and report it.
func (w *World) happen() error {
	var changes []state.Change
	for _, e := range w.events.take(w.Now) {
		a := w.Agents[e.node]
		if a == nil || !a.act(e) {
			continue
		}
		c := a.containers[e.task]
		if c.unsaid = a.cut; a.cut {
			continue
		}
		changes = append(changes, state.Change{Status: &state.Status{Task: e.task, Status: c.status(w.Now)}})
		if c.state == stack.TaskRemoved {
			delete(a.containers, e.task)
		}
		if len(changes) == reportBatch {
			if err := w.Propose(changes...); err != nil {
				return err
			}
			changes = nil
			if w.unseen += reportBatch; w.unseen < decideAfter {
				continue
			}
			w.unseen = 0
			if err := w.Decide(); err != nil {
				return err
			}
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return w.Propose(changes...)
}

// tell lets agents know of their tasks.
func (w *World) tell() {
	touched, now, known := w.Store.Since(w.told)
	snap := w.Store.Snapshot()
	w.told = now
	if !known {
		for _, id := range sortedKeys(w.Agents) {
			w.resync(id)
		}
		return
	}
	for i := range touched {
		t := &touched[i]
		if a := w.Agents[t.Node]; t.Table == state.TableTask && a != nil && !a.cut && !a.dead {
			a.see(w, t.Key, snap.Task(t.Key))
		}
	}
}

// resync tells a node all that is wanted of it, as after a new session.
func (w *World) resync(node string) {
	a := w.Agents[node]
	if a.cut || a.dead {
		return
	}
	wanted := map[string]bool{}
	for _, t := range w.Store.Snapshot().NodeTasks(node) {
		wanted[t.ID] = true
		a.see(w, t.ID, t)
	}
	for _, id := range sortedKeys(a.containers) {
		if !wanted[id] {
			a.see(w, id, nil)
		}
	}
}
